"""The rest of the API below `/responses`, as a proxy passes it on: retrieve, delete, cancel, input tokens, compact.

Only what was generated here can be retrieved. `server` asks this module when nothing was scripted.
"""

import json
from collections import OrderedDict
from collections.abc import Callable

from tests.support.upstream.framing import JSON_TYPE, SSE_TYPE, plain, sse_blocks, stream
from tests.support.upstream.generated import expected_text, expected_usage, message, openai_headers
from tests.support.upstream.refusals import refusal
from tests.support.upstream.requests import Json, Received
from tests.support.upstream.steps import Answer

Script = Callable[[Received, str], Answer]
KEEP_RESPONSES = 10_000


class Stored:
    """The last responses that were generated, by id."""

    def __init__(self) -> None:
        self._answers: OrderedDict[str, Answer] = OrderedDict()

    def keep(self, response_id: str, answer: Answer) -> None:
        """Remember what was answered, where it is a response."""
        if answer.name == "generated":
            self._answers[response_id] = answer
            if len(self._answers) > KEEP_RESPONSES:
                self._answers.popitem(last=False)

    def script_for(self, received: Received) -> Script | None:
        """The script for a request that is not `POST /responses`, else None."""
        _, mark, below = received.path.partition("/responses")
        if received.path.endswith("/models"):
            return lambda r, _i: _ok(r, {"object": "list", "data": [{"id": "gpt-4o", "object": "model"}]})
        match received.method, below.strip("/").split("/") if mark else []:
            case "POST", [""]:
                return None
            case "POST", ["input_tokens" | "compact" as what]:
                return _count if what == "input_tokens" else _compact
            case "POST", [_, "cancel"]:
                return refusal(400, "Cannot cancel a synchronous response.")
            case "GET" | "DELETE", [response_id]:
                return self._by_id(received.method, response_id)
            case _:
                return refusal(404, f"Invalid URL ({received.method} {received.path})")

    def _by_id(self, method: str, response_id: str) -> Script:
        answer = self._answers.get(response_id)
        if answer is None:
            return refusal(404, f"Response with id '{response_id}' not found.")
        if method == "DELETE":
            del self._answers[response_id]
            return lambda r, _i: _ok(r, {"id": response_id, "object": "response.deleted", "deleted": True})
        return lambda r, _i: _retrieved(r, answer)


def _ok(received: Received, value: Json) -> Answer:
    return plain(json.dumps(value).encode(), headers=(JSON_TYPE, *openai_headers(received)), name="stored")


def _retrieved(received: Received, answer: Answer) -> Answer:
    """The stored response, as JSON or, with `stream=true`, as events after `starting_after`."""
    blocks = sse_blocks(answer.body) if SSE_TYPE in answer.headers else []
    if blocks and "stream=true" in received.target:
        _, mark, after = received.target.partition("starting_after=")
        first = int(after.partition("&")[0]) + 1 if mark else 0
        return stream(b"".join(blocks[first:]), headers=(SSE_TYPE, *openai_headers(received)), name="stored")
    if blocks:
        return _ok(received, json.loads(blocks[-1].partition(b"\ndata: ")[2])["response"])
    return _ok(received, json.loads(answer.body))


def _count(received: Received, response_id: str) -> Answer:
    del response_id
    tokens = expected_usage(received.json, "")["input_tokens"]
    return _ok(received, {"object": "response.input_tokens", "input_tokens": tokens})


def _compact(received: Received, response_id: str) -> Answer:
    """A compaction: has usage, but neither model nor tier."""
    text = expected_text(received.json)
    usage = expected_usage(received.json, text)
    value = {
        "id": response_id,
        "object": "response.compaction",
        "created_at": 0,
        "output": [message(text, "completed")],
    }
    return _ok(received, value | {"usage": usage})
