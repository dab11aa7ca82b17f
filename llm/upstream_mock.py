"""An upstream that answers by itself: for `mock_response` deployments, without network, in the upstream's own format.

Usage is counted roughly (four characters a token) and said as the upstream's; a mock's price is that of the model whose
name it bears, so that reports can be tried out.
"""

import json
import re
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any, Final

from uuid_utils.compat import uuid7

from llm.json_spans import scan_object
from llm.json_text import JsonError
from llm.upstream import Headers, UpstreamAnswer, UpstreamRequest

_CHARS_PER_TOKEN: Final = 4
_ONE: Final = re.compile(r"/responses/[^/]+")
_JSON: Final[Headers] = [("content-type", "application/json")]
_SSE: Final[Headers] = [("content-type", "text/event-stream; charset=utf-8")]
_ECHOED: Final = (
    "instructions", "max_output_tokens", "previous_response_id", "temperature", "text", "tool_choice", "tools", "top_p",
    "truncation", "user", "metadata", "safety_identifier", "prompt_cache_key",
)  # fmt: skip


class _Answer:
    def __init__(self, status: int, headers: Headers, pieces: list[bytes]) -> None:
        self.status = status
        self.headers = headers
        self._pieces = pieces

    async def pieces(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece

    async def aclose(self) -> None:
        self._pieces = []


class MockUpstream:
    """Answers `POST /responses` and `DELETE /responses/{id}`; every other path is a 404 in OpenAI's shape."""

    async def send(self, request: UpstreamRequest) -> UpstreamAnswer:
        """Answer at once."""
        headers = [("x-request-id", f"req_mock_{uuid7().hex}"), ("openai-processing-ms", "0")]
        if request.method in {"GET", "DELETE"} and _ONE.fullmatch(request.path):
            return _of_stored(request, headers)
        if request.method != "POST" or request.path != "/responses":
            served = f"{request.method} {request.path}"
            message = f"The mock deployment of {request.deployment.model_name} does not serve {served}."
            error = {"message": message, "type": "invalid_request_error", "param": None, "code": "not_found"}
            return _Answer(404, [*_JSON, *headers], [json.dumps({"error": error}).encode()])
        asked = _read(request.body)
        response = _response(request, asked)
        if request.is_stream:
            return _Answer(200, [*_SSE, *headers], list(_events(response)))
        return _Answer(200, [*_JSON, *headers], [json.dumps(response, indent=2).encode()])

    async def aclose(self) -> None:
        """Nothing to close."""


def _of_stored(request: UpstreamRequest, headers: Headers) -> UpstreamAnswer:
    """Answer as an upstream that keeps nothing: what was answered is in the book, a deletion is noted there."""
    response_id = request.path.rpartition("/")[2]
    if request.method == "DELETE":
        answer = {"id": response_id, "object": "response", "deleted": True}
        return _Answer(200, [*_JSON, *headers], [json.dumps(answer).encode()])
    message = f"Response with id '{response_id}' not found."
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": None}
    return _Answer(404, [*_JSON, *headers], [json.dumps({"error": error}).encode()])


def _read(body: bytes) -> dict[str, Any]:
    try:
        members = scan_object(body)
        return {name: members.get(name) for name in members.names()}
    except JsonError:
        return {}


def _response(request: UpstreamRequest, asked: dict[str, Any]) -> dict[str, Any]:
    text = request.deployment.mock_response or ""
    now = int(time.time())
    input_tokens = _tokens(json.dumps([asked.get("instructions"), asked.get("input")]))
    output_tokens = _tokens(text)
    message = {
        "id": f"msg_mock_{uuid7().hex}",
        "type": "message",
        "status": "completed",
        "role": "assistant",
        "content": [{"type": "output_text", "annotations": [], "logprobs": [], "text": text}],
    }
    return {
        "id": f"resp_mock_{uuid7().hex}",
        "object": "response",
        "created_at": now,
        "completed_at": now,
        "status": "completed",
        "background": False,
        "error": None,
        "incomplete_details": None,
        "model": request.deployment.upstream_model,
        "output": [message],
        "parallel_tool_calls": True,
        "service_tier": "default",
        "store": False,
        "tool_choice": "auto",
        "tools": [],
        "metadata": {},
        "usage": {
            "input_tokens": input_tokens,
            "input_tokens_details": {"cached_tokens": 0},
            "output_tokens": output_tokens,
            "output_tokens_details": {"reasoning_tokens": 0},
            "total_tokens": input_tokens + output_tokens,
        },
        **{name: asked[name] for name in _ECHOED if asked.get(name) is not None},
    }


def _tokens(text: str) -> int:
    return max(1, -(-len(text) // _CHARS_PER_TOKEN))


def _events(response: dict[str, Any]) -> Iterator[bytes]:
    message: dict[str, Any] = response["output"][0]
    part: dict[str, Any] = message["content"][0]
    begun = {
        **response,
        "status": "in_progress",
        "output": [],
        "usage": None,
        "completed_at": None,
        "service_tier": "auto",
    }
    at = {"item_id": message["id"], "output_index": 0, "content_index": 0}
    words = part["text"].split(" ")
    yield_these: list[tuple[str, dict[str, Any]]] = [
        ("response.created", {"response": begun}),
        ("response.in_progress", {"response": begun}),
        (
            "response.output_item.added",
            {"output_index": 0, "item": {**message, "status": "in_progress", "content": []}},
        ),
        ("response.content_part.added", {**at, "part": {**part, "text": ""}}),
        *(
            ("response.output_text.delta", {**at, "delta": word if number == 0 else f" {word}", "logprobs": []})
            for number, word in enumerate(words)
        ),
        ("response.output_text.done", {**at, "text": part["text"], "logprobs": []}),
        ("response.content_part.done", {**at, "part": part}),
        ("response.output_item.done", {"output_index": 0, "item": message}),
        ("response.completed", {"response": response}),
    ]
    for number, (kind, facts) in enumerate(yield_these):
        event = json.dumps({"type": kind, "sequence_number": number, **facts}, separators=(",", ":"))
        yield f"event: {kind}\ndata: {event}\n\n".encode()
