"""Whatever a client sends: the readers of requests raise what they declare and nothing else, within their bounds."""

import asyncio
from typing import Any, cast

import uvicorn
from hypothesis import example, given, settings
from hypothesis import strategies as st
from uvicorn.server import ServerState

from api.auth import Caller, masked, presented_key
from api.call_reading import path_of_call
from api.call_recording import received_facts
from api.errors import unknown_path, wrong_method
from api.http_protocol import HEAD_BYTES_MAX, BoundedProtocol
from ledger.encoding import FACTS_BYTES_MAX, encode_facts
from llm.encodings import EncodingError
from llm.headers import as_json, of_answer, of_request, to_client, to_upstream
from llm.json_text import JsonError
from llm.request import read_client_request

LATIN = st.text(st.characters(max_codepoint=255), max_size=60)
NAMES = st.sampled_from(
    [
        "content-encoding",
        "content-type",
        "authorization",
        "x-llm-tags",
        "accept-encoding",
        "connection",
        "x-odd",
        "expect",
    ]
) | LATIN.map(str.lower)
HEADERS = st.lists(st.tuples(NAMES, LATIN), max_size=12)
BODIES = st.binary(max_size=300) | st.sampled_from(
    [
        b"",
        b"{}",
        b"[" * 5_000,
        b'{"model": 1e200000}',
        b'{"model": "\\ud800", "metadata": {"tags": [1]}}',
        b"\xef\xbb\xbf{}",
    ]
)


@given(HEADERS, BODIES, LATIN, st.booleans())
@example([("content-encoding", "gzip, br, zstd, gzip")], b"\x1f\x8b", "stream=true", True)
def test_request_is_read_or_refused_as_declared(
    headers: list[tuple[str, str]], body: bytes, query: str, needs_json: bool
) -> None:
    try:
        request = read_client_request(
            "POST", "/responses", query, as_json(headers), body, limit_bytes=100_000, needs_json=needs_json
        )
    except (JsonError, EncodingError):
        return
    sent, _ = request.upstream_body("upstream-model")
    assert len(sent) <= len(body) + 1_000 or request.content_encoding


@given(HEADERS, LATIN, BODIES)
def test_facts_of_a_request_can_be_stored(headers: list[tuple[str, str]], query: str, body: bytes) -> None:
    scope: dict[str, Any] = {"method": "POST", "query_string": query.encode("latin-1"), "client": None}
    facts = received_facts(scope, "/responses", headers, Caller("master"), body)
    assert len(encode_facts(facts)) <= FACTS_BYTES_MAX


@given(HEADERS, LATIN)
def test_headers_cross_the_proxy_without_credentials_or_control_characters(
    headers: list[tuple[str, str]], key: str
) -> None:
    sent = to_upstream(headers, api_key="sk-upstream", content_encoding="", is_stream=True)
    assert [value for name, value in sent if name == "authorization"] == ["Bearer sk-upstream"]
    for _, value in to_client(headers):
        assert not any(letter < " " and letter != "\t" for letter in value)
    of_request(headers)
    of_answer(headers)
    presented_key(headers)
    assert len(masked(key)) <= 10


@given(st.text(max_size=200), st.text(max_size=20))
def test_paths_are_calls_or_named_errors(path: str, method: str) -> None:
    found = path_of_call(path)
    assert found is None or found.startswith("/responses")
    for error in (unknown_path(method, path * 50), wrong_method(method, path * 50, ("GET",))):
        assert len(error.message) < 2_000
        error.body()


class _Transport(asyncio.Transport):
    """Takes what is written."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.is_closed = False

    def write(self, data: Any) -> None:
        self.written += data

    def write_eof(self) -> None:
        pass

    def is_closing(self) -> bool:
        return self.is_closed

    def close(self) -> None:
        self.is_closed = True

    def pause_reading(self) -> None:
        pass

    def resume_reading(self) -> None:
        pass


async def _answer(scope: Any, receive: Any, send: Any) -> None:
    del scope, receive
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"0")]})
    await send({"type": "http.response.body", "body": b""})


LINES = st.lists(
    st.sampled_from(
        [b"GET / HTTP/1.1\r\n", b"POST /v1/responses HTTP/1.1\r\n", b"content-length: 5\r\n", b"content-length: -5\r\n",
         b"transfer-encoding: chunked\r\n", b"\r\n", b"5\r\nhello\r\n", b"0\r\n\r\n", b"zz\r\n", b"x: " + b"a" * 40_000,
         b"host: a\r\n", b"connection: upgrade\r\nupgrade: websocket\r\n", b"\x00\xff", b"hello"]
    ) | st.binary(max_size=40),
    max_size=12,
)  # fmt: skip


@given(LINES)
@settings(max_examples=200, deadline=None)
def test_connection_takes_any_bytes_and_answers_in_http(pieces: list[bytes]) -> None:
    async def run() -> _Transport:
        config = uvicorn.Config(cast("Any", _answer), http="httptools", ws="none", log_config=None, access_log=False)
        connection = BoundedProtocol(
            config=config, server_state=ServerState(), app_state={}, _loop=asyncio.get_running_loop(), head_timeout_s=60
        )
        transport = _Transport()
        connection.connection_made(transport)
        for piece in pieces:
            if not transport.is_closed:
                connection.data_received(piece)
                await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert connection._head_bytes <= HEAD_BYTES_MAX + 40_100
        connection.connection_lost(None)
        await asyncio.sleep(0)
        return transport

    written = asyncio.run(run()).written
    assert not written or written.startswith(b"HTTP/1.1 ")
    assert b"Traceback" not in written
