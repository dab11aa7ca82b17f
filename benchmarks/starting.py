"""Start to ready on a data directory that exists, and the speed of a rebuild of the projections.

Both need a book with calls in it: run after the load. `benchmarks.proxy` starts the proxy.
"""

import os
import statistics
import subprocess
import sys
import time

from benchmarks.proxy import ROOT, Bench, proxy

REBUILD_TIMEOUT_S = 600


class RebuildError(Exception):
    """The rebuild's command failed."""


def start_to_ready_s(where: Bench, upstream_url: str, *, rounds: int = 3) -> float:
    """Median seconds from the start of the process to its RUNNING line; the database runs already."""
    taken: list[float] = []
    for _ in range(rounds):
        with proxy(where, upstream_url) as process:
            taken.append(process.ready_s)
    return statistics.median(taken)


def rebuild_s(where: Bench) -> float:
    """Seconds that `llm ledger rebuild` takes on the book as it is.

    Raises:
        RebuildError: with the command's output.
    """
    argv = [sys.executable, "-m", "api.cli", "ledger", "rebuild"]
    env = {**os.environ, "DATABASE_URL": where.database_url, "LLM_DATA_DIR": str(where.data_dir)}
    started = time.perf_counter()
    done = subprocess.run(
        argv, cwd=ROOT, env=env, capture_output=True, text=True, check=False, timeout=REBUILD_TIMEOUT_S
    )
    if done.returncode != 0:
        raise RebuildError(
            f"{' '.join(argv[1:])} exited with {done.returncode}: {(done.stderr or done.stdout)[-2000:]}"
        )
    return time.perf_counter() - started
