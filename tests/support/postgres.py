"""Databases for tests: one server a test run, shared by its workers, a copy of a migrated template for each test.

The shared server is the product's own embedded one with durability relaxed, or the one that TEST_DATABASE_SERVER_URL
names (a superuser's URL; `scripts/test-postgres15` sets it). A `PrivateServer` is durable and for stopping and killing.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import secrets
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import psycopg
from psycopg import sql

from ledger.postgres import embedded_account, embedded_binaries, embedded_cluster, embedded_process
from ledger.postgres.embedded import start
from ledger.postgres.embedded_layout import Layout
from ledger.postgres.url import parse

SERVER_URL_VARIABLE = "TEST_DATABASE_SERVER_URL"
MAINTENANCE = "postgres"
TEMPLATE_LOCK = 7_311_942_007_999
RELAXED = {"fsync": "off", "full_page_writes": "off", "max_wal_size": "1GB", "max_connections": "400"}
#: A file system in memory, and how much of it must be free for servers of tests to lie there.
MEMORY = Path("/dev/shm")  # noqa: S108 - each server makes a directory of its own there
MEMORY_FREE_BYTES = 6 << 30
READY_S = 60.0


def place() -> Path:
    """Choose where servers lie: in memory where there is room, since making a database is mostly making files.

    A test kills processes, never the machine; to those, what was written is as durable there.
    """
    with contextlib.suppress(OSError):
        if os.access(MEMORY, os.W_OK | os.X_OK) and shutil.disk_usage(MEMORY).free >= MEMORY_FREE_BYTES:
            return MEMORY
    return Path(tempfile.gettempdir())


@dataclasses.dataclass(frozen=True)
class Run:
    """A test run: its workers find each other's server and template by `run_id`, in the same `place`."""

    run_id: str = dataclasses.field(default_factory=lambda: secrets.token_hex(8))
    place: Path = dataclasses.field(default_factory=place)

    @property
    def server_dir(self) -> Path:
        """The shared server's directory; `start` makes it, with a mode that lets Postgres' own user in."""
        return self.place / f"responses-ledger-test-{self.run_id}"

    @property
    def template(self) -> str:
        """The migrated database that tests copy."""
        return f"ledger_template_{self.run_id}"

    def clean_up(self) -> None:
        """Remove what workers left, killed ones too; called once, when no worker lives."""
        if SERVER_URL_VARIABLE in os.environ:
            Databases(self, os.environ[SERVER_URL_VARIABLE]).drop(self.template)
        elif self.server_dir.exists():
            start(self.server_dir, linger_s=5, settings=RELAXED).release()
            remove(self.server_dir)


class Databases:
    """Makes and drops databases on one server."""

    def __init__(self, run: Run, server_url: str) -> None:
        self._run = run
        self._target = parse(server_url).with_database(MAINTENANCE)

    def create(self, *, migrated: bool) -> str:
        """Make a database and return its URL; the first migrated one of a run makes the template."""
        name = f"test_{self._run.run_id}_{secrets.token_hex(6)}"
        if migrated:
            self._ensure_template()
            self._execute("CREATE DATABASE {} TEMPLATE {}", name, self._run.template)
        else:
            self._execute("CREATE DATABASE {} TEMPLATE template0", name)
        return self._target.with_database(name).to_url()

    def drop(self, name_or_url: str) -> None:
        """Drop a database with everybody who is still connected to it."""
        name = parse(name_or_url).database if "://" in name_or_url else name_or_url
        self._execute("DROP DATABASE IF EXISTS {} WITH (FORCE)", name or "")

    def _ensure_template(self) -> None:
        from ledger.postgres.migrate import upgrade  # noqa: PLC0415 - tests without a schema need no migrations

        with psycopg.connect(self._target.to_url(), autocommit=True) as connection:
            connection.execute("SELECT pg_advisory_lock(%s)", [TEMPLATE_LOCK])
            found = connection.execute("SELECT 1 FROM pg_database WHERE datname = %s", [self._run.template]).fetchone()
            if found is None:
                # Renamed when complete, so that an interrupted migration is no template.
                staging = f"{self._run.template}_new"
                self.drop(staging)
                self._execute("CREATE DATABASE {} TEMPLATE template0", staging)
                upgrade(self._target.with_database(staging).to_url())
                self._execute("ALTER DATABASE {} RENAME TO {}", staging, self._run.template)

    def _execute(self, statement: str, *names: str) -> None:
        composed = sql.SQL(statement).format(*map(sql.Identifier, names))  # pyright: ignore[reportArgumentType] - literals here
        with psycopg.connect(self._target.to_url(), autocommit=True) as connection:
            connection.execute(composed)


class PrivateServer:
    """A durable server of one test, without a watcher: it stays down until the test starts it again."""

    def __init__(self, directory: Path, settings: Mapping[str, str] | None = None) -> None:
        layout = Layout(directory / "postgres")
        layout.home.mkdir(parents=True, mode=0o711)
        account = embedded_account.choose(layout.cluster)
        binaries = embedded_binaries.reachable(account)
        embedded_cluster.create(layout, binaries, account, {"max_connections": "100", **(settings or {})})
        self._layout = layout
        self._port = embedded_cluster.choose_port(layout)
        self._plan = embedded_process.Plan(
            home=str(layout.home),
            cluster=str(layout.cluster),
            postgres=str(binaries.bin / "postgres"),
            port=self._port,
            linger_s=0,
            uid=None if account is None else account.uid,
            gid=None if account is None else account.gid,
        )
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """The superuser's URL of the empty database `ledger`; the same after every start."""
        password = embedded_cluster.read_password(self._layout)
        return (
            f"postgresql://{embedded_cluster.SUPERUSER}:{password}@127.0.0.1:{self._port}/{embedded_cluster.DATABASE}"
        )

    @property
    def pid(self) -> int:
        """The postmaster's process id."""
        assert self._process is not None, "the server is not started"
        return self._process.pid

    def start(self) -> None:
        """Start and wait until it is ready, after a kill through crash recovery."""
        embedded_process.clear_leftovers(self._layout.cluster)
        embedded_process.clear_stale_pid_file(self._layout.cluster)
        with self._layout.log.open("ab") as log:
            self._process = embedded_process.launch(self._plan, log.fileno())
        deadline = time.monotonic() + READY_S
        while (found := embedded_process.read_postmaster(self._layout.cluster)) is None or found.status != "ready":
            assert self._process.poll() is None, embedded_process.log_tail(self._layout.log)
            assert time.monotonic() < deadline, embedded_process.log_tail(self._layout.log)
            time.sleep(0.01)

    def stop(self) -> None:
        """Stop as an administrator would (fast); safe when it is down."""
        if self._process is not None:
            embedded_process.stop(self._process.pid, self._layout.cluster, self._process)
            self._process = None

    def kill(self) -> None:
        """Send SIGKILL to the postmaster; its backends end by themselves."""
        assert self._process is not None, "the server is not started"
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)
        self._process = None

    def remove(self) -> None:
        """End it without a last checkpoint, which may take seconds, and delete."""
        if self._process is not None:
            self._process.send_signal(signal.SIGQUIT)
            self._process.wait(30)
        remove(self._layout.home.parent)


def reachable_directory(within: Path | None = None) -> Path:
    """Make a directory that Postgres' own user can pass through, unlike pytest's `tmp_path` under root."""
    directory = (within or Path(tempfile.gettempdir())) / f"responses-ledger-test-{secrets.token_hex(8)}"
    directory.mkdir()
    directory.chmod(0o711)
    return directory


def remove(directory: Path) -> None:
    """Delete a server's directory, and its cluster if that lies elsewhere."""
    cluster = Layout(directory / "postgres").cluster
    shutil.rmtree(cluster, ignore_errors=True)
    shutil.rmtree(directory)
