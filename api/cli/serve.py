"""`llm --config FILE`: prepares everything, starts the server, says that it runs, and ends it cleanly.

The parent prepares (config, database, schema, master key) and prints; the serving is `api.app`, in this process or in
workers. Nothing listens before the schema fits.
"""

import contextlib
import http.client
import os
import secrets
import signal
import socket
import sys
import threading
import time
from collections.abc import Generator
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from typing import Any, Final, cast

import asyncpg
import click
import uvicorn
from uvicorn.supervisors.multiprocess import Multiprocess

from api.config import Config, load
from api.config_nodes import ConfigError
from api.http_protocol import protocol
from api.loading import collector_paused
from api.logs import follow_config, set_up_logging
from api.metrics.cells import shared_directory
from api.settings import Settings
from api.worker import FACTORY, hand_over
from ledger.postgres.embedded import EmbeddedPostgresError, EmbeddedServer, start
from ledger.postgres.embedded_keeping import kept_running
from ledger.postgres.migrate import SchemaMismatchError, upgrade
from ledger.postgres.url import DatabaseUrlError, parse

MASTER_KEY_FILE: Final = "master_key"
_READY_TIMEOUT_S: Final = 60.0
_BACKLOG: Final = 2_048


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """The command line's options."""

    config_file: Path
    host: str
    port: int
    num_workers: int
    database_url: str | None


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a server needs: everything that can go wrong before it listens has gone right."""

    config: Config
    database_url: str
    data_dir: Path
    master_key: str
    is_new_master_key: bool
    embedded: EmbeddedServer | None


def serve(options: ServeOptions) -> int:
    """Serve until a signal ends it; return the exit status."""
    set_up_logging()
    try:
        with _prepared(options) as prepared, _listening(options.host, options.port) as listener:
            follow_config(prepared.config, prepared.database_url, prepared.master_key)
            return _run(options, prepared, listener)
    except ConfigError as error:
        click.echo(str(error), err=True)
    except (SchemaMismatchError, EmbeddedPostgresError, DatabaseUrlError) as error:
        click.echo(f"llm: {error}", err=True)
    except (OSError, asyncpg.PostgresError) as error:
        click.echo(f"llm: {_explained(options, error)}", err=True)
    return 1


def _explained(options: ServeOptions, error: Exception) -> str:
    if isinstance(error, OSError) and error.filename is None and "address already in use" in str(error).lower():
        return f"port {options.port} on {options.host} is in use: end what listens there, or choose another by --port"
    return f"the database cannot be used: {type(error).__name__}: {error}"


@contextlib.contextmanager
def _prepared(options: ServeOptions) -> Generator[Prepared]:
    settings = Settings.read()
    config = load(options.config_file, settings.environ)
    for warning in config.warnings:
        click.echo(f"warning: {warning}", err=True)
    _warn_about_namesakes()
    data_dir = config.general.data_dir or settings.data_dir
    url = options.database_url or config.general.database_url or settings.database_url
    with contextlib.ExitStack() as stack:
        embedded = None
        if url is None:
            embedded = stack.enter_context(start(data_dir))
            stack.enter_context(kept_running(embedded))
            url = embedded.url
        else:
            for name in parse(url).ignored:
                click.echo(f"warning: {name} in the database URL is not honoured", err=True)
        # With an owner's URL the login of `url` need not own anything.
        upgrade(settings.owner_database_url or url)
        master_key, is_new = _master_key(config, settings, data_dir)
        yield Prepared(config, url, data_dir, master_key, is_new, embedded)


def _master_key(config: Config, settings: Settings, data_dir: Path) -> tuple[str, bool]:
    """Return the master key and whether it was made just now."""
    given = config.general.master_key or settings.master_key
    if given:
        return given, False
    data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    file = data_dir / MASTER_KEY_FILE
    made = f"sk-{secrets.token_urlsafe(32)}"
    try:
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file.read_text().strip(), False
    with os.fdopen(descriptor, "w") as handle:
        handle.write(made + "\n")
    return made, True


@contextlib.contextmanager
def _listening(host: str, port: int) -> Generator[socket.socket]:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.set_inheritable(True)
        yield listener


def _run(options: ServeOptions, prepared: Prepared, listener: socket.socket) -> int:
    port: int = listener.getsockname()[1]
    ready = threading.Thread(target=_announce, args=(options, prepared, port), daemon=True, name="announce")
    if options.num_workers == 1:
        with collector_paused():
            from api.app import Application  # noqa: PLC0415 - a parent of workers does not need it

            application = Application(prepared.config, prepared.database_url, prepared.master_key, owns_process=True)
        server = uvicorn.Server(_uvicorn(application, prepared, workers=1))
        for number in (signal.SIGTERM, signal.SIGINT):
            # uvicorn raises the signal once more when it has ended, while the embedded Postgres is still to be stopped.
            signal.signal(number, lambda _number, _frame: None)
        ready.start()
        server.run(sockets=[listener])
        return 0 if server.started else 1
    with shared_directory() as metrics_dir:
        hand_over(options.config_file, prepared.database_url, prepared.master_key, metrics_dir)
        config = _uvicorn(FACTORY, prepared, workers=options.num_workers)
        ready.start()
        _Workers(config, sockets=[listener]).run()
    return 0


class _Workers(Multiprocess):
    """uvicorn's supervisor, which notices a worker's death at once, even while it waits for a sign of its life.

    It keeps the worker's end of the pipe between them open, so that a death would not end that wait: it would take
    `timeout_worker_healthcheck` until there is another worker.
    """

    def init_processes(self) -> None:
        super().init_processes()
        self._close_far_ends()

    def keep_subprocess_alive(self) -> None:
        super().keep_subprocess_alive()
        self._close_far_ends()

    def _close_far_ends(self) -> None:
        for process in self.processes:
            process.child_conn.close()


def _uvicorn(application: object, prepared: Prepared, *, workers: int) -> uvicorn.Config:
    """Return uvicorn's configuration; a worker's application is named, since it is made in the worker."""
    return uvicorn.Config(
        cast("Any", application),
        factory=isinstance(application, str),
        workers=workers,
        loop="uvloop",
        http=protocol(prepared.config.general.head_timeout_s),
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        # Addresses in headers are what a client says of itself; the book keeps the one that was seen.
        proxy_headers=False,
        timeout_graceful_shutdown=int(prepared.config.general.shutdown_grace_s) + 10,
        timeout_keep_alive=75,
        timeout_worker_healthcheck=30,
        backlog=_BACKLOG,
    )


def _announce(options: ServeOptions, prepared: Prepared, port: int) -> None:
    """Say that the proxy runs, once it does."""
    host = "127.0.0.1" if options.host in {"0.0.0.0", "::"} else options.host  # noqa: S104 - a comparison
    deadline = time.monotonic() + _READY_TIMEOUT_S
    while not _is_ready(host, port):
        if time.monotonic() > deadline:
            click.echo(f"llm: not ready after {_READY_TIMEOUT_S:.0f} s; see the log above", err=True)
            return
        time.sleep(0.03)
    model = prepared.config.model_list[0].model_name
    target = parse(prepared.database_url)
    where = f"{prepared.embedded.data_dir} (embedded Postgres)" if prepared.embedded else str(prepared.data_dir)
    key = prepared.master_key if prepared.is_new_master_key else "$LLM_MASTER_KEY"
    lines = [
        f"RUNNING on http://{options.host}:{port}",
        "",
        "First call:",
        f"  curl http://{host}:{port}/responses -H 'content-type: application/json' \\",
        f'    -H "authorization: Bearer {key}" -d \'{{"model": "{model}", "input": "Hello"}}\'',
        "",
        f"Master key: {_where_is_the_key(prepared)}",
        f'Database:   psql "{prepared.database_url if prepared.embedded else target.redacted()}"',
        f"Data:       {where}",
    ]
    click.echo("\n".join(lines))
    sys.stdout.flush()


def _where_is_the_key(prepared: Prepared) -> str:
    file = prepared.data_dir / MASTER_KEY_FILE
    if prepared.is_new_master_key:
        return f"{prepared.master_key} (shown once; kept in {file})"
    if file.exists() and file.read_text().strip() == prepared.master_key:
        return f"kept in {file}"
    return "as configured"


def _is_ready(host: str, port: int) -> bool:
    connection = http.client.HTTPConnection(host, port, timeout=2)
    try:
        connection.request("GET", "/health/readiness")
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _warn_about_namesakes() -> None:
    """Say so when another distribution brings a package or command named `llm`: one of the two is then shadowed."""
    for name in ("llm", "llm-ledger"):
        with contextlib.suppress(PackageNotFoundError):
            distribution(name)
            click.echo(
                f"warning: the distribution {name!r} is installed beside responses-ledger and brings a package of the "
                "same name; install responses-ledger into a virtual environment of its own",
                err=True,
            )
