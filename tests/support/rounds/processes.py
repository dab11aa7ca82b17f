"""The processes of a round: proxies with their workers, and the stand-in upstream; started, looked at, killed.

Linux only: children are found in /proc. Whether a worker serves is asked of the book (its open journal), not of HTTP.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import aiohttp
import asyncpg

ROOT = Path(__file__).parents[3]
MASTER_KEY = "sk-rounds-master-key"
START_S = 60.0
POLL_S = 0.05
LEASE_S = 5.0

_CONFIG = """
model_list:
  - model_name: gpt-4o
    llm_params: {{model: openai/gpt-4o, api_base: "{upstream}/v1", api_key: sk-upstream, timeout: 30}}
router_settings: {{num_retries: 1}}
general_settings:
  master_key: {key}
  lease_s: {lease_s:g}
  ledger_wait_s: 10
  shutdown_grace_s: 5
  durability: {durability}
"""


def free_port() -> int:
    """Return a port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


async def until(happened: Callable[[], bool], what: str, timeout_s: float = START_S) -> None:
    """Wait until something has happened.

    Raises:
        AssertionError: it has not within `timeout_s`.
    """
    deadline = time.monotonic() + timeout_s
    while not happened():
        assert time.monotonic() < deadline, f"not within {timeout_s} s: {what}"
        await asyncio.sleep(POLL_S)


class ProxyProcess:
    """A proxy: `workers` processes below one parent, or one process alone; `mutation` puts a fault into all of them."""

    def __init__(
        self,
        directory: Path,
        name: str,
        *,
        upstream: str,
        database_url: str,
        workers: int = 2,
        every_chunk: bool = False,
    ) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.every_chunk = every_chunk
        self.workers = workers
        self._database_url = database_url
        self._directory = directory
        self.log = directory / f"{name}.log"
        self._config = directory / f"{name}.yaml"
        durability = "every_chunk" if every_chunk else "flush"
        text = _CONFIG.format(upstream=upstream, key=MASTER_KEY, lease_s=LEASE_S, durability=durability)
        self._config.write_text(text)
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The parent's process id."""
        assert self._process is not None, "not started"
        return self._process.pid

    def serving_pids(self) -> list[int]:
        """Return the ids of the living processes that serve calls: the workers, or the only process itself."""
        if self._process is None or self._process.poll() is not None:
            return []
        return [self.pid] if self.workers == 1 else [pid for pid in children(self.pid) if is_worker(pid)]

    async def start(self, mutation: str = "") -> None:
        """Start it and wait until every worker has opened its journal."""
        program = ["tests.support.rounds.mutant", mutation] if mutation else ["api.cli"]
        command = [sys.executable, "-P", "-m", *program, "--config", str(self._config), "--host", "127.0.0.1"]
        command += ["--port", str(self.port), "--num_workers", str(self.workers), "--database_url", self._database_url]
        environ = {**os.environ, "PYTHONPATH": str(ROOT), "LLM_DATA_DIR": str(self._directory / "data")}
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(  # noqa: ASYNC220 - it outlives the loop's turn, and starting takes no time
                command, cwd=ROOT, env=environ, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True
            )
        await self.serves()

    async def serves(self) -> None:
        """Wait until every worker has opened its journal."""
        assert self._process is not None, "not started"
        deadline = time.monotonic() + START_S
        while not await self._is_serving():
            assert self._process.poll() is None, f"the proxy has ended:\n{self.log_tail()}"
            assert time.monotonic() < deadline, f"the proxy does not serve:\n{self.log_tail()}"
            await asyncio.sleep(POLL_S)

    async def _is_serving(self) -> bool:
        pids = self.serving_pids()
        if len(pids) < self.workers:
            return False
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            return set(pids) <= await open_journal_pids(self._database_url)
        return False

    def kill(self, pids: Iterable[int]) -> None:
        """Send SIGKILL to processes of this proxy."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end, as a service manager would."""
        assert self._process is not None, "not started"
        self._process.terminate()

    async def ended(self, pids: Iterable[int] = ()) -> int:
        """Wait until the parent and the given others have ended; return the parent's exit status."""
        process, others = self._process, list(pids)
        assert process is not None, "not started"
        await until(lambda: process.poll() is not None and not any(map(is_alive, others)), "the proxy's end")
        return process.wait()

    async def close(self) -> None:
        """Kill whatever is left of it."""
        if self._process is None:
            return
        pids = [*self.serving_pids(), self.pid]
        self.kill(pids)
        await self.ended(pids)

    def log_tail(self, lines: int = 40) -> str:
        """Return the last lines of its log."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


class UpstreamProcess:
    """The stand-in upstream as a process that nobody kills, and what it says that it saw."""

    def __init__(self) -> None:
        command = [sys.executable, "-P", "-m", "tests.support.upstream", "--port", "0", "--keep-bytes-of", "500"]
        environ = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._process = subprocess.Popen(command, cwd=ROOT, env=environ, stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        line = self._process.stdout.readline().decode()
        assert line.startswith("UPSTREAM "), line
        self.url = line.split()[1]

    async def seen(self, since: int = 0, call: str = "") -> list[dict[str, Any]]:
        """Return what it saw: requests after the serial `since`, of one `call` where given, in order."""
        return (await self._control("GET", f"/__seen?since={since}&call={call}"))["requests"]

    async def open_gate(self, name: str) -> None:
        """Let the answers that wait for this gate go on."""
        await self._control("POST", f"/__open/{name}")

    async def _control(self, method: str, path: str) -> dict[str, Any]:
        async with aiohttp.ClientSession() as session, session.request(method, self.url + path) as response:
            return json.loads(await response.read())

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait(10)
        assert self._process.stdout is not None
        self._process.stdout.close()


async def open_journal_pids(database_url: str) -> set[int]:
    """Return the process ids of the writers of open journals; empty before the first migration."""
    connection = await asyncpg.connect(database_url, timeout=5)
    try:
        rows = await connection.fetch("SELECT writer->>'pid' AS pid FROM ledger.journals WHERE sealed_at IS NULL")
    except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
        return set()
    finally:
        connection.terminate()
    return {int(row["pid"]) for row in rows}


def children(pid: int) -> list[int]:
    """Return the living children of a process."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        with contextlib.suppress(OSError):
            found += [int(child) for child in task.read_text().split()]
    return [child for child in found if is_alive(child)]


def is_worker(pid: int) -> bool:
    """Tell whether a child is a worker rather than the tracker of multiprocessing's resources."""
    try:
        return b"--multiprocessing-fork" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def is_alive(pid: int) -> bool:
    """Tell whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False
