"""A line between a journal and Postgres that can be cut, deafened and frozen; it runs in the test's own loop."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

#: The protocol's message CopyDone. What stands before it the server has, and has inserted, all but for the commit.
_COPY_DONE = b"c\x00\x00\x00\x04"


class Line:
    """Forwards connections to a server.

    `is_down`: new connections are refused, those that there are stay.
    `is_deaf`: what the server answers is thrown away, so that a commit happens and nobody hears of it.
    `sent_bytes_max`: after so many more bytes to the server nothing is sent any more, and the server is not told.
    `is_frozen_in_copy`: the same before the end of the next COPY; new connections are then refused, too.
    """

    def __init__(self, host: str, port: int) -> None:
        self.is_down = False
        self.is_deaf = False
        self.sent_bytes_max: int | None = None
        self.is_frozen_in_copy = False
        self.connections = 0
        self.frozen = asyncio.Event()
        self._server = (host, port)
        self._open: set[asyncio.StreamWriter] = set()
        self._kept: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        self.connections += 1
        if self.is_down:
            writer.transport.abort()
            return
        try:
            to_reader, to_writer = await asyncio.open_connection(*self._server)
        except OSError:
            writer.transport.abort()
            return
        self._open |= {writer, to_writer}
        for pump in (self._send(reader, to_writer), self._answer(to_reader, writer)):
            task = asyncio.create_task(pump)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def cut(self) -> None:
        """Break all connections, and let new ones through."""
        self.is_deaf = False
        for writer in self._open - self._kept:
            writer.transport.abort()
        self._open &= self._kept

    def close(self) -> None:
        """Break what is frozen too."""
        self._kept.clear()
        self.cut()

    async def _send(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                keep = self._bytes_before_frost(data)
                if keep is not None:
                    writer.write(data[:keep])
                    self._kept.add(writer)
                    self.frozen.set()
                    return
                writer.write(data)
                await writer.drain()
        if writer not in self._kept:
            writer.transport.abort()

    def _bytes_before_frost(self, data: bytes) -> int | None:
        """Return how much of `data` is still sent when the line freezes in it; None when it does not."""
        if self.is_frozen_in_copy and _COPY_DONE in data:
            self.is_frozen_in_copy, self.is_down = False, True
            return data.index(_COPY_DONE)
        if self.sent_bytes_max is None:
            return None
        if len(data) > self.sent_bytes_max:
            keep, self.sent_bytes_max = self.sent_bytes_max, None
            return keep
        self.sent_bytes_max -= len(data)
        return None

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65_536):
                if self.is_deaf:
                    continue
                writer.write(data)
                await writer.drain()
        writer.transport.abort()


@asynccontextmanager
async def line_to(url: str) -> AsyncGenerator[tuple[Line, str]]:
    """Lay a line to the server of `url`; yield it and the URL that leads through it."""
    parts = urlsplit(url)
    assert parts.hostname is not None
    assert parts.port is not None
    line = Line(parts.hostname, parts.port)
    server = await asyncio.start_server(line.accept, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    credentials = parts.netloc.rpartition("@")[0]
    try:
        yield line, urlunsplit(parts._replace(netloc=f"{credentials}@127.0.0.1:{port}"))
    finally:
        line.close()
        server.close()
        await server.wait_closed()
