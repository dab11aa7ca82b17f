"""Fixtures for everybody: databases and servers; how they come about is in tests/support/postgres.py."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.postgres import (
    RELAXED,
    SERVER_URL_VARIABLE,
    Databases,
    PrivateServer,
    Run,
    place,
    reachable_directory,
    remove,
)

RUN = pytest.StashKey[Run]()
WORKER_KEY = "responses_ledger_run"


def pytest_configure(config: pytest.Config) -> None:
    """Name the run and its place; a worker takes those that its controller chose."""
    given: dict[str, Any] | None = getattr(config, "workerinput", None)
    config.stash[RUN] = Run() if given is None else Run(given[WORKER_KEY][0], Path(given[WORKER_KEY][1]))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of pytest-xdist the run's name and place."""
    run: Run = node.config.stash[RUN]
    node.workerinput[WORKER_KEY] = [run.run_id, str(run.place)]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Leave nothing behind, when all workers have ended."""
    if not hasattr(config, "workerinput") and RUN in config.stash:
        config.stash[RUN].clean_up()


@pytest.fixture(scope="session")
def databases(request: pytest.FixtureRequest) -> Iterator[Databases]:
    """The run's shared server, started by the first test that needs it."""
    from ledger.postgres.embedded import start  # noqa: PLC0415 - unit tests do not pay for it

    run = request.config.stash[RUN]
    if SERVER_URL_VARIABLE in os.environ:
        yield Databases(run, os.environ[SERVER_URL_VARIABLE])
        return
    with start(run.server_dir, linger_s=10, settings=RELAXED) as server:
        yield Databases(run, server.url)


@pytest.fixture
def database_url(databases: Databases) -> Iterator[str]:
    """A fresh migrated database, as the superuser; dropped afterwards."""
    url = databases.create(migrated=True)
    yield url
    databases.drop(url)


@pytest.fixture
def empty_database_url(databases: Databases) -> Iterator[str]:
    """A fresh database without the ledger's schema."""
    url = databases.create(migrated=False)
    yield url
    databases.drop(url)


@pytest.fixture
def postgres_server() -> Iterator[Callable[..., PrivateServer]]:
    """Make started, durable servers of the test's own; arguments are server settings, `max_connections="50"`."""
    made: list[PrivateServer] = []

    def make(**settings: str) -> PrivateServer:
        server = PrivateServer(reachable_directory(place()), settings)
        made.append(server)
        server.start()
        return server

    yield make
    for server in made:
        server.remove()


@pytest.fixture
def server_dir() -> Iterator[Path]:
    """A data directory for an embedded server, reachable by Postgres' own user; deleted afterwards."""
    directory = reachable_directory()
    yield directory
    remove(directory)
