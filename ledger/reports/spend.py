"""Spend over a period, by dimensions and intervals, from the projection `spend`: kept by the hour, and rolled up."""

from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from typing import Literal

from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.projections.spend import ROLLUP
from ledger.reports.periods import Interval, whole_hours
from ledger.reports.sums import Book, Names, Question, only, total_and_groups
from ledger.reports.tables import TOKENS

GroupBy = Literal["key", "end_user", "model", "team", "tag", "org", "user", "deployment", "tier"]

#: More groups than this are not a report; the largest are shown, and `truncated` says so.
GROUPS_MAX = 10_000

COLUMNS: dict[str, str] = {
    "key": "key_id",
    "end_user": "end_user",
    "model": "model",
    "team": "team",
    "tag": "tag",
    "org": "org",
    "user": "user_id",
    "deployment": "deployment",
    "tier": "tier",
}
DIMENSIONS = tuple(COLUMNS.values())
_BOOK = Book(
    prefix="spend",
    table="spend",
    at="hour",
    sums={name: name for name in ROLLUP.sums},
    where="true",
    order="sum(billed_usd) + sum(estimated_usd) DESC",
    micros="floor((billed_usd + estimated_usd) * 1000000)::bigint",
)


#: The same sums out of the log, which knows how each call ended: slower, and not rolled up.
LOG = Book(
    prefix="",
    table="calls",
    at="received_at",
    sums={
        "calls": "(finished_at IS NOT NULL AND cost_state IS NOT NULL)::integer",
        "attempts": "attempts",
        **{name: f"coalesce({name}, 0)" for name in TOKENS},
        "billed_usd": "billed_usd",
        "estimated_usd": "estimated_usd",
        "unknown_calls": "unknown",
    },
    where="true",
    order=_BOOK.order,
)
#: What only the log knows of a call; its own filters mean the same.
_FLAGS = {
    "interrupted": "(status IN ('truncated', 'abandoned', 'cancelled') OR disconnected)",
    "unpriced": "unknown > 0",
    "estimated": "estimated_usd <> 0",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Flags:
    """What is asked of each call beside its dimensions.

    `interrupted`: truncated, abandoned, cancelled or hung up on; `unpriced`: a cost is not known; `estimated`: USD are
    estimated.
    """

    interrupted: bool = False
    unpriced: bool = False
    estimated: bool = False

    @property
    def flags(self) -> str:
        """The SQL of it, for rows of the log; "" for nothing."""
        return " AND ".join(sql for name, sql in _FLAGS.items() if getattr(self, name))


@dataclass(frozen=True, slots=True)
class SpendFilters(Flags):
    """Which calls count: those with one of the names in each dimension; None: all.

    An empty name asks for the calls that have none; an empty tuple asks for nothing.
    """

    key_id: Names | None = None
    end_user: Names | None = None
    org: Names | None = None
    team: Names | None = None
    user_id: Names | None = None
    model: Names | None = None
    deployment: Names | None = None
    tier: Names | None = None
    tag: Names | None = None

    def of(self, scope: str | None) -> dict[str, Names]:
        """Return the filters by column, narrowed to the key `scope`."""
        given = only({name: getattr(self, name) for name in DIMENSIONS})
        if scope is not None:
            asked = given.get("key_id")
            given["key_id"] = (scope,) if asked is None or scope in asked else ()
        return given


@dataclass(frozen=True, slots=True)
class Sums:
    """What was spent. Unknown amounts are counted in `unknown_calls` and are in no sum of USD."""

    calls: int = 0
    attempts: int = 0
    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    billed_usd: Decimal = Decimal(0)
    estimated_usd: Decimal = Decimal(0)
    unknown_calls: int = 0


@dataclass(frozen=True, slots=True)
class Group:
    """The sums of one group: its names in the order that was asked for, and the beginning of its interval, if any."""

    names: tuple[str, ...]
    sums: Sums
    bucket: datetime | None = None


@dataclass(frozen=True, slots=True)
class SpendReport:
    """Sums of each group, and of everything that was asked for; by interval, and the most expensive first.

    `start` and `end` are the period that was summed: the one asked for, widened to whole hours (UTC). Tags overlap:
    grouped by tag, the groups add up to more than `total`, and calls without a tag are in no group (`overlapping`).
    """

    start: datetime
    end: datetime
    groups: tuple[Group, ...]
    total: Sums
    overlapping: bool
    truncated: bool


def question_of(
    start: datetime,
    end: datetime,
    group_by: tuple[GroupBy, ...],
    interval: Interval | None,
    filters: SpendFilters,
    scope: str | None,
) -> Question:
    """Return what a report asks: whole hours, columns, and the filters narrowed to the key `scope`.

    Raises:
        ValueError: a time without a zone, an empty period, an unknown dimension.
    """
    unknown = [name for name in group_by if name not in COLUMNS]
    if unknown or len(set(group_by)) < len(group_by):
        raise ValueError(
            f"Spend can be grouped by {', '.join(COLUMNS)}, each once: got {', '.join(map(repr, group_by))}."
        )
    columns = tuple(COLUMNS[name] for name in group_by)
    return Question(*whole_hours(start, end), columns, interval, filters.of(scope))


async def spend_report(
    connection: AsyncConnection,
    *,
    start: datetime,
    end: datetime,
    group_by: tuple[GroupBy, ...] = (),
    interval: Interval | None = None,
    filters: SpendFilters | None = None,
    scope: str | None = None,
    groups_max: int = 1_000,
) -> SpendReport:
    """Sum what was spent on calls received from `start` up to `end` (exclusive), by dimensions and interval.

    Without either, there are no groups, only the total. `scope` narrows everything to one key. Wherever a rollup of
    the period serves, it is read (see `periods.py`): the answer is the same.

    Raises:
        ValueError: a time without a zone, an empty period, an unknown dimension, too many groups.
    """
    if not 1 <= groups_max <= GROUPS_MAX:
        raise ValueError(f"A report has from 1 to {GROUPS_MAX} groups: got {groups_max}.")
    filters = filters or SpendFilters()
    question = question_of(start, end, group_by, interval, filters, scope)
    book = replace(LOG, where=filters.flags) if filters.flags else _BOOK
    total, rows = await total_and_groups(connection, book, question, limit=groups_max + 1)
    return SpendReport(
        start=question.start,
        end=question.end,
        groups=tuple(Group(row.names, Sums(**row.sums), row.bucket) for row in rows[:groups_max]),
        total=Sums(**total),
        overlapping="tag" in group_by,
        truncated=len(rows) > groups_max,
    )
