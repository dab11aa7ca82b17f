"""Calls the proxy with the OpenAI SDK: for an end user, with tags, and with what the proxy says of the call.

Needs `pip install openai`; LLM_MASTER_KEY (or a virtual key) in the environment, and the proxy at LLM_URL.
"""

import os

from openai import BadRequestError, OpenAI

client = OpenAI(
    base_url=os.environ.get("LLM_URL", "http://127.0.0.1:4000") + "/v1",
    api_key=os.environ["LLM_MASTER_KEY"],
    default_headers={"x-llm-tags": "example,sdk"},
)

# Plain, with the headers: the call's id in the book, and what it cost.
raw = client.responses.with_raw_response.create(model="gpt-4o", input="Hello", user="alice")
print(raw.parse().output_text)
print(f"call {raw.headers['x-llm-call-id']} cost {raw.headers['x-llm-response-cost']} USD")

# Streamed. What it cost is in the book when the stream has ended.
with client.responses.stream(model="gpt-4o", input="Tell me more", safety_identifier="bob") as stream:
    for event in stream:
        if event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)
    usage = stream.get_final_response().usage
    print(f"\n{usage.input_tokens if usage else '?'} tokens in, {usage.output_tokens if usage else '?'} out")

# A mistake is answered as OpenAI answers it.
try:
    client.responses.create(model="no-such-model", input="Hello")
except BadRequestError as error:
    print(f"{error.status_code} {error.code}")
