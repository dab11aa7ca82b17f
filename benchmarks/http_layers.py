"""Compares HTTP layers under a bare pass-through: `python -m benchmarks.http_layers [--granian PATH]`.

Server (uvicorn, granian) x upstream client (httpx over aiohttp, aiohttp, ...) x workers, plain calls and streams. It
decided which layer the proxy stands on; granian is not a dependency and is measured only where its program is given.
"""

import argparse
import os
import sys
from pathlib import Path

from benchmarks.load import put_load
from benchmarks.processes import free_port, running, upstream

ROOT = Path(__file__).parent.parent


def server_argv(server: str, port: int, workers: int, granian: str | None) -> list[str]:
    """The command that serves `benchmarks.passthrough` on `port`."""
    if server == "uvicorn":
        argv = [
            sys.executable,
            "-m",
            "uvicorn",
            "benchmarks.passthrough:app",
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        return [
            *argv,
            "--workers",
            str(workers),
            "--loop",
            "uvloop",
            "--http",
            "httptools",
            "--no-access-log",
            "--log-level",
            "warning",
        ]
    if server == "granian" and granian:
        argv = [granian, "--interface", "asginl", "--host", "127.0.0.1", "--port", str(port), "--workers", str(workers)]
        return [
            *argv,
            "--loop",
            "uvloop",
            "--no-ws",
            "--http",
            "1",
            "--log-level",
            "warning",
            "benchmarks.passthrough:app",
        ]
    raise ValueError(f"server {server!r}: expected uvicorn, or granian with the path of its program")


def measure(server: str, client: str, workers: int, *, granian: str | None, seconds: float, url: str) -> None:
    """Print the figures of one combination."""
    port = free_port()
    env = {"BENCH_UPSTREAM": url, "BENCH_CLIENT": client, "PYTHONPATH": str(ROOT)}
    with running(server_argv(server, port, workers, granian), port=port, env=env, cwd=ROOT) as proxy:
        put_load(proxy.url, kind="plain", connections=8, seconds=1)
        for kind, connections in (("plain", 1), ("plain", 32), ("stream", 1), ("stream", 32)):
            before = proxy.cpu_s()
            load = put_load(proxy.url, kind=kind, connections=connections, seconds=seconds)
            cpu_ms = (proxy.cpu_s() - before) * 1000 / max(load.requests, 1)
            print(
                f"{server:8} {client:14} workers={workers} {kind:6} c={connections:<3} {load.requests_per_s:9.0f}/s"
                f"  p50 {load.p50_ms:7.2f}  p99 {load.p99_ms:7.2f} ms  cpu {cpu_ms:5.2f} ms  errors {load.errors}",
                flush=True,
            )


def main() -> None:
    """Measure every combination asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--granian", help="path of granian's program, in an environment that has the clients too")
    parser.add_argument("--seconds", type=float, default=4)
    parser.add_argument("--clients", default="httpx-aiohttp,aiohttp")
    parser.add_argument("--servers", default="uvicorn,granian")
    parser.add_argument("--workers", default="1,2")
    args = parser.parse_args()
    servers = [s for s in args.servers.split(",") if s != "granian" or args.granian]
    print(f"load {os.getloadavg()}")
    with upstream() as up:
        for workers in map(int, args.workers.split(",")):
            for server in servers:
                for client in args.clients.split(","):
                    measure(server, client, workers, granian=args.granian, seconds=args.seconds, url=up.url)


if __name__ == "__main__":
    main()
