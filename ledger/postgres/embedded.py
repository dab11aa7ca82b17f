"""The embedded Postgres: what `DATABASE_URL` falls back to on a machine that has no Postgres.

`start` gives a running server on 127.0.0.1 to as many proxies as share a data directory; the last one to release it
stops it. Locks, in the order in which they are taken: state (starting and releasing exclude each other), users (shared
by proxies; a watcher that holds it alone is stopping the server). Neighbours: `embedded_watcher.py` keeps the server
alive between these calls, `embedded_cluster.py` makes its files.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

from ledger.postgres import embedded_account, embedded_binaries, embedded_cluster, embedded_process, embedded_watcher
from ledger.postgres.embedded_account import Account
from ledger.postgres.embedded_error import EmbeddedPostgresError
from ledger.postgres.embedded_layout import Layout
from ledger.postgres.embedded_locks import FileLock, is_held

__all__ = ["EmbeddedPostgresError", "EmbeddedServer", "start"]

LINGER_S = 60.0
STATE_TIMEOUT_S = 180.0  # somebody else's initdb and start
USERS_TIMEOUT_S = 40.0  # a watcher's stop: 20 s fast, 5 s immediate, 5 s by force
READY_TIMEOUT_S = 120.0  # crash recovery of a full write-ahead log on a slow disk
STOP_TIMEOUT_S = 40.0
PORT_ATTEMPTS = 3
POLL_S = 0.01
SOURCE_ROOT = Path(__file__).resolve().parents[2]


class EmbeddedServer:
    """A share in a running server; the server lives at least until `release`."""

    def __init__(self, layout: Layout, users: FileLock, linger_s: float) -> None:
        self._layout = layout
        self._users = users
        self._linger_s = linger_s
        self._port = 0
        self._password = embedded_cluster.read_password(layout)
        self._released = False

    @property
    def data_dir(self) -> Path:
        """Where the cluster lies, which under root may be outside the directory given to `start`."""
        return self._layout.cluster

    @property
    def log(self) -> Path:
        """The server's log."""
        return self._layout.log

    @property
    def url(self) -> str:
        """The superuser's URL of database `ledger`, its password included; equal for the life of the server."""
        user, database = embedded_cluster.SUPERUSER, embedded_cluster.DATABASE
        return f"postgresql://{user}:{self._password}@127.0.0.1:{self._port}/{database}"

    def ensure_running(self) -> None:
        """Bring watcher and server back if both were killed; the watcher alone does it for the server.

        Does nothing once the share was given back.

        Raises:
            EmbeddedPostgresError: it does not start, or no longer on the port that `url` names.
        """
        with FileLock(self._layout.state_lock) as state:
            state.wait_exclusive(STATE_TIMEOUT_S)
            if not self._released:
                self._bring_up()

    def release(self) -> None:
        """Give the share back; the last one stops the server and waits for its end. Safe to call twice.

        Raises:
            EmbeddedPostgresError: the server does not stop within 40 s, or another process blocks the locks.
        """
        if self._released:
            return
        self._released = True
        with FileLock(self._layout.state_lock) as state:
            state.wait_exclusive(STATE_TIMEOUT_S)
            self._users.close()
            with FileLock(self._layout.users_lock) as users:
                last = users.try_exclusive()
            if last:
                _stop(self._layout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def _bring_up(self) -> None:
        port = _bring_up(self._layout, self._linger_s, self._port or None)
        if self._port and port != self._port:
            raise EmbeddedPostgresError(
                f"the embedded Postgres in {self.data_dir} now listens on port {port} and no longer on {self._port}; "
                f"start this process again"
            )
        self._port = port


def start(data_dir: Path, *, linger_s: float = LINGER_S, settings: Mapping[str, str] | None = None) -> EmbeddedServer:
    """Start the server of `data_dir`, or join the one that runs; makes the directory and the cluster when absent.

    Everything lies in `data_dir/postgres` except a cluster that its user could not reach there (`data_dir` of the
    result is always true). `linger_s`: how long the server outlives proxies that did not release it. `settings` are
    server settings for a new cluster, beside those of `embedded_cluster.SETTINGS`. Blocks, 0.3 s as a rule; bounded.

    Raises:
        EmbeddedPostgresError: why it does not start, with the last lines of the server log, and what to do.
    """
    layout = Layout(data_dir.absolute() / "postgres")
    try:
        _make_home(layout)
        state = FileLock(layout.state_lock)
    except OSError as error:
        raise EmbeddedPostgresError(
            f"cannot write to the data directory {data_dir}: {error.strerror}; make it writable for user id "
            f"{os.geteuid()}, or set LLM_DATA_DIR to a directory that is, or set DATABASE_URL"
        ) from error
    with state:
        state.wait_exclusive(STATE_TIMEOUT_S)
        _prepare(layout, settings or {})
        users = FileLock(layout.users_lock)
        try:
            users.wait_shared(USERS_TIMEOUT_S)
            server = EmbeddedServer(layout, users, linger_s)
            server._bring_up()  # noqa: SLF001  # pyright: ignore[reportPrivateUsage] - this function is its constructor
        except BaseException:
            users.close()
            raise
    return server


def _make_home(layout: Layout) -> None:
    """Make the two directories of ours; for root passable by others, so that Postgres' own user reaches the cluster."""
    mode = 0o711 if os.geteuid() == 0 else 0o700
    for directory in (layout.home.parent, layout.home):
        if not directory.is_dir():
            directory.mkdir(parents=True, exist_ok=True)
            directory.chmod(mode)  # whatever the umask; every file in it has mode 0600


def _prepare(layout: Layout, settings: Mapping[str, str]) -> None:
    cluster = layout.cluster
    if cluster.exists():
        embedded_cluster.check(cluster, embedded_binaries.installed())
        return
    if layout.location.exists():
        raise EmbeddedPostgresError(
            f"{layout.location} says that the ledger's data lies in {cluster}, where nothing is; put it back, "
            f"or remove {layout.location} to start with an empty ledger"
        )
    account = embedded_account.choose(cluster)
    embedded_cluster.create(layout, embedded_binaries.reachable(account), account, settings)


def _bring_up(layout: Layout, linger_s: float, port: int | None) -> int:
    """Have a watcher and a ready server; returns its port, which is `port` if that is given and the server is down."""
    account = embedded_account.choose(layout.cluster)
    binaries = embedded_binaries.reachable(account)
    for attempt in range(1, PORT_ATTEMPTS + 1):
        if not is_held(layout.watcher_lock):
            chosen = port or embedded_cluster.choose_port(layout)
            _spawn_watcher(layout, binaries.bin / "postgres", account, chosen, linger_s)
        if (ready := _wait_until_ready(layout)) is not None:
            return ready
        tail = embedded_process.log_tail(layout.log)
        if attempt == PORT_ATTEMPTS or port is not None or "Address already in use" not in tail:
            raise EmbeddedPostgresError(
                f"the embedded Postgres in {layout.cluster} does not start; the end of {layout.log}:\n{tail}"
            )
        layout.port.unlink(missing_ok=True)  # somebody took the port since it was looked at: choose another
    raise AssertionError("the last attempt returns or raises")


def _spawn_watcher(layout: Layout, postgres: Path, account: Account | None, port: int, linger_s: float) -> None:
    plan = embedded_process.Plan(
        home=str(layout.home),
        cluster=str(layout.cluster),
        postgres=str(postgres),
        port=port,
        linger_s=linger_s,
        uid=None if account is None else account.uid,
        gid=None if account is None else account.gid,
    )
    # -I -S: no site-packages and nothing of the caller's environment, so that it starts in some 30 ms.
    program = (
        f"import sys; sys.path.insert(0, {str(SOURCE_ROOT)!r}); "
        f"from ledger.postgres.embedded_watcher import main; sys.exit(main(sys.argv[1]))"
    )
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and program
            [sys.executable, "-I", "-S", "-c", program, plan.to_json()],
            check=False,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            timeout=READY_TIMEOUT_S,
        )
    except subprocess.TimeoutExpired as error:
        raise EmbeddedPostgresError(
            f"the watcher of the embedded Postgres has not started within {READY_TIMEOUT_S:.0f} s; start again"
        ) from error
    if done.returncode not in {0, embedded_watcher.ALREADY_WATCHED}:
        raise EmbeddedPostgresError(f"the watcher of the embedded Postgres ended with status {done.returncode}")


def _wait_until_ready(layout: Layout) -> int | None:
    """Wait for a ready server and return its port; None when its watcher gave up."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while time.monotonic() < deadline:
        watched = is_held(layout.watcher_lock)
        running = embedded_process.read_postmaster(layout.cluster)
        if running is not None and running.status == "ready":
            return running.port
        if not watched:
            return None
        time.sleep(POLL_S)
    raise EmbeddedPostgresError(
        f"the embedded Postgres in {layout.cluster} is not ready after {READY_TIMEOUT_S:.0f} s; it goes on in the "
        f"background, start again later; the end of {layout.log}:\n{embedded_process.log_tail(layout.log)}"
    )


def _stop(layout: Layout) -> None:
    """Have the watcher stop the server; without a watcher stop it here."""
    deadline = time.monotonic() + STOP_TIMEOUT_S
    if is_held(layout.watcher_lock):
        with contextlib.suppress(OSError, ValueError):
            os.kill(int(layout.watcher_pid.read_text()), signal.SIGTERM)
        while is_held(layout.watcher_lock):
            if time.monotonic() >= deadline:
                raise EmbeddedPostgresError(
                    f"the embedded Postgres in {layout.cluster} has not stopped within {STOP_TIMEOUT_S:.0f} s; "
                    f"see {layout.log}"
                )
            time.sleep(POLL_S)
    running = embedded_process.read_postmaster(layout.cluster)
    if running is not None:
        embedded_process.stop(running.pid, layout.cluster)
