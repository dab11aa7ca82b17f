"""One connection that many ask, one after the other: for questions that are short, frequent and need no pool."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

import asyncpg

from ledger.postgres.connect import connect


class SharedConnection:
    """A connection that is made when somebody needs it, and made anew after a failure.

    Args:
        url: the database.
        purpose: what pg_stat_activity shows.
        timeout_s: seconds that a turn may take, the wait for it included.
        statement_timeout: the server's own bound on a statement, as Postgres spells it.
    """

    def __init__(self, url: str, *, purpose: str, timeout_s: float, statement_timeout: str) -> None:
        self._url = url
        self._purpose = purpose
        self._timeout_s = timeout_s
        self._statement_timeout = statement_timeout
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def turn(self) -> AsyncGenerator[asyncpg.Connection]:
        """Have the connection to oneself.

        Raises:
            OSError, TimeoutError, asyncpg.PostgresError: the database is out of reach, or was not heard of in time.
        """
        async with asyncio.timeout(self._timeout_s), self._turn:
            try:
                if self._connection is None or self._connection.is_closed():
                    self._connection = await connect(
                        self._url, purpose=self._purpose, statement_timeout=self._statement_timeout
                    )
                yield self._connection
            except BaseException:
                # What it was asked last may still be under way; only who holds the turn may drop it.
                self.close()
                raise

    def close(self) -> None:
        """Give the connection back; the next turn makes another."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
