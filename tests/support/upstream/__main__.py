"""The stand-in upstream as a process: `python -m tests.support.upstream --port 0` prints `UPSTREAM http://...`.

For tests that kill things: it outlives the proxy and tells at `GET /__seen` and `/__counts` what reached it.
"""

import argparse
import asyncio
import gzip
import json
from pathlib import Path

from tests.support.upstream.recorded import Row
from tests.support.upstream.requests import Log
from tests.support.upstream.server import Upstream


def read_rows(files: list[Path]) -> dict[int, Row]:
    """All rows of the files, numbered from 0 in the order of the files and lines."""
    rows: list[Row] = []
    for file in files:
        with gzip.open(file, "rt", encoding="utf-8") as lines:
            rows += [json.loads(line) for line in lines]
    return dict(enumerate(rows))


async def serve(port: int, files: list[Path], keep_bytes_of: int) -> None:
    """Serve until the process is ended."""
    log = Log(keep_bytes_of=keep_bytes_of)
    async with Upstream(port=port, rows=read_rows(files), log=log) as upstream:
        print(f"UPSTREAM {upstream.url}", flush=True)  # noqa: T201 - how the starter learns the port
        await asyncio.Event().wait()


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument(
        "--rows", type=Path, nargs="*", default=[], help="corpus files; a request wishes for `row` n of them"
    )
    parser.add_argument("--keep-bytes-of", type=int, default=100, help="requests whose bytes are kept in memory")
    args = parser.parse_args()
    asyncio.run(serve(args.port, args.rows, args.keep_bytes_of))


if __name__ == "__main__":
    main()
