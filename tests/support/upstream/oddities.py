"""Answers that are HTTP and yet not what was asked for: types that lie, statuses without a body, ends within a coding.

Part of the scripts in `faults`, which has the breaks and the awkward streams.
"""

import gzip
import json
from collections.abc import Callable

from tests.support.upstream.framing import JSON_TYPE, SSE_TYPE, head, http_chunks, plain, stream
from tests.support.upstream.generated import response, sse, wished_blocks, wished_text
from tests.support.upstream.requests import Received
from tests.support.upstream.steps import Answer, Close, Pause, StayOpen, Write

Script = Callable[[Received, str], Answer]


def _body(received: Received, response_id: str) -> bytes:
    return json.dumps(response(received.json, response_id, status="completed", text=wished_text(received))).encode()


def _stream(received: Received, response_id: str) -> bytes:
    return b"".join(wished_blocks(received, response_id))


def _cut_chunked(received: Received, response_id: str) -> Answer:
    """Half of a plain answer without a content-length, then FIN without the last chunk."""
    half = _body(received, response_id)[:200]
    wire = head(200, (JSON_TYPE, ("transfer-encoding", "chunked"))) + http_chunks([half])
    return Answer("", (Write(wire), Pause(0.01), Close()), 200, (JSON_TYPE,), half, keep_alive=False)


def _stalled(received: Received, response_id: str) -> Answer:
    """Half of a plain answer, then silence."""
    half = _body(received, response_id)[:200]
    wire = head(200, (JSON_TYPE, ("transfer-encoding", "chunked"))) + http_chunks([half])
    return Answer("", (Write(wire), StayOpen()), 200, (JSON_TYPE,), half, keep_alive=False)


def _cut_gzip(received: Received, response_id: str) -> Answer:
    """A whole HTTP answer whose gzip breaks off."""
    body = gzip.compress(_body(received, response_id))[:-30]
    return plain(body, headers=(JSON_TYPE, ("content-encoding", "gzip")))


def _interim(received: Received, response_id: str) -> Answer:
    """1xx before the answer."""
    answer = plain(_body(received, response_id))
    early = b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n"
    return Answer("", (Write(early), *answer.steps), 200, answer.headers, answer.body)


def _raw(status: int, *headers: tuple[str, str], body: bytes = b"") -> Script:
    wire = head(status, headers) + body
    return lambda _received, _response_id: Answer("", (Write(wire), Close()), status, headers, body, keep_alive=False)


def _two_terminals(received: Received, response_id: str) -> Answer:
    """Completed, and then failed: the last that holds a response counts."""
    failed = sse("response.failed", 99, response=response(received.json, response_id, status="failed"))
    return stream(_stream(received, response_id) + failed)


ODDITIES: dict[str, Script] = {
    "cut_chunked": _cut_chunked,
    "stalled_plain": _stalled,
    "cut_gzip": _cut_gzip,
    "interim": _interim,
    "two_terminals": _two_terminals,
    "json_list": lambda _r, _i: plain(b'[{"id": "resp_x"}]'),
    "json_text": lambda _r, _i: plain(b'"fine"'),
    "no_content": _raw(204),
    "switching": _raw(101, ("upgrade", "h2c"), ("connection", "upgrade")),
    "status_999": _raw(999, JSON_TYPE, ("content-length", "2"), body=b"{}"),
    "huge_headers": _raw(200, ("x-a", "a" * 1_000_000), ("content-length", "0")),
    "stream_called_json": lambda r, i: plain(_stream(r, i)),
    "json_called_stream": lambda r, i: plain(_body(r, i), headers=(SSE_TYPE,)),
}
