"""One TCP connection of the stand-in upstream: reads requests, carries out the steps of the answers.

It knows nothing of what is answered; `server` chooses that. Written on asyncio's protocol, not its streams, because a
client that leaves must be noticed at once, whatever the answer is doing.
"""

import asyncio
import socket
import struct
from collections.abc import Awaitable, Callable
from typing import cast

from tests.support.upstream.requests import Received
from tests.support.upstream.steps import Answer, AwaitGate, Close, Pause, Reset, StayOpen, Step, Write

HEAD_BYTES_MAX = 2 * 1024 * 1024
BODY_BYTES_MAX = 256 * 1024 * 1024


class ClientGoneError(Exception):
    """The client closed the connection."""


class Connection(asyncio.Protocol):
    """Serves requests one after another until the client or an answer ends the connection."""

    def __init__(
        self,
        choose: Callable[[Received], Awaitable[Answer]],
        gate: Callable[[str], asyncio.Event],
        opened: Callable[["Connection"], None],
        *,
        close_at_once: bool,
    ) -> None:
        self._choose = choose
        self._gate = gate
        self._opened = opened
        self._close_at_once = close_at_once
        self._buffer = bytearray()
        self._arrived = asyncio.Event()
        self._writable = asyncio.Event()
        self._writable.set()
        self.gone = asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self._transport: asyncio.Transport | None = None

    @property
    def transport(self) -> asyncio.Transport:
        """The transport; there is one from connection_made on."""
        assert self._transport is not None
        return self._transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin to serve."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports inherit from nothing of asyncio's
        self._opened(self)
        if self._close_at_once:
            self._transport.close()
            return
        self._transport.set_write_buffer_limits(high=0)  # so that a write has reached the kernel before the next step
        self.task = asyncio.get_running_loop().create_task(self._serve())

    def connection_lost(self, exc: Exception | None) -> None:
        """Wake whoever waits."""
        del exc
        self.gone.set()
        self._arrived.set()
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        """Keep what arrived."""
        self._buffer += data
        self._arrived.set()

    def pause_writing(self) -> None:
        """asyncio: the kernel's buffer is full."""
        self._writable.clear()

    def resume_writing(self) -> None:
        """asyncio: everything has been handed to the kernel."""
        self._writable.set()

    async def _serve(self) -> None:
        try:
            keep_alive = True
            while keep_alive:
                received = await self._read_request()
                keep_alive = await self._answer(received)
        except ClientGoneError:
            pass
        finally:
            if not self.transport.is_closing():
                self.transport.close()

    async def _answer(self, received: Received) -> bool:
        answer = await self._choose(received)
        received.script, received.status = answer.name, answer.status
        try:
            for step in answer.steps:
                await self._carry_out(step, received)
            received.finished = True
        except ClientGoneError:
            received.client_closed = True
            raise
        return answer.keep_alive

    async def _carry_out(self, step: Step, received: Received) -> None:
        match step:
            case Write(data):
                await self._write(data)
                received.written += len(data)
            case Pause(seconds):
                await self._unless_gone(asyncio.sleep(seconds))
            case AwaitGate(name):
                await self._unless_gone(self._gate(name).wait())
            case StayOpen():
                await self.gone.wait()
                raise ClientGoneError
            case Close():
                self.transport.close()
            case Reset():
                self._reset()

    async def _write(self, data: bytes) -> None:
        if self.gone.is_set() or self.transport.is_closing():
            raise ClientGoneError
        self.transport.write(data)
        await self._writable.wait()
        if self.gone.is_set():
            raise ClientGoneError

    async def _unless_gone(self, awaitable: Awaitable[object]) -> None:
        """Await it, or raise as soon as the client is gone."""
        waiting = asyncio.ensure_future(awaitable)
        gone = asyncio.ensure_future(self.gone.wait())
        try:
            await asyncio.wait({waiting, gone}, return_when=asyncio.FIRST_COMPLETED)
            if self.gone.is_set():
                raise ClientGoneError
        finally:
            waiting.cancel()
            gone.cancel()

    def _reset(self) -> None:
        raw = self.transport.get_extra_info("socket")
        if raw is not None:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()

    async def _read_request(self) -> Received:
        head = await self._take_through(b"\r\n\r\n", HEAD_BYTES_MAX)
        start, *lines = head[:-4].decode("latin-1").split("\r\n")
        method, target, _ = start.split(" ", 2)
        pairs = (line.partition(":") for line in lines)
        headers = tuple((name, value.strip()) for name, _, value in pairs)
        named = {name.lower(): value for name, value in headers}
        if "chunked" in named.get("transfer-encoding", "").lower():
            body, rest = await self._take_chunked()
        else:
            body = rest = await self._take(int(named.get("content-length", "0")))
        return Received(0, method, target, headers, body, head + rest)

    async def _take_chunked(self) -> tuple[bytes, bytes]:
        """The body, and its bytes on the wire."""
        body, wire = bytearray(), bytearray()
        while True:
            line = await self._take_through(b"\r\n", 1024)
            size = int(line.partition(b";")[0], 16)
            data = await self._take(size + 2)
            wire += line + data
            body += data[:-2]
            if size == 0:
                return bytes(body), bytes(wire)

    async def _take_through(self, mark: bytes, limit: int) -> bytes:
        searched = 0
        while (found := self._buffer.find(mark, max(searched - len(mark), 0))) < 0:
            searched = len(self._buffer)
            if searched > limit:
                raise ValueError(f"no {mark!r} within {limit} bytes of a request")
            await self._more()
        return await self._take(found + len(mark))

    async def _take(self, count: int) -> bytes:
        if count > BODY_BYTES_MAX:
            raise ValueError(f"a request body of {count} bytes; this upstream takes at most {BODY_BYTES_MAX}")
        while len(self._buffer) < count:
            await self._more()
        taken = bytes(self._buffer[:count])
        del self._buffer[:count]
        return taken

    async def _more(self) -> None:
        self._arrived.clear()
        if self.gone.is_set():
            raise ClientGoneError
        await self._arrived.wait()
        if self.gone.is_set():
            raise ClientGoneError
