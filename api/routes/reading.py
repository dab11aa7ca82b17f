"""Connections for reading the book, and what a client is told when the database does not answer in time.

Reports read in one snapshot: the statements of one answer see the same book, so that sums and their parts agree.
"""

from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Final, Literal

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


def snapshot(reads: AsyncEngine) -> AbstractAsyncContextManager[AsyncConnection]:
    """Give a read-only connection that sees one state of the book; raises as `reading`."""
    return reading(reads, "REPEATABLE READ")


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
