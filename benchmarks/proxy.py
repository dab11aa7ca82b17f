"""Starts what is measured: the proxy with a database of its own, and the bare pass-through.

The database is the product's embedded one with the durability that the product gives it, unless `DATABASE_URL` names
another.
"""

import contextlib
import os
import secrets
import sys
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import Running, free_port, running
from ledger.postgres.embedded import start

ROOT = Path(__file__).parent.parent
_CONFIG = """\
model_list:
  - model_name: gpt-4o
    llm_params:
      model: openai/gpt-4o
      api_key: sk-upstream
      api_base: {upstream}/v1
general_settings:
  durability: {durability}
"""


@dataclass(frozen=True)
class Bench:
    """Where a run keeps its things: a data directory, a database, a master key."""

    data_dir: Path
    database_url: str
    key: str


@contextlib.contextmanager
def bench(data_dir: Path) -> Generator[Bench]:
    """A database for one run."""
    key = "sk-bench-" + secrets.token_hex(16)
    if url := os.environ.get("DATABASE_URL"):
        yield Bench(data_dir, url, key)
        return
    with start(data_dir) as server:
        yield Bench(data_dir, server.url, key)


def is_buildable() -> bool:
    """Whether the proxy's command line exists in this checkout."""
    return (ROOT / "api" / "cli" / "__main__.py").exists()


@contextlib.contextmanager
def proxy(
    where: Bench, upstream_url: str, *, workers: int = 1, durability: str = "flush", without: str | None = None
) -> Generator[Running]:
    """The proxy in front of that upstream, ready when it says so; `without`: a mode of `benchmarks.without_books`."""
    port = free_port()
    config = where.data_dir / f"config-{port}.yaml"
    config.write_text(_CONFIG.format(upstream=upstream_url, durability=durability))
    program = ["api.cli"] if without is None else ["benchmarks.without_books", without]
    argv = [sys.executable, "-m", *program, "--config", str(config), "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--num_workers", str(workers), "--database_url", where.database_url]
    env = {"LLM_MASTER_KEY": where.key, "LLM_DATA_DIR": str(where.data_dir), "PYTHONPATH": str(ROOT)}
    with running(argv, port=port, env=env, cwd=ROOT, ready_line="RUNNING on ") as process:
        yield process


@contextlib.contextmanager
def passthrough(upstream_url: str, *, client: str, workers: int = 1) -> Generator[Running]:
    """The bare pass-through of the same stack over that client (see `benchmarks.passthrough`)."""
    port = free_port()
    argv = [sys.executable, "-m", "uvicorn", "benchmarks.passthrough:app", "--host", "127.0.0.1", "--port", str(port)]
    argv += ["--workers", str(workers), "--loop", "uvloop", "--http", "httptools", "--no-access-log"]
    env = {"BENCH_UPSTREAM": upstream_url, "BENCH_CLIENT": client, "PYTHONPATH": str(ROOT)}
    with running([*argv, "--log-level", "warning"], port=port, env=env, cwd=ROOT) as process:
        yield process
