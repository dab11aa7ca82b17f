"""How calls ended over a period: how many succeeded (completed or incomplete), and how many failed in any other way.

Calls that cost nothing count here as well: rejected ones, and those that only read. Calls in progress do not. What was
spent is in `spend.py`, by the same dimensions and intervals.
"""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.reports.periods import Interval
from ledger.reports.spend import GroupBy, SpendFilters, question_of
from ledger.reports.sums import Book, total_and_groups

#: The statuses of a call that succeeded; any other but in_progress is a failure.
SUCCEEDED: Final = ("completed", "incomplete")

_BOOK = Book(
    prefix="call",
    table="calls",
    at="received_at",
    sums={
        "succeeded": f"(status IN {SUCCEEDED})::integer",
        "failed": f"(status NOT IN {SUCCEEDED})::integer",
    },
    where="status <> 'in_progress'",
    order="sum(succeeded) + sum(failed) DESC",
    has_end_users=False,
)


@dataclass(frozen=True, slots=True)
class Ends:
    """Calls by how they ended."""

    succeeded: int = 0
    failed: int = 0

    @property
    def calls(self) -> int:
        """All of them."""
        return self.succeeded + self.failed


@dataclass(frozen=True, slots=True)
class EndsReport:
    """The ends of each group, by the beginning of its interval (None: none asked for) and its names, and of all."""

    groups: dict[tuple[datetime | None, tuple[str, ...]], Ends]
    total: Ends


async def ends_report(
    connection: AsyncConnection,
    *,
    start: datetime,
    end: datetime,
    group_by: tuple[GroupBy, ...] = (),
    interval: Interval | None = None,
    filters: SpendFilters | None = None,
    scope: str | None = None,
    groups_max: int = 10_000,
) -> EndsReport:
    """Count calls received from `start` up to `end`, widened to whole hours, as `spend_report` does.

    Raises:
        ValueError: as `question_of`.
    """
    filters = filters or SpendFilters()
    question = question_of(start, end, group_by, interval, filters, scope)
    book = replace(_BOOK, prefix="", where=f"{_BOOK.where} AND {filters.flags}") if filters.flags else _BOOK
    total, rows = await total_and_groups(connection, book, question, limit=groups_max)
    return EndsReport(
        groups={(row.bucket, row.names): Ends(**row.sums) for row in rows},
        total=Ends(**total),
    )
