"""Opens connections to the book's database, as its own role; the one place that does so.

`url.py` reads URLs. Who pools or keeps a connection says so where it lives: journal writers hold one each, projections
and reports share an engine.
"""

import asyncio
from typing import TYPE_CHECKING

import asyncpg

from ledger.postgres.url import parse

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncEngine

APP_ROLE = "responses_ledger_app"
REPORTING_ROLE = "responses_ledger_reporting"

#: An unreachable server is known as such after this long, where the URL has no `connect_timeout`.
CONNECT_TIMEOUT_S = 10

#: What a lost or unreachable database raises; a query's own faults are `asyncpg.PostgresError`s of other classes.
CONNECTION_LOST = (
    OSError,
    asyncio.TimeoutError,
    asyncpg.InterfaceError,
    asyncpg.PostgresConnectionError,
    asyncpg.InternalClientError,
    asyncpg.exceptions.AdminShutdownError,
    asyncpg.exceptions.CrashShutdownError,
    asyncpg.exceptions.CannotConnectNowError,
    asyncpg.exceptions.TooManyConnectionsError,
    asyncpg.exceptions.IdleInTransactionSessionTimeoutError,
)


async def connect(url: str, *, purpose: str, role: str | None = APP_ROLE, **settings: str) -> asyncpg.Connection:
    """Open a connection that acts as `role` (None: the login itself) and shows `purpose` in pg_stat_activity.

    `settings` are server settings of the session, for example `lock_timeout="2s"`.

    Raises:
        DatabaseUrlError: the URL cannot be read.
        OSError, asyncpg.PostgresError: there is no server, or it refuses.
    """
    # Folds and the opening of journals are written for READ COMMITTED, whatever the database's default is.
    settings = {"default_transaction_isolation": "read committed", **settings}
    session = {"application_name": f"responses-ledger {purpose}", "timezone": "UTC", **settings}
    if role is not None:
        # As a start-up setting it outlives RESET ALL, which SET ROLE would not.
        session["role"] = role
    target = parse(url)
    arguments = target.asyncpg_kwargs()
    session = {**arguments.pop("server_settings", {}), **session}
    timeout_s = target.connect_timeout_s or CONNECT_TIMEOUT_S
    return await asyncpg.connect(**arguments, server_settings=session, timeout=timeout_s)


def engine(
    url: str, *, purpose: str, role: str | None = APP_ROLE, pool_size: int = 5, **settings: str
) -> "AsyncEngine":
    """Make a pooled SQLAlchemy engine whose connections are `connect`'s; at most `pool_size` of them."""
    from sqlalchemy.ext.asyncio import create_async_engine  # noqa: PLC0415 - most commands need none, and it takes 0.2 s

    async def create(*_arguments: object, **_keywords: object) -> asyncpg.Connection:
        return await connect(url, purpose=purpose, role=role, **settings)

    return create_async_engine(
        "postgresql+asyncpg://",
        async_creator=create,
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=10,
        pool_pre_ping=True,
    )
