"""A postmaster seen from outside: is it there, whose are its backends, start it, stop it.

Only the standard library, because the watcher runs without site-packages. Nothing here decides when to start or stop;
that is `embedded_watcher.py`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import time
from pathlib import Path

PROC = Path("/proc")
FAST_STOP_S = 20.0
IMMEDIATE_STOP_S = 5.0
LEFTOVER_GRACE_S = 0.5
POLL_S = 0.02
PIDFILE_LINES = 8  # https://www.postgresql.org/docs/18/storage-file-layout.html; the eighth line is the status


@dataclasses.dataclass(frozen=True)
class Plan:
    """What the watcher needs to know; `uid` and `gid` are None where Postgres runs as the proxy's own user."""

    home: str
    cluster: str
    postgres: str
    port: int
    linger_s: float
    uid: int | None
    gid: int | None

    def to_json(self) -> str:
        """Write the plan as one command line argument."""
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Plan:
        """Read what `to_json` wrote."""
        return cls(**json.loads(text))


@dataclasses.dataclass(frozen=True)
class Postmaster:
    """A living postmaster as its pid file describes it; `status` is starting, ready, stopping or standby."""

    pid: int
    port: int
    status: str


def read_postmaster(cluster: Path) -> Postmaster | None:
    """Read the living postmaster of `cluster`; None when there is none, be the pid file absent, torn or stale."""
    try:
        lines = (cluster / "postmaster.pid").read_text().splitlines()
        pid, port = int(lines[0]), int(lines[3])
    except (OSError, ValueError, IndexError):
        return None
    if not is_alive(pid, cluster):
        return None
    status = lines[PIDFILE_LINES - 1].strip() if len(lines) >= PIDFILE_LINES else "starting"
    return Postmaster(pid=pid, port=port, status=status)


def is_alive(pid: int, cluster: Path) -> bool:
    """Tell whether `pid` is a running process of this cluster, and not a stranger that got the number later."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, PermissionError):
        return False
    if not PROC.is_dir():
        return True
    try:
        state = (PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
        return state not in {"Z", "X"} and _works_in(pid, cluster)
    except OSError:
        return False


def leftovers(cluster: Path) -> list[int]:
    """List the Postgres processes that work in `cluster`, postmaster or orphan; empty where there is no /proc."""
    if not PROC.is_dir():
        return []
    return [int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit() and _is_postgres_in(entry, cluster)]


def clear_leftovers(cluster: Path) -> None:
    """End what a killed postmaster left behind, so that the next one finds the shared memory free.

    Orphans notice by themselves within milliseconds; a stopped or busy one does not, and Postgres refuses to start
    beside it. Killing is safe: after a dead postmaster the cluster goes through crash recovery anyway.
    """
    deadline = time.monotonic() + LEFTOVER_GRACE_S
    while (pids := leftovers(cluster)) and time.monotonic() < deadline:
        time.sleep(POLL_S)
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    deadline = time.monotonic() + IMMEDIATE_STOP_S
    while leftovers(cluster) and time.monotonic() < deadline:
        time.sleep(POLL_S)


def clear_stale_pid_file(cluster: Path) -> None:
    """Remove a pid file whose number now belongs to a zombie or to a stranger; call it with no postmaster alive.

    Postgres takes any process of its user with that number for a living postmaster and refuses to start. Numbers come
    round quickly in a container, and one whose first process reaps nobody keeps its zombies for ever.
    """
    path = cluster / "postmaster.pid"
    with contextlib.suppress(OSError, ValueError, IndexError):
        pid = int(path.read_text().splitlines()[0])
        os.kill(pid, 0)  # where there is no such process, Postgres finds out itself
        if PROC.is_dir() and not is_alive(pid, cluster):
            path.unlink()


def child_environment() -> dict[str, str]:
    """Give the environment of the server's programs: nothing of PG* and no locale of the caller may leak in."""
    kept = {name: os.environ[name] for name in ("LD_LIBRARY_PATH", "PATH") if name in os.environ}
    return {"PATH": os.defpath, **kept, "LC_ALL": "C", "TZ": "UTC"}


def launch(plan: Plan, log_fd: int) -> subprocess.Popen[bytes]:
    """Start a postmaster on the plan's port, 127.0.0.1 only, no Unix socket, its log going to `log_fd`."""
    command = [
        *(plan.postgres, "-D", plan.cluster, "-p", str(plan.port)),
        *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
    ]
    return subprocess.Popen(  # noqa: S603 - our own binary, no shell
        command,
        stdin=subprocess.DEVNULL,
        stdout=log_fd,
        stderr=log_fd,
        cwd="/",
        env=child_environment(),
        umask=0o077,
        start_new_session=True,
        user=plan.uid,
        group=plan.gid,
        extra_groups=None if plan.uid is None else [],
    )


def stop(pid: int, cluster: Path, child: subprocess.Popen[bytes] | None = None) -> None:
    """Stop a postmaster: fast, after 20 s immediately, after 5 s more by SIGKILL; bounded whatever it does."""
    steps = ((signal.SIGINT, FAST_STOP_S), (signal.SIGQUIT, IMMEDIATE_STOP_S), (signal.SIGKILL, IMMEDIATE_STOP_S))
    for how, patience_s in steps:
        if not _is_running(pid, cluster, child):
            break
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, how)
        deadline = time.monotonic() + patience_s
        while _is_running(pid, cluster, child) and time.monotonic() < deadline:
            time.sleep(POLL_S)
    clear_leftovers(cluster)


def log_tail(log: Path, lines: int = 15) -> str:
    """Give the last lines of a server log, indented for an error message; a note when there are none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - 16_384))
            tail = file.read().decode("utf-8", "replace").splitlines()[-lines:]
    except OSError as error:
        return f"  (no server log: {error})"
    return "\n".join(f"  {line}" for line in tail) or "  (the server log is empty)"


def _is_running(pid: int, cluster: Path, child: subprocess.Popen[bytes] | None) -> bool:
    # A child of ours is asked for its exit status: just started, it does not work in the cluster yet.
    return child.poll() is None if child is not None else is_alive(pid, cluster)


def _works_in(pid: int, cluster: Path) -> bool:
    # Every Postgres process makes the data directory its working directory, which the kernel shows by its true path.
    try:
        return (PROC / str(pid) / "cwd").readlink() == cluster.resolve()
    except PermissionError:
        return False


def _is_postgres_in(entry: Path, cluster: Path) -> bool:
    try:
        return (entry / "comm").read_text().strip() == "postgres" and _works_in(int(entry.name), cluster)
    except OSError:
        return False
