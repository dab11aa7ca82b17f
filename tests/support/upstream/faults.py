"""Scripts by name for everything that goes wrong, or is merely unusual, between a proxy and its upstream.

A script is a function from the request and a fresh response id to an `Answer`. `SCRIPTS` holds all of them; a request
chooses by header, `metadata.script` or path. Errors of status and shape are in `refusals`.
"""

import gzip
import json
import zlib
from collections.abc import Callable

import brotli
import zstandard

from tests.support.upstream.framing import JSON_TYPE, SSE_TYPE, head, http_chunks, plain, stream
from tests.support.upstream.generated import (
    generated,
    openai_headers,
    response,
    sse,
    wished_blocks,
    wished_text,
)
from tests.support.upstream.oddities import ODDITIES
from tests.support.upstream.refusals import REFUSALS
from tests.support.upstream.requests import Received
from tests.support.upstream.steps import Answer, AwaitGate, Close, Pause, Reset, StayOpen, Step, Write

Script = Callable[[Received, str], Answer]
BIG_BLOCK_BYTES = 10 * 1024 * 1024
DRIP_PIECE_BYTES = 16
DRIP_PAUSE_S = 0.002


def _silent(*steps: Step) -> Script:
    return lambda _received, _response_id: Answer("", steps, keep_alive=False)


def _json_body(received: Received, response_id: str, status: str = "completed") -> bytes:
    return json.dumps(response(received.json, response_id, status=status, text=wished_text(received))).encode()


def _cut_plain(received: Received, response_id: str) -> Answer:
    """Content-length of the whole body, half of it, FIN."""
    body = _json_body(received, response_id)
    sent = (JSON_TYPE, *openai_headers(received), ("content-length", str(len(body))))
    half = body[: len(body) // 2]
    return Answer("", (Write(head(200, sent) + half), Pause(0.01), Close()), 200, sent, half, keep_alive=False)


def _cut_chunk(received: Received, response_id: str) -> Answer:
    """A stream that ends within an HTTP chunk, within a block."""
    body = b"".join(wished_blocks(received, response_id)[:6])
    sent = (SSE_TYPE, *openai_headers(received), ("transfer-encoding", "chunked"))
    wire = http_chunks([body])
    kept = len(body) - 40
    cut_wire = wire[: wire.index(b"\r\n") + 2 + kept]
    return Answer(
        "", (Write(head(200, sent) + cut_wire), Pause(0.01), Close()), 200, sent, body[:kept], keep_alive=False
    )


def _long_length(received: Received, response_id: str) -> Answer:
    """Content-length ten more than the body, then FIN."""
    body = _json_body(received, response_id)
    sent = (JSON_TYPE, ("content-length", str(len(body) + 10)))
    return Answer("", (Write(head(200, sent) + body), Pause(0.01), Close()), 200, sent, body, keep_alive=False)


def _short_length(received: Received, response_id: str) -> Answer:
    """Content-length ten less than the body: the rest is noise on the connection."""
    body = _json_body(received, response_id)
    sent = (JSON_TYPE, ("content-length", str(len(body) - 10)))
    return Answer("", (Write(head(200, sent) + body), Close()), 200, sent, body[:-10], keep_alive=False)


def _drip(received: Received, response_id: str) -> Answer:
    """A stream (plain: an answer) in tiny pieces."""
    if received.json.get("stream") is not True:
        body = _json_body(received, response_id)
        pieces = len(body) // DRIP_PIECE_BYTES + 1
        return plain(body, framing="chunked", seed=1, pieces=pieces, pause_s=DRIP_PAUSE_S)
    body = b"".join(wished_blocks(received, response_id))
    return stream(body, cuts=range(DRIP_PIECE_BYTES, len(body), DRIP_PIECE_BYTES), pause_s=DRIP_PAUSE_S)


def _gated(received: Received, response_id: str) -> Answer:
    """An answer whose second half waits for the gate `gate` (or the one wished for)."""
    whole = generated(received, response_id)
    half = max(len(whole.steps) // 2, 1)
    gate = AwaitGate(received.wish("gate") or "gate")
    first, rest = (whole.steps[:half], whole.steps[half:]) if len(whole.steps) > 1 else ((), whole.steps)
    return Answer("", (*first, gate, *rest), whole.status, whole.headers, whole.body)


def _streamed(edit: Callable[[list[bytes], Received, str], list[bytes]], ending: str = "complete") -> Script:
    """A stream with its blocks edited and, where not complete, its end broken."""

    def script(received: Received, response_id: str) -> Answer:
        body = b"".join(edit(wished_blocks(received, response_id), received, response_id))
        headers = (SSE_TYPE, *openai_headers(received))
        pause_s = float(received.wish("delay_ms") or 2) / 1000
        match ending:
            case "close" | "reset" | "stay_open":
                return stream(body, headers=headers, pause_s=pause_s, ending=ending)
            case _:
                return stream(body, headers=headers, pause_s=pause_s)

    return script


def _ending_as(status: str) -> Script:
    """A generated answer, plain or stream, whose terminal state is `status`."""

    def script(received: Received, response_id: str) -> Answer:
        if received.json.get("stream") is True:
            return stream(b"".join(wished_blocks(received, response_id, status=status)), pause_s=0.002)
        return plain(_json_body(received, response_id, status))

    return script


def _encoded(encoding: str, encode: Callable[[bytes], bytes]) -> Script:
    def script(received: Received, response_id: str) -> Answer:
        streaming = received.json.get("stream") is True
        body = b"".join(wished_blocks(received, response_id)) if streaming else _json_body(received, response_id)
        kind = SSE_TYPE if streaming else JSON_TYPE
        headers = (kind, *openai_headers(received), ("content-encoding", encoding))
        return plain(encode(body), headers=headers, framing="chunked", seed=received.serial)

    return script


def _error_event(*, nested: bool) -> bytes:
    detail = {"type": "server_error", "code": "server_error", "message": "The server had an error.", "param": None}
    return (
        sse("error", 5, error=detail) if nested else sse("error", 5, **{k: v for k, v in detail.items() if k != "type"})
    )


def _unnumbered(block: bytes) -> bytes:
    name, _, data = block.rstrip(b"\n").partition(b"\ndata: ")
    event = {k: v for k, v in json.loads(data).items() if k != "sequence_number"}
    return name + b"\ndata: " + json.dumps(event).encode() + b"\n\n"


def _failed(received: Received, response_id: str, number: int) -> bytes:
    return sse("response.failed", number, response=response(received.json, response_id, status="failed"))


_UNKNOWN = (
    b"event: response.novelty.delta\nid: 7\nretry: 100\n"
    b'data: {"type":"response.novelty.delta","new":{"a":[1e2,1.10]}}\n\n'
)
_BIG = sse("response.image_generation_call.partial_image", 4, partial_image_b64="A" * BIG_BLOCK_BYTES)

STREAM_SCRIPTS: dict[str, Script] = {
    "cut_stream": _streamed(lambda b, _r, _i: b[:6], "close"),
    "reset_stream": _streamed(lambda b, _r, _i: b[:6], "reset"),
    "stalled_stream": _streamed(lambda b, _r, _i: b[:6], "stay_open"),
    "no_terminal": _streamed(lambda b, _r, _i: b[:-1]),
    "cut_after_terminal": _streamed(lambda b, _r, _i: b, "close"),
    "stays_open": _streamed(lambda b, _r, _i: b, "stay_open"),
    "unterminated_rest": _streamed(lambda b, _r, _i: [*b[:-1], b[-1].rstrip(b"\n")]),
    "unnumbered": _streamed(lambda b, _r, _i: [_unnumbered(x) for x in b]),
    "error_nested": _streamed(lambda b, _r, _i: [*b[:5], _error_event(nested=True)]),
    "error_flat": _streamed(lambda b, _r, _i: [*b[:5], _error_event(nested=False)]),
    "error_not_last": _streamed(lambda b, r, i: [*b[:5], _error_event(nested=True), _failed(r, i, 6)]),
    "failed_stream": _streamed(lambda b, r, i: [*b[:3], _failed(r, i, 3)]),
    "done_marker": _streamed(lambda b, _r, _i: [*b, b"data: [DONE]\n\n"]),
    "pings": _streamed(lambda b, _r, _i: [x for block in b for x in (b": ping\n\n", block)]),
    "keepalive": _streamed(lambda b, _r, _i: [*b[:2], sse("keepalive", 2), *b[2:]]),
    "unknown_events": _streamed(lambda b, _r, _i: [*b[:4], _UNKNOWN, b"\n\n", b"data: not json\n\n", *b[4:]]),
    "big_block": _streamed(lambda b, _r, _i: [*b[:4], _BIG, *b[4:]]),
    "after_terminal": _streamed(lambda b, _r, _i: [*b, _UNKNOWN]),
    "crlf": _streamed(lambda b, _r, _i: [x.replace(b"\n", b"\r\n") for x in b]),
    "cr": _streamed(lambda b, _r, _i: [x.replace(b"\n", b"\r") for x in b]),
    "mixed_line_ends": _streamed(
        lambda b, _r, _i: [x.replace(b"\n", (b"\n", b"\r\n", b"\r")[n % 3]) for n, x in enumerate(b)]
    ),
    "byte_order_mark": _streamed(lambda b, _r, _i: [b"\xef\xbb\xbf", *b]),
    "data_only": _streamed(lambda b, _r, _i: [x.partition(b"\n")[2] for x in b]),
    "empty_stream": _streamed(lambda _b, _r, _i: []),
    "cut_chunk": _cut_chunk,
}

SCRIPTS: dict[str, Script] = {
    "ok": generated,
    "close": _silent(Close()),
    "reset": _silent(Reset()),
    "never": _silent(StayOpen()),
    "partial_head": _silent(Write(b"HTTP/1.1 200 OK\r\ncontent-"), Pause(0.01), Close()),
    "not_http": _silent(Write(b"SSH-2.0-OpenSSH_9.6\r\n"), Pause(0.01), Close()),
    "head_then_never": _silent(Write(head(200, (SSE_TYPE, ("transfer-encoding", "chunked")))), StayOpen()),
    "cut_plain": _cut_plain,
    "long_length": _long_length,
    "short_length": _short_length,
    "drip": _drip,
    "gated": _gated,
    "incomplete": _ending_as("incomplete"),
    "failed": _ending_as("failed"),
    "no_usage": lambda r, i: plain(json.dumps(response(r.json, i, status="completed") | {"usage": None}).encode()),
    "empty_200": lambda _r, _i: plain(b""),
    "bad_json_200": lambda _r, _i: plain(b'{"id": "resp_broken", "output": ['),
    "no_content_type": lambda r, i: plain(_json_body(r, i), headers=()),
    "until_close": lambda r, i: plain(_json_body(r, i), framing="close"),
    "gzip": _encoded("gzip", gzip.compress),
    "deflate": _encoded("deflate", zlib.compress),
    "br": _encoded("br", brotli.compress),
    "zstd": _encoded("zstd", zstandard.ZstdCompressor().compress),
    "gzip_broken": _encoded("gzip", lambda body: gzip.compress(body)[:-20] + b"\0" * 20),
    **STREAM_SCRIPTS,
    **REFUSALS,
    **ODDITIES,
}
