"""A bare pass-through: the least that a proxy of our stack must do, as the measure of what ours adds.

A raw ASGI application without routing: it reads the body, sends it to `BENCH_UPSTREAM` through the client that
`BENCH_CLIENT` names (`httpx-aiohttp`, `aiohttp`, `httpx` or `protocol`) and hands each piece of the answer on. It
keeps no books.
"""

import os
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from typing import Any, Protocol

import aiohttp
import httpx
from httpx_aiohttp import AiohttpTransport

from benchmarks.protocol_client import ProtocolClient

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
RawHeaders = list[tuple[bytes, bytes]]
_NOT_FORWARDED = frozenset({b"host", b"content-length", b"connection", b"transfer-encoding", b"keep-alive"})
_PIECE_BYTES = 65536


class Client(Protocol):
    """Sends one request and yields status and headers first, then the pieces of the body."""

    def exchange(self, path: str, headers: RawHeaders, body: bytes) -> AsyncIterator[tuple[int, RawHeaders] | bytes]:
        """Make the call."""
        ...


class HttpxClient:
    """`httpx`, over its own transport or over aiohttp's connections."""

    def __init__(self, url: str, *, over_aiohttp: bool) -> None:
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=256)
        transport = AiohttpTransport(limits=limits) if over_aiohttp else httpx.AsyncHTTPTransport(limits=limits)
        self._client = httpx.AsyncClient(transport=transport, timeout=600)
        self._url = url

    async def exchange(
        self, path: str, headers: RawHeaders, body: bytes
    ) -> AsyncIterator[tuple[int, RawHeaders] | bytes]:
        """Make the call."""
        request = self._client.build_request("POST", self._url + path, headers=headers, content=body)
        response = await self._client.send(request, stream=True)
        try:
            yield response.status_code, response.headers.raw
            async for piece in response.aiter_raw():
                yield piece
        finally:
            await response.aclose()


class AiohttpClient:
    """aiohttp's client, directly."""

    def __init__(self, url: str) -> None:
        self._session: aiohttp.ClientSession | None = None
        self._url = url

    async def exchange(
        self, path: str, headers: RawHeaders, body: bytes
    ) -> AsyncIterator[tuple[int, RawHeaders] | bytes]:
        """Make the call."""
        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=60),
                timeout=aiohttp.ClientTimeout(sock_read=600),
                cookie_jar=aiohttp.DummyCookieJar(),
                auto_decompress=False,
            )
        sent = [(n.decode("latin-1"), v.decode("latin-1")) for n, v in headers]
        async with self._session.post(self._url + path, headers=sent, data=body, allow_redirects=False) as response:
            yield response.status, list(response.raw_headers)
            async for piece in response.content.iter_any():
                yield piece


def make_client(kind: str, url: str) -> Client:
    """The client of that name."""
    if kind == "aiohttp":
        return AiohttpClient(url)
    if kind == "protocol":
        return ProtocolClient(url)
    if kind in {"httpx", "httpx-aiohttp"}:
        return HttpxClient(url, over_aiohttp=kind == "httpx-aiohttp")
    raise ValueError(f"BENCH_CLIENT={kind!r}: expected httpx-aiohttp, aiohttp, httpx or protocol")


class Application:
    """The ASGI application; the client is made in the worker that uses it."""

    def __init__(self) -> None:
        self._client: Client | None = None

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Relay one call."""
        if scope["type"] != "http":
            return
        if self._client is None:
            self._client = make_client(os.environ.get("BENCH_CLIENT", "httpx-aiohttp"), os.environ["BENCH_UPSTREAM"])
        body = b""
        more = True
        while more:
            message = await receive()
            body += message.get("body", b"")
            more = message.get("more_body", False)
        headers = [(n, v) for n, v in scope["headers"] if n not in _NOT_FORWARDED]
        async for part in self._client.exchange(scope["path"], headers, body):
            if isinstance(part, bytes):
                await send({"type": "http.response.body", "body": part, "more_body": True})
            else:
                status, raw = part
                kept = [
                    (n.lower(), v) for n, v in raw if n.lower() not in _NOT_FORWARDED or n.lower() == b"content-length"
                ]
                await send({"type": "http.response.start", "status": status, "headers": kept})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


app = Application()
