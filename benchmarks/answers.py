"""The bytes that the stand-in upstream of the benchmarks answers with, prebuilt.

One plain answer of about 1.9 KB and one stream of 100 blocks whose sizes are those of recorded OpenAI streams (most
`response.output_text.delta` blocks are 240 to 260 bytes, obfuscation included). Only the response id differs from
call to call, because a ledger may tell calls apart by it. `upstream` serves them.
"""

import json
from dataclasses import dataclass
from typing import Any

ID_MARK = "resp_@@@@"
INPUT_TOKENS = 40
CACHED_TOKENS = 8
OUTPUT_TOKENS = 96
BLOCKS_BEFORE_TEXT = 4
BLOCKS_AFTER_TEXT = 4


def _usage() -> dict[str, Any]:
    return {
        "input_tokens": INPUT_TOKENS,
        "input_tokens_details": {"cached_tokens": CACHED_TOKENS},
        "output_tokens": OUTPUT_TOKENS,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": INPUT_TOKENS + OUTPUT_TOKENS,
    }


def _item(text: str, status: str) -> dict[str, Any]:
    content = [{"type": "output_text", "annotations": [], "logprobs": [], "text": text}] if text else []
    return {
        "id": "msg_68af4030592c81938ec0a5fbab4a3e9f",
        "type": "message",
        "status": status,
        "content": content,
        "role": "assistant",
    }


def _response(status: str, output: list[dict[str, Any]]) -> dict[str, Any]:
    done = status == "completed"
    return {
        "id": ID_MARK,
        "object": "response",
        "created_at": 1763800000,
        "status": status,
        "background": False,
        "billing": {"payer": "developer"},
        "error": None,
        "incomplete_details": None,
        "instructions": None,
        "max_output_tokens": None,
        "max_tool_calls": None,
        "model": "gpt-4o-2024-08-06",
        "output": output,
        "parallel_tool_calls": True,
        "previous_response_id": None,
        "prompt_cache_key": None,
        "reasoning": {"effort": None, "summary": None},
        "safety_identifier": None,
        "service_tier": "default" if done else "auto",
        "store": True,
        "temperature": 1.0,
        "text": {"format": {"type": "text"}, "verbosity": "medium"},
        "tool_choice": "auto",
        "tools": [],
        "top_logprobs": 0,
        "top_p": 1.0,
        "truncation": "disabled",
        "usage": _usage() if done else None,
        "user": None,
        "metadata": {},
    }


def _block(kind: str, sequence_number: int, **fields: Any) -> bytes:
    event = {"type": kind, "sequence_number": sequence_number, **fields}
    return f"event: {kind}\ndata: {json.dumps(event, separators=(',', ':'))}\n\n".encode()


def stream_blocks(count: int) -> list[bytes]:
    """The `count` blocks of one stream, the terminal one last; `count` is at least 9."""
    if count <= BLOCKS_BEFORE_TEXT + BLOCKS_AFTER_TEXT:
        raise ValueError(f"a stream of {count} blocks is too short: its frame alone takes 8 and needs a delta in it")
    deltas = count - BLOCKS_BEFORE_TEXT - BLOCKS_AFTER_TEXT
    text = " lorem" * deltas
    where: dict[str, Any] = {"item_id": "msg_68af4030592c81938ec0a5fbab4a3e9f", "output_index": 0, "content_index": 0}
    part = {"type": "output_text", "annotations": [], "logprobs": [], "text": ""}
    blocks = [
        _block("response.created", 0, response=_response("in_progress", [])),
        _block("response.in_progress", 1, response=_response("in_progress", [])),
        _block("response.output_item.added", 2, output_index=0, item=_item("", "in_progress")),
        _block("response.content_part.added", 3, **where, part=part),
    ]
    blocks += [
        _block(
            "response.output_text.delta",
            4 + i,
            **where,
            delta=" lorem",
            logprobs=[],
            obfuscation="qZ3xW8vB1n"[: 4 + i % 7],
        )
        for i in range(deltas)
    ]
    n = len(blocks)
    blocks += [
        _block("response.output_text.done", n, **where, text=text, logprobs=[]),
        _block("response.content_part.done", n + 1, **where, part={**part, "text": text}),
        _block("response.output_item.done", n + 2, output_index=0, item=_item(text, "completed")),
        _block("response.completed", n + 3, response=_response("completed", [_item(text, "completed")])),
    ]
    return blocks


@dataclass(frozen=True)
class Template:
    """Bytes with holes for the response id, which always has the same length."""

    parts: tuple[bytes, ...]

    @classmethod
    def of(cls, text: bytes) -> "Template":
        """Split at every mark."""
        return cls(tuple(text.split(ID_MARK.encode())))

    def filled(self, response_id: bytes) -> bytes:
        """The bytes with the id in every hole."""
        return response_id.join(self.parts)


def response_id(serial: int) -> bytes:
    """An id as long as OpenAI's for the call with this serial number."""
    return b"resp_%048x" % serial


COMMON_HEADERS = (
    b"openai-version: 2020-10-01\r\nopenai-processing-ms: 12\r\nx-request-id: req_00000000000000000000000000000000\r\n"
    b"x-ratelimit-remaining-requests: 9999\r\n"
)


def plain_template() -> Template:
    """Head and body of the plain answer."""
    item = _item("The river kept its own ledger, and every stone it moved was an entry. " * 4, "completed")
    body = json.dumps(_response("completed", [item]), indent=2).encode()
    length = len(Template.of(body).filled(response_id(0)))
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
        + COMMON_HEADERS
        + b"content-length: %d\r\n\r\n" % length
    )
    return Template.of(head + body)


def stream_templates(count: int, writes: int) -> list[Template]:
    """Head and blocks of the streamed answer, one HTTP chunk a block, spread over `writes` pieces of as many blocks."""
    head = (
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
        + COMMON_HEADERS
        + b"transfer-encoding: chunked\r\n\r\n"
    )
    framed: list[bytes] = []
    for block in stream_blocks(count):
        size = len(Template.of(block).filled(response_id(0)))
        framed.append(b"%x\r\n" % size + block + b"\r\n")
    pieces = [b"".join(framed[len(framed) * i // writes : len(framed) * (i + 1) // writes]) for i in range(writes)]
    pieces[0] = head + pieces[0]
    pieces[-1] += b"0\r\n\r\n"
    return [Template.of(piece) for piece in pieces]
