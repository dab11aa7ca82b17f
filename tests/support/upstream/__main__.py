"""The stand-in upstream as a process: `python -m tests.support.upstream --port 0` prints `UPSTREAM http://...`.

For tests that kill things: it outlives the proxy and tells at `GET /__seen` and `/__counts` what reached it.
"""

import argparse
import asyncio

from tests.support.corpus import recorded_rows
from tests.support.upstream.requests import Log
from tests.support.upstream.server import Upstream


async def serve(port: int, *, corpus: bool, keep_bytes_of: int) -> None:
    """Serve until the process is ended."""
    rows = dict(enumerate(recorded_rows())) if corpus else {}
    log = Log(keep_bytes_of=keep_bytes_of)
    async with Upstream(port=port, rows=rows, log=log) as upstream:
        print(f"UPSTREAM {upstream.url}", flush=True)  # noqa: T201 - how the starter learns the port
        await asyncio.Event().wait()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--corpus", action="store_true", help="a request can wish for `row` n of `recorded_rows()`")
    parser.add_argument("--keep-bytes-of", type=int, default=100, help="requests whose bytes are kept in memory")
    args = parser.parse_args()
    asyncio.run(serve(args.port, corpus=args.corpus, keep_bytes_of=args.keep_bytes_of))


if __name__ == "__main__":
    main()
