"""A load of so many calls, mixed as users mix them: `python -m benchmarks.mixed_load --url URL --calls N`.

One call in ten is a stream, and one in a hundred is left by its client in the middle of its stream. wrk can do neither
by count. A line with the number of calls that have ended is printed a few times a second. `endurance` runs it.
"""

import argparse
import asyncio
import os
import time
from urllib.parse import urlsplit

import uvloop

from benchmarks.load import BODIES

STREAM_EACH = 10
CUT_EACH = 100
TELL_S = 0.25
CALL_TIMEOUT_S = 60.0


class RefusedCallError(Exception):
    """A call was answered with something else than 200."""


def kind_of(number: int) -> str:
    """What the call of that number is: plain, stream, or cut, which is a stream that its client leaves."""
    if number % CUT_EACH == 0:
        return "cut"
    return "stream" if number % STREAM_EACH == 0 else "plain"


class MixedLoad:
    """Makes the calls over a number of kept-alive connections, each one call at a time."""

    def __init__(self, url: str, key: str, calls: int) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "127.0.0.1", parts.port or 80
        self._requests = {
            kind: (
                f"POST /v1/responses HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {key}\r\n"
                f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n{body}"
            ).encode()
            for kind, body in BODIES.items()
        }
        self._numbers = iter(range(1, calls + 1))
        self.ended = 0

    async def run(self, connections: int) -> None:
        """Make all calls."""
        teller = asyncio.create_task(self._tell())
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(connections):
                    group.create_task(self._one_after_another())
        finally:
            teller.cancel()
            print(f"ENDED {self.ended}", flush=True)

    async def _tell(self) -> None:
        while True:
            print(f"ENDED {self.ended}", flush=True)
            await asyncio.sleep(TELL_S)

    async def _one_after_another(self) -> None:
        streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        for number in self._numbers:
            kind = kind_of(number)
            if streams is None:
                streams = await asyncio.open_connection(self._host, self._port)
            reader, writer = streams
            async with asyncio.timeout(CALL_TIMEOUT_S):
                writer.write(self._requests["plain" if kind == "plain" else "stream"])
                await self._read(reader, kind)
            if kind == "cut":
                writer.transport.abort()
                streams = None
            self.ended += 1
        if streams is not None:
            streams[1].close()

    async def _read(self, reader: asyncio.StreamReader, kind: str) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if b" 200 " not in head[:20]:
            raise RefusedCallError((head + await reader.read(600)).decode(errors="replace"))
        _, mark, after = head.partition(b"content-length:")
        if mark:
            await reader.readexactly(int(after.partition(b"\r")[0]))
            return
        while size := int(await reader.readline(), 16):
            await reader.readexactly(size + 2)
            if kind == "cut":
                return
        await reader.readline()


def main() -> None:
    """Read the command line and make the calls; the key comes from BENCH_KEY."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", required=True)
    parser.add_argument("--calls", type=int, required=True)
    parser.add_argument("--connections", type=int, default=32)
    args = parser.parse_args()
    load = MixedLoad(args.url, os.environ["BENCH_KEY"], args.calls)
    began_s = time.perf_counter()
    uvloop.run(load.run(args.connections))
    print(f"SECONDS {time.perf_counter() - began_s:.3f}", flush=True)


if __name__ == "__main__":
    main()
