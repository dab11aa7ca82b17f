"""The Postgres backends that journals are written through: opening one, and ending one that hangs.

A backend whose client is gone, or that stands still inside a COPY, holds the key that it was about to write: until TCP
gives up, which takes hours, nobody else can append there. Only the same login may end it, so that is done before the
session becomes the application's role.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

import asyncpg

from ledger.postgres.connect import APP_ROLE, connect

_SELF: Final = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
#: The promises are about acknowledged commits: a database set to lose them would break each one. The value is pinned
#: for the session, since a reload of the server's configuration would otherwise change it in passing.
_PIN: Final = """
SELECT set_config('synchronous_commit', CASE v WHEN 'off' THEN 'on' ELSE v END, false)
FROM current_setting('synchronous_commit') AS v
"""
_TERMINATE: Final = "SELECT pg_terminate_backend(pid, 2000) FROM pg_stat_activity WHERE pid = $1 AND backend_start = $2"


@dataclass(frozen=True, slots=True)
class Backend:
    """A backend by its process id and start, so that a reused id is not mistaken for it."""

    pid: int
    started_at: datetime


async def connect_writer(url: str, former: Backend | None = None) -> tuple[asyncpg.Connection, Backend]:
    """Open a journal's connection, and end the backend of the `former` one if it is still there.

    Raises:
        OSError, TimeoutError, asyncpg.PostgresError: the database is out of reach or refuses.
    """
    connection = await connect(url, purpose="journal", role=None, lock_timeout="5s", statement_timeout="0")
    try:
        row = await connection.fetchrow(_SELF)
        assert row is not None  # noqa: S101 - a backend sees itself
        await connection.execute(_PIN)
        if former is not None:
            await end_backend(connection, former)
        await connection.execute(f"SET ROLE {APP_ROLE}")
    except BaseException:
        connection.terminate()
        raise
    return connection, Backend(row["pid"], row["backend_start"])


async def end_backend(connection: asyncpg.Connection, backend: Backend) -> bool:
    """End a backend and wait up to two seconds for its end; return whether it was there and has ended."""
    return bool(await connection.fetchval(_TERMINATE, backend.pid, backend.started_at))
