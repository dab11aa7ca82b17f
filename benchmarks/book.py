"""Counts what a run left in the book, and compares it with what the load generator says was answered.

A benchmark whose rows are missing has measured something else, so `check` raises.
"""

import asyncio
import time
from dataclasses import dataclass

from ledger.postgres.connect import connect

SETTLE_TIMEOUT_S = 60.0
_COUNTS = """
SELECT count(*) FILTER (WHERE type = 'call.received')               AS received,
       count(*) FILTER (WHERE type = 'attempt.started')             AS attempts,
       count(*) FILTER (WHERE type = 'chunk.received')              AS chunks,
       count(*) FILTER (WHERE type = 'cost.recorded')               AS costs,
       count(*) FILTER (WHERE type IN ('call.completed', 'call.incomplete', 'call.failed', 'call.cancelled',
                                       'call.truncated', 'call.abandoned', 'call.rejected')) AS closed,
       count(*) FILTER (WHERE type = 'call.completed')              AS completed,
       count(*)                                                     AS events
FROM ledger.events
"""


class MissingRowsError(Exception):
    """The book holds less than what was answered."""


@dataclass(frozen=True)
class Book:
    """Number of events by kind."""

    received: int = 0
    attempts: int = 0
    chunks: int = 0
    costs: int = 0
    closed: int = 0
    completed: int = 0
    events: int = 0

    def since(self, earlier: "Book") -> "Book":
        """What was added after `earlier`."""
        return Book(**{name: getattr(self, name) - getattr(earlier, name) for name in self.__dataclass_fields__})


async def read(url: str) -> Book:
    """The counts now."""
    connection = await connect(url, purpose="benchmark", role=None)
    try:
        row = await connection.fetchrow(_COUNTS)
    finally:
        await connection.close()
    return Book(**dict(row)) if row else Book()


async def settled(url: str) -> Book:
    """The counts once every call is closed.

    Raises:
        MissingRowsError: some calls stay open, or some attempts without a cost.
    """
    deadline = time.monotonic() + SETTLE_TIMEOUT_S
    while True:
        book = await read(url)
        if book.received == book.closed and book.attempts == book.costs:
            return book
        if time.monotonic() > deadline:
            raise MissingRowsError(f"calls stay open or without a cost {SETTLE_TIMEOUT_S:.0f} s after the load: {book}")
        await asyncio.sleep(0.1)


def check(book: Book, *, answered: int, blocks: int) -> None:
    """Raise unless the book holds every answered call, closed and charged, with all `blocks` of each stream.

    The load generator stops in the middle of calls, so the book may hold more than it counted.

    Raises:
        MissingRowsError: with what is missing.
    """
    missing = {
        "calls completed": answered - book.completed,
        "attempts": answered - book.attempts,
        "costs": answered - book.costs,
        "chunks": answered * blocks - book.chunks,
    }
    short = {what: count for what, count in missing.items() if count > 0}
    if short:
        raise MissingRowsError(f"{answered} calls were answered, but the book lacks {short}")
