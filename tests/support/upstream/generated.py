"""Answers that are computed from the request, for tests that have no recording: an echo with usage.

Deterministic except for the response id, so that a client can compute what it must get: `expected_text`,
`expected_usage`, `resolved_model`. None of it is recorded traffic.

Wishes of the request (see `Received.wish`): `blocks` (delta blocks of a stream, default 5), `delay_ms` (between
blocks), `tier` (the tier served), `answer_bytes` (length of the text, by repetition).
"""

import json
from typing import Any

from tests.support.upstream.framing import JSON_TYPE, SSE_TYPE, plain, stream
from tests.support.upstream.requests import Json, Received
from tests.support.upstream.steps import Answer, Header

SNAPSHOTS = {"gpt-4o": "gpt-4o-2024-08-06", "gpt-4o-mini": "gpt-4o-mini-2024-07-18", "gpt-5": "gpt-5-2025-08-07"}
CREATED_AT = 1763800000
DEFAULT_BLOCKS = 5


def resolved_model(model: object) -> str:
    """The snapshot that a model name stands for."""
    name = str(model or "gpt-4o")
    return SNAPSHOTS.get(name, name)


def _texts(value: Any) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, list):
        return [text for item in value for text in _texts(item)]
    if isinstance(value, dict):
        return _texts(value.get("text")) + _texts(value.get("content"))
    return []


def expected_text(request: Json, answer_bytes: int | None = None) -> str:
    """The text of the answer to this request: an echo of its input, repeated or cut to `answer_bytes` where given."""
    text = "echo: " + " ".join(_texts(request.get("input")))
    return text if answer_bytes is None else (text * (answer_bytes // len(text) + 1))[:answer_bytes]


def expected_usage(request: Json, text: str) -> Json:
    """The usage of the answer.

    One input token a character of the input, a quarter of them cached; one output token a character of the text, every
    tenth of them reasoning.
    """
    input_tokens = len(" ".join(_texts(request.get("input"))))
    output_tokens = len(text)
    return {
        "input_tokens": input_tokens,
        "input_tokens_details": {"cached_tokens": input_tokens // 4},
        "output_tokens": output_tokens,
        "output_tokens_details": {"reasoning_tokens": output_tokens // 10},
        "total_tokens": input_tokens + output_tokens,
    }


def message(text: str, status: str) -> Json:
    """An output item with this text."""
    content = [{"type": "output_text", "annotations": [], "logprobs": [], "text": text}] if text else []
    return {"id": "msg_generated", "type": "message", "status": status, "content": content, "role": "assistant"}


def response(request: Json, response_id: str, *, status: str, text: str = "", tier: str = "default") -> Json:
    """A Response object in that status; usage and the served tier are known only in a terminal one."""
    terminal = status in {"completed", "incomplete"}
    return {
        "id": response_id,
        "object": "response",
        "created_at": CREATED_AT,
        "status": status,
        "background": False,
        "error": {"code": "server_error", "message": "The model failed."} if status == "failed" else None,
        "incomplete_details": {"reason": "max_output_tokens"} if status == "incomplete" else None,
        "instructions": request.get("instructions"),
        "model": resolved_model(request.get("model")),
        "output": [message(text, status)] if terminal else [],
        "parallel_tool_calls": True,
        "previous_response_id": request.get("previous_response_id"),
        "reasoning": {"effort": None, "summary": None},
        "service_tier": tier if terminal else "auto",
        "store": request.get("store", True),
        "temperature": 1.0,
        "text": {"format": {"type": "text"}},
        "tool_choice": "auto",
        "tools": request.get("tools", []),
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": expected_usage(request, text) if terminal else None,
        "user": request.get("user"),
        "metadata": request.get("metadata") or {},
    }


def sse(kind: str, sequence_number: int | None, **fields: Any) -> bytes:
    """One SSE block as OpenAI frames it; without a sequence number when that is None."""
    number = {} if sequence_number is None else {"sequence_number": sequence_number}
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **number, **fields}, separators=(',', ':'))}\n\n".encode()


def slices(text: str, count: int) -> list[str]:
    """`text` in `count` parts of about the same length, some empty where it is shorter."""
    return [text[len(text) * i // count : len(text) * (i + 1) // count] for i in range(count)]


def blocks(
    request: Json, response_id: str, text: str, *, deltas: int, tier: str = "default", status: str = "completed"
) -> list[bytes]:
    """The blocks of a whole stream: 4 before the deltas, 4 after them, the terminal one last."""
    where: Json = {"item_id": "msg_generated", "output_index": 0, "content_index": 0}
    part: Json = {"type": "output_text", "annotations": [], "logprobs": []}
    started = response(request, response_id, status="in_progress")
    n = 4 + deltas
    return [
        sse("response.created", 0, response=started),
        sse("response.in_progress", 1, response=started),
        sse("response.output_item.added", 2, output_index=0, item=message("", "in_progress")),
        sse("response.content_part.added", 3, **where, part={**part, "text": ""}),
        *(
            sse("response.output_text.delta", 4 + i, **where, delta=piece, logprobs=[], obfuscation="x" * (i % 7))
            for i, piece in enumerate(slices(text, deltas))
        ),
        sse("response.output_text.done", n, **where, text=text, logprobs=[]),
        sse("response.content_part.done", n + 1, **where, part={**part, "text": text}),
        sse("response.output_item.done", n + 2, output_index=0, item=message(text, "completed")),
        sse(
            f"response.{status}",
            n + 3,
            response=response(request, response_id, status=status, text=text, tier=tier),
        ),
    ]


def openai_headers(received: Received) -> tuple[Header, ...]:
    """What OpenAI sends with every answer, and `x-seen-sha256`: the hash of the body that this upstream received."""
    return (
        ("openai-version", "2020-10-01"),
        ("openai-processing-ms", "12"),
        ("x-request-id", f"req_{received.serial:032x}"),
        ("x-ratelimit-remaining-requests", "9999"),
        ("x-ratelimit-reset-requests", "6ms"),
        ("x-seen-sha256", received.sha256),
        ("set-cookie", "__cf_bm=stand-in; path=/; HttpOnly; Secure"),
    )


def wished_text(received: Received) -> str:
    """The text for this request, its wish for a length heard."""
    wish = received.wish("answer_bytes")
    return expected_text(received.json, int(wish) if wish else None)


def wished_blocks(received: Received, response_id: str, *, status: str = "completed") -> list[bytes]:
    """The blocks for this request, its wishes heard."""
    deltas = int(received.wish("blocks") or DEFAULT_BLOCKS)
    tier = received.wish("tier") or "default"
    return blocks(received.json, response_id, wished_text(received), deltas=deltas, tier=tier, status=status)


def generated(received: Received, response_id: str) -> Answer:
    """The echo: a stream where the request asks for one, else plain."""
    if received.json.get("stream") is True:
        pause_s = float(received.wish("delay_ms") or 0) / 1000
        body = b"".join(wished_blocks(received, response_id))
        headers = (SSE_TYPE, *openai_headers(received))
        return stream(body, headers=headers, pause_s=pause_s, name="generated")
    tier = received.wish("tier") or "default"
    answer = response(received.json, response_id, status="completed", text=wished_text(received), tier=tier)
    body = json.dumps(answer, indent=2).encode()
    return plain(body, headers=(JSON_TYPE, *openai_headers(received)), name="generated")
