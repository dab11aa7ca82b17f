"""Runs the migrations by Alembic, one process at a time, under bounded waits.

`migrate.py` calls `migrate` where there is something to do; `run_in_context` serves `alembic upgrade head` through
migrations/env.py.
"""

import asyncio
import os
import time
from importlib.resources import files
from typing import Any

import asyncpg
from alembic import command
from alembic.config import Config
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine
from sqlalchemy.pool import NullPool

from ledger.postgres.connect import connect
from ledger.postgres.schema import SchemaMismatchError, refuse_newer_schema

#: Another process may be migrating; after this long it is said who to look for.
LOCK_WAIT_S = 120.0
_LOCK_KEY = 7_311_942_007_001
_CONNECTION = "connection"
MINIMUM_SERVER = 150_000


async def migrate(url: str) -> None:
    """Bring the database at `url` to the code's schema, as the URL's own login.

    Raises:
        SchemaMismatchError: the schema is newer than the code, or the server is older than Postgres 15.
        OSError, asyncpg.PostgresError: the database cannot be reached or refuses.
    """
    engine = _engine(url)
    try:
        async with engine.connect() as connection:
            await connection.run_sync(_upgrade_on)
    finally:
        await engine.dispose()


def _engine(url: str) -> AsyncEngine:
    async def create(*_arguments: object, **_keywords: object) -> asyncpg.Connection:
        return await connect(url, purpose="migrate", role=None, lock_timeout="10s", statement_timeout="10min")

    return create_async_engine("postgresql+asyncpg://", async_creator=create, poolclass=NullPool)


def _configuration() -> Config:
    config = Config()
    config.set_main_option("script_location", str(files("migrations")))
    config.set_main_option("path_separator", "os")
    return config


def _upgrade_on(connection: Connection) -> None:
    _refuse_old_server(connection)
    refuse_newer_schema(current(connection))
    config = _configuration()
    config.attributes[_CONNECTION] = connection
    command.upgrade(config, "head")


def _refuse_old_server(connection: Connection) -> None:
    number = int(connection.scalar(text("SHOW server_version_num")) or 0)
    if number < MINIMUM_SERVER:
        raise SchemaMismatchError(
            f"Postgres {number // 10_000} is too old: responses-ledger needs Postgres 15 or later."
        )


def current(connection: Connection) -> str | None:
    """Return the database's revision; None where the book has not been made yet."""
    if connection.scalar(text("SELECT to_regclass('ledger.alembic_version')")) is None:
        return None
    return connection.scalar(text("SELECT version_num FROM ledger.alembic_version"))


def run_in_context(context: Any) -> None:
    """Run the migrations that Alembic asks for; called by migrations/env.py only."""
    given = context.config.attributes.get(_CONNECTION)
    if context.is_offline_mode():
        context.configure(dialect_name="postgresql", version_table_schema="ledger", literal_binds=True)
        with context.begin_transaction():
            context.execute("CREATE SCHEMA IF NOT EXISTS ledger")
            context.run_migrations()
    elif given is not None:
        _run_on(context, given)
    else:
        _run_from_the_command_line(context)


def _run_from_the_command_line(context: Any) -> None:
    url = os.environ.get("LLM_OWNER_DATABASE_URL") or os.environ.get("DATABASE_URL")
    if not url:
        raise SystemExit("alembic: set DATABASE_URL (or LLM_OWNER_DATABASE_URL) to the book's database.")

    async def run() -> None:
        engine = _engine(url)
        async with engine.connect() as connection:
            await connection.run_sync(lambda sync: _run_on(context, sync))
        await engine.dispose()

    asyncio.run(run())


def _run_on(context: Any, connection: Connection) -> None:
    """Migrate under a session-wide advisory lock: of several starting processes one works and the others wait."""
    _take_lock(connection)
    try:
        connection.execute(text("CREATE SCHEMA IF NOT EXISTS ledger"))
        connection.execute(text("COMMENT ON SCHEMA ledger IS 'The book itself. To read it, use the schema reporting.'"))
        connection.commit()
        context.configure(connection=connection, version_table_schema="ledger")
        with context.begin_transaction():
            context.run_migrations()
        connection.commit()
    finally:
        if not connection.invalidated:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:key)"), {"key": _LOCK_KEY})
            connection.commit()


def _take_lock(connection: Connection) -> None:
    deadline = time.monotonic() + LOCK_WAIT_S
    while not connection.scalar(text("SELECT pg_try_advisory_lock(:key)"), {"key": _LOCK_KEY}):
        connection.rollback()
        if time.monotonic() > deadline:
            raise SchemaMismatchError(
                f"Another process has been migrating this database for {LOCK_WAIT_S:.0f} s "
                "(application_name 'responses-ledger migrate' in pg_stat_activity): "
                "let it finish, or end it, and start again."
            )
        time.sleep(0.1)
    connection.commit()
