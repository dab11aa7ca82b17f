"""Starts and stops the processes that a measurement needs, and reads how much CPU they used.

Each runs in a process group of its own, so that workers end with their parent. `load` puts load on them.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

START_TIMEOUT_S = 60.0
STOP_TIMEOUT_S = 20.0
_POLL_S = 0.02
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


class ProcessError(Exception):
    """A process of the benchmark did not start or did not stop; the message ends with its last output."""


@dataclass(frozen=True)
class Running:
    """A started process: its first process id, its URL, its log file and how long it took to be ready."""

    pid: int
    url: str
    log: Path
    ready_s: float

    def cpu_s(self) -> float:
        """CPU seconds, user and system, that the process's group has used so far and that live in it still."""
        return sum(_cpu_s(pid) for pid in _group(self.pid))

    def resident_bytes(self) -> int:
        """Resident memory of the process's group."""
        return sum(_resident_bytes(pid) for pid in _group(self.pid))

    def proportional_bytes(self) -> int:
        """Memory of the process's group, pages that several share counted once: the sum of proportional set sizes."""
        return sum(_proportional_bytes(pid) for pid in _group(self.pid))


def free_port() -> int:
    """A port of 127.0.0.1 that nobody listens on at the moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextlib.contextmanager
def running(
    argv: Sequence[str],
    *,
    port: int,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    ready_line: str | None = None,
) -> Generator[Running]:
    """Run `argv` until the block ends; ready when `port` answers or, where given, when `ready_line` is printed."""
    with tempfile.NamedTemporaryFile("wb", prefix="bench-", suffix=".log", delete=False) as log:
        started = time.perf_counter()
        process = subprocess.Popen(
            list(argv),
            stdout=log,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(env or {})},
            cwd=cwd,
            start_new_session=True,
        )
    path = Path(log.name)
    try:
        _await_ready(process, port, path, ready_line)
        yield Running(process.pid, f"http://127.0.0.1:{port}", path, time.perf_counter() - started)
    finally:
        stop(process)
        path.unlink(missing_ok=True)


@contextlib.contextmanager
def upstream(*, blocks: int = 100, writes: int = 1, pause_ms: float = 0.0) -> Generator[Running]:
    """The stand-in upstream of `benchmarks.upstream`."""
    port = free_port()
    argv = [sys.executable, "-m", "benchmarks.upstream", "--port", str(port), "--blocks", str(blocks)]
    argv += ["--writes", str(writes), "--pause-ms", str(pause_ms)]
    with running(argv, port=port) as process:
        yield process


def stop(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM to the process, then SIGKILL to what is left of its group."""
    if process.poll() is None:
        process.terminate()
    try:
        process.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _await_ready(process: subprocess.Popen[bytes], port: int, log: Path, ready_line: str | None) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            raise ProcessError(f"exited with {process.returncode} before it was ready:\n{_tail(log)}")
        if ready_line is None:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        elif ready_line in log.read_text(errors="replace"):
            return
        time.sleep(_POLL_S)
    raise ProcessError(f"not ready after {START_TIMEOUT_S:.0f} s on port {port}:\n{_tail(log)}")


def _tail(log: Path) -> str:
    return "\n".join(log.read_text(errors="replace").splitlines()[-20:])


def _group(pgid: int) -> list[int]:
    """Process ids of the group, read from /proc."""
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    return [pid for pid in pids if (fields := _stat(pid)) and int(fields[2]) == pgid]


def _stat(pid: int) -> list[str] | None:
    """The fields of /proc/PID/stat after the command's name: state, parent, group, ..."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _cpu_s(pid: int) -> float:
    fields = _stat(pid)
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS if fields else 0.0


def _resident_bytes(pid: int) -> int:
    fields = _stat(pid)
    return int(fields[21]) * os.sysconf("SC_PAGE_SIZE") if fields else 0


def _proportional_bytes(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:")), 0)
