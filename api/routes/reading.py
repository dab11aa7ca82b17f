"""Connections for reading the book, and what a client is told when the database does not answer in time.

Reports read in one snapshot: the statements of one answer see the same book, so that sums and their parts agree.
"""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import Final, Literal
from weakref import WeakKeyDictionary

import asyncpg
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.errors import ApiFailure, unavailable
from ledger.postgres.connect import CONNECTION_LOST

Isolation = Literal["READ COMMITTED", "REPEATABLE READ"]

#: SQLSTATE of a statement that ran into its timeout.
_CANCELLED: Final = "57014"
#: Connection exceptions, insufficient resources, operator intervention (PostgreSQL, appendix A).
_AWAY: Final = ("08", "53", "57")


#: Reports at once, of the pool's six connections: the others are for what administration looks up.
REPORTS_MAX: Final = 4
#: Of these, tables that are streamed, which take as long as their reader likes.
STREAMS_MAX: Final = 2
#: Reports that may wait for their turn, and how long.
WAITING_MAX: Final = 32
_WAIT_S: Final = 10.0


@dataclass
class _Turns:
    """The turns of one pool's reports. Whoever comes when too many wait is told to come again."""

    reports: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(REPORTS_MAX))
    streams: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(STREAMS_MAX))
    waiting: int = 0

    @asynccontextmanager
    async def take(self, turns: asyncio.Semaphore) -> AsyncGenerator[None]:
        """Hold one of `turns` for the length of the block."""
        if turns.locked() and self.waiting >= WAITING_MAX:
            raise unavailable("Too many reports are being computed; try again shortly.")
        self.waiting += 1
        try:
            async with asyncio.timeout(_WAIT_S):
                await turns.acquire()
        except TimeoutError as error:
            raise unavailable("Too many reports are being computed; try again shortly.") from error
        finally:
            self.waiting -= 1
        try:
            yield
        finally:
            turns.release()


#: By pool, so that whoever is handed the pool keeps to its turns.
_TURNS: WeakKeyDictionary[AsyncEngine, _Turns] = WeakKeyDictionary()


def snapshot(reads: AsyncEngine) -> AbstractAsyncContextManager[AsyncConnection]:
    """Give a read-only connection that sees one state of the book, for what is looked up; raises as `reading`."""
    return reading(reads, "REPEATABLE READ")


@asynccontextmanager
async def reporting(reads: AsyncEngine) -> AsyncGenerator[AsyncConnection]:
    """Give a connection as `snapshot` does, for sums and long lists: in turn.

    Raises:
        ApiFailure: 503 as `reading`, and where too many reports are computed or wait already.
    """
    turns = _TURNS.setdefault(reads, _Turns())
    async with turns.take(turns.reports), snapshot(reads) as connection:
        yield connection


@asynccontextmanager
async def streaming(reads: AsyncEngine) -> AsyncGenerator[AsyncConnection]:
    """Give a connection as `reporting` does, for a table that is sent while it is read; fewer of these at once."""
    turns = _TURNS.setdefault(reads, _Turns())
    async with turns.take(turns.streams), reporting(reads) as connection:
        yield connection


@asynccontextmanager
async def reading(reads: AsyncEngine, isolation: Isolation = "READ COMMITTED") -> AsyncGenerator[AsyncConnection]:
    """Give a read-only connection, in a transaction that ends with the block.

    Raises:
        ApiFailure: 503 when the database is out of reach, busy, or too slow for the statement's timeout.
    """
    try:
        async with reads.connect() as connection:
            await connection.execution_options(isolation_level=isolation, postgresql_readonly=True)
            yield connection
    except DBAPIError as error:
        failure = _failure(error)
        if failure is None:
            raise
        raise failure from error
    except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
        raise unavailable("The ledger's database cannot be reached.") from error
    except PoolTimeoutError as error:
        raise unavailable("Too many reports are being computed; try again shortly.") from error


def _failure(error: DBAPIError) -> ApiFailure | None:
    state = getattr(error.orig, "sqlstate", None) or ""
    if state == _CANCELLED:
        return unavailable("The report took too long and was stopped; ask for a shorter period or a smaller page.")
    if error.connection_invalidated or state.startswith(_AWAY):
        return unavailable("The ledger's database cannot be reached.")
    return None
