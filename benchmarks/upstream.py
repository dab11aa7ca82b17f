"""A stand-in upstream that is faster than what it measures: `python -m benchmarks.upstream --port 0`.

It answers every POST with the bytes of `answers`: a stream when the body says `"stream":true`, else plain. It parses no
more of HTTP than that takes. For faults and recorded traffic see `tests/support/upstream`.
"""

import argparse
import asyncio
import re
from typing import cast

import uvloop

from benchmarks.answers import Template, plain_template, response_id, stream_templates

_CONTENT_LENGTH = re.compile(rb"\r\ncontent-length:\s*(\d+)", re.IGNORECASE)
_STREAM = re.compile(rb'"stream"\s*:\s*true')
_COUNT_BODY = b'{"answered":%d}'


class Counter:
    """How many answers this process has begun; `GET /count` tells it."""

    def __init__(self) -> None:
        self.answered = 0


class UpstreamProtocol(asyncio.Protocol):
    """One keep-alive connection; requests with a body of known length, answered in order."""

    def __init__(self, plain: Template, stream: list[Template], pause_s: float, counter: Counter) -> None:
        self._plain = plain
        self._stream = stream
        self._pause_s = pause_s
        self._counter = counter
        self._buffer = b""
        self._transport: asyncio.Transport | None = None
        self._pending: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transports inherit from nothing of asyncio's

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - the protocol's signature
        """Forget a stream that was under way."""
        if self._pending is not None:
            self._pending.cancel()

    def data_received(self, data: bytes) -> None:
        """Answer each complete request in the buffer."""
        buffer = self._buffer + data if self._buffer else data
        while True:
            head_end = buffer.find(b"\r\n\r\n")
            if head_end < 0:
                break
            found = _CONTENT_LENGTH.search(buffer, 0, head_end + 2)
            end = head_end + 4 + (int(found[1]) if found else 0)
            if len(buffer) < end:
                break
            self._answer(buffer, head_end)
            buffer = buffer[end:]
        self._buffer = buffer

    def _answer(self, request: bytes, head_end: int) -> None:
        assert self._transport is not None  # noqa: S101 - connection_made came first
        if request.startswith(b"GET "):
            body = _COUNT_BODY % self._counter.answered
            self._transport.write(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
            return
        self._counter.answered += 1
        ident = response_id(self._counter.answered)
        if _STREAM.search(request, head_end):
            self._write_from(0, ident)
        else:
            self._transport.write(self._plain.filled(ident))

    def _write_from(self, index: int, ident: bytes) -> None:
        assert self._transport is not None  # noqa: S101 - connection_made came first
        while index < len(self._stream):
            self._transport.write(self._stream[index].filled(ident))
            index += 1
            if self._pause_s and index < len(self._stream):
                loop = asyncio.get_running_loop()
                self._pending = loop.call_later(self._pause_s, self._write_from, index, ident)
                return


async def serve(host: str, port: int, *, blocks: int, writes: int, pause_ms: float) -> None:
    """Serve until cancelled; prints `UPSTREAM <port>` when it listens."""
    plain, stream, counter = plain_template(), stream_templates(blocks, writes), Counter()
    server = await asyncio.get_running_loop().create_server(
        lambda: UpstreamProtocol(plain, stream, pause_ms / 1000, counter), host, port, backlog=1024
    )
    print(f"UPSTREAM {server.sockets[0].getsockname()[1]}", flush=True)
    await server.serve_forever()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--blocks", type=int, default=100, help="SSE blocks of a stream")
    parser.add_argument("--writes", type=int, default=1, help="pieces that a stream is written in")
    parser.add_argument("--pause-ms", type=float, default=0.0, help="pause between the pieces")
    args = parser.parse_args()
    uvloop.run(serve(args.host, args.port, blocks=args.blocks, writes=args.writes, pause_ms=args.pause_ms))


if __name__ == "__main__":
    main()
