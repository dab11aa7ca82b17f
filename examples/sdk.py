"""Calls with the SDK: without network by a made-up answer, then through the proxy at LLM_URL.

Needs this package installed (in a checkout: PYTHONPATH=.), and LLM_MASTER_KEY (or a virtual key) in the environment.
Without `mock_response` the first call would go to OpenAI with OPENAI_API_KEY.
"""

import asyncio
import os

import openai

import llm

# Straight, by the engine in this process: what it costs is said with the answer.
response = llm.responses(model="gpt-4o", input="Hello", mock_response="Hello yourself")
print(f"{response.output_text}: {response.cost_usd} USD, {response.cost_state}")

# Through a proxy, which records and prices.
llm.configure(
    proxy=os.environ.get("LLM_URL", "http://127.0.0.1:4000"),
    api_key=os.environ["LLM_MASTER_KEY"],
    tags=["example", "sdk"],
)
response = llm.responses(model="gpt-4o", input="Hello", user="alice")
print(f"call {response.call_id} cost {response.cost_usd} USD")

with llm.responses(model="gpt-4o", input="Tell me more", stream=True) as stream:
    for event in stream:
        if event.type == "response.output_text.delta":
            print(event.delta, end="", flush=True)
print(f"\ncall {stream.call_id} cost {stream.cost_usd} USD")


async def together() -> None:
    """Make two calls at once."""
    both = await asyncio.gather(*(llm.aresponses(model="gpt-4o", input=name) for name in ("Ada", "Grace")))
    print(f"{len(both)} at once, {sum(each.cost_usd or 0 for each in both)} USD")


asyncio.run(together())

try:
    llm.responses(model="no-such-model", input="Hello")
except openai.BadRequestError as error:
    print(f"{error.status_code} {error.code}")
