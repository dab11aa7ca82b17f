"""An HTTP/1.1 client of the barest kind over `httptools`, for plain http only: the floor that a client's cost can have.

It exists to tell how much of a pass-through's time is the client library. It has a pool and nothing else: no TLS, no
time limits, no redirects. `passthrough` uses it as `BENCH_CLIENT=protocol`.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import cast
from urllib.parse import urlsplit

import httptools

RawHeaders = list[tuple[bytes, bytes]]
Part = tuple[int, RawHeaders] | bytes | None


class Connection(asyncio.Protocol):
    """One kept-alive connection; the parts of the answer under way wait in a list until they are taken."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None
        self.parts: list[Part] = []
        self.lost: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._headers: RawHeaders = []
        self._body: list[bytes] = []
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport = cast("asyncio.Transport", transport)  # uvloop's transports inherit from nothing of asyncio's

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake the reader with the error."""
        self.lost = exc or ConnectionResetError("the upstream closed the connection")
        self._wake()

    def data_received(self, data: bytes) -> None:
        """Parse, and hand on as one part what came as one piece."""
        self._parser.feed_data(data)
        if self._body:
            self.parts.append(b"".join(self._body))
            self._body.clear()
        if self._complete:
            self.parts.append(None)
        self._wake()

    _complete = False

    def on_header(self, name: bytes, value: bytes) -> None:
        """httptools: one header."""
        self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        """httptools: the head is complete."""
        self.parts.append((self._parser.get_status_code(), self._headers))

    def on_body(self, body: bytes) -> None:
        """httptools: a piece of the body."""
        self._body.append(body)

    def on_message_complete(self) -> None:
        """httptools: the answer is complete."""
        self._complete = True

    def begin(self, request: bytes) -> None:
        """Send the next request."""
        assert self.transport is not None  # noqa: S101 - the pool hands out connected ones
        self._parser = httptools.HttpResponseParser(self)
        self._headers = []
        self._complete = False
        self.parts.clear()
        self.transport.write(request)

    async def next_parts(self) -> list[Part]:
        """What has arrived since the last time; waits when that is nothing."""
        while not self.parts:
            if self.lost is not None:
                raise self.lost
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        taken, self.parts = self.parts, []
        return taken

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class ProtocolClient:
    """A pool of such connections to one host."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._idle: list[Connection] = []

    async def exchange(
        self, path: str, headers: RawHeaders, body: bytes
    ) -> AsyncIterator[tuple[int, RawHeaders] | bytes]:
        """Make the call."""
        connection = None
        while self._idle and (connection is None or connection.lost is not None):
            connection = self._idle.pop()
        if connection is None or connection.lost is not None:
            _, connection = await asyncio.get_running_loop().create_connection(Connection, self._host, self._port)
        head = b"".join(b"%s: %s\r\n" % header for header in headers)
        start = f"POST {path} HTTP/1.1\r\nhost: {self._host}:{self._port}\r\n".encode()
        connection.begin(start + head + b"content-length: %d\r\n\r\n" % len(body) + body)
        while True:
            for part in await connection.next_parts():
                if part is None:
                    self._idle.append(connection)
                    return
                yield part
