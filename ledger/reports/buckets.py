"""Sums of calls in buckets of a minute, an hour or a day, by dimensions: what OpenAI's usage and costs show.

Minutes come from the log of calls, hours and days from the projection `spend`, line items from theirs; all of them add
up the same costs. What the dimensions are called over there is for `api/routes/organization.py` to say.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any, Final, Literal, TypeVar

from sqlalchemy import ARRAY, Boolean, ColumnElement, FromClause, Text, and_, cast, func, literal_column, or_, select
from sqlalchemy.dialects.postgresql import array
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.reports.spend import LOG, Flags
from ledger.reports.sums import Book, Question, groups_of
from ledger.reports.tables import CALLS, LINE_ITEMS, TOKENS

Dimension = Literal["team", "user_id", "key_id", "model", "tier", "end_user"]

MINUTE_S: Final = 60
HOUR_S: Final = 3_600
DAY_S: Final = 86_400

_SUMS: Final = ("calls", *TOKENS, "billed_usd", "estimated_usd", "unknown_costs")
#: `spend`, by hour or rolled up.
_SPEND: Final = Book(
    prefix="spend",
    table="spend",
    at="hour",
    sums={name: name for name in ("calls", *TOKENS, "billed_usd", "estimated_usd", "unknown_calls")},
    where="true",
    order="sum(billed_usd) + sum(estimated_usd) DESC",
)


#: The same out of the log, where it is asked how calls ended.
_LOG: Final = replace(LOG, sums={name: LOG.sums[name] for name in _SPEND.sums})


class TooManyGroupsError(Exception):
    """One bucket has more groups than an answer may hold."""


@dataclass(frozen=True, slots=True)
class Span:
    """Consecutive buckets: `start` and `end` (exclusive) are Unix seconds, both multiples of `width_s`."""

    start: int
    end: int
    width_s: int


@dataclass(frozen=True, slots=True)
class Only(Flags):
    """Which calls count: those with one of the names in each dimension that names any; "" asks for having none.

    `scope` is the one key that may be read about; None: all. `tags`: calls with one of them at least.
    """

    names: dict[Dimension, tuple[str, ...]]
    tags: tuple[str, ...] = ()
    scope: str | None = None

    @property
    def dimensions(self) -> set[Dimension]:
        """The dimensions that are asked about."""
        found: set[Dimension] = {name for name, values in self.names.items() if values}
        if self.scope is not None:
            found.add("key_id")
        return found


@dataclass(frozen=True, slots=True)
class Sums:
    """The sums of one group in one bucket. `names` has the dimensions that were grouped by."""

    bucket: int
    names: dict[str, str]
    calls: int
    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    billed_usd: Decimal
    estimated_usd: Decimal
    unknown_costs: int


@dataclass(frozen=True, slots=True)
class ItemSums:
    """The sums of line items of one group in one bucket; `amount_usd` is billed and estimated together."""

    bucket: int
    names: dict[str, str]
    quantity: int
    amount_usd: Decimal
    unknown_costs: int


@dataclass(frozen=True, slots=True)
class LineItem:
    """A model and a meter, as they are booked."""

    model: str
    meter: str


async def sums_by_bucket(
    connection: AsyncConnection, span: Span, *, group_by: Sequence[Dimension], only: Only, groups_max: int
) -> tuple[list[Sums], int]:
    """Sum the calls received in `span`, in the order of buckets and names; a bucket without calls has no sums.

    Returns the sums, and up to where (Unix seconds) they are complete: less than the end of the span where there are
    more than `groups_max` of them.

    Raises:
        TooManyGroupsError: the first bucket has more groups than that.
    """
    if span.width_s >= HOUR_S:
        return await _from_spend(connection, span, group_by, only, groups_max)
    table, bucket, sums = _minutes()
    conditions = [*_within(CALLS.c.received_at, _moment(span.start), _moment(span.end)), *_conditions(table, only)]
    if only.flags:
        conditions.append(literal_column(only.flags, Boolean))
    rows = await _read(connection, (table, bucket, sums), group_by, conditions, groups_max)
    width = 1 + len(group_by)
    found = [
        Sums(_unix_s(row[0]), dict(zip(group_by, row[1:width], strict=True)), **_exact(_SUMS, row[width:]))
        for row in rows
    ]
    return _complete(found, span, groups_max)


async def _from_spend(
    connection: AsyncConnection, span: Span, group_by: Sequence[Dimension], only: Only, groups_max: int
) -> tuple[list[Sums], int]:
    """Hours and days: rollups where they are current, else the rows; the log where it is asked how calls ended."""
    filters: dict[str, tuple[str, ...]] = {name: values for name, values in only.names.items() if values}
    if only.tags:
        filters["tag"] = only.tags
    if only.scope is not None:
        keys = filters.get("key_id", (only.scope,))
        filters["key_id"] = (only.scope,) if only.scope in keys else ()
    interval = "day" if span.width_s == DAY_S else "hour"
    question = Question(_moment(span.start), _moment(span.end), tuple(group_by), interval, filters)
    book = replace(_LOG, where=only.flags) if only.flags else _SPEND
    answers = await groups_of(connection, book, question, limit=groups_max + 1)
    found = [
        Sums(
            _unix_s(answer.bucket),
            dict(zip(group_by, answer.names, strict=True)),
            *answer.sums.values(),
        )
        for answer in answers
        if answer.bucket is not None
    ]
    return _complete(found, span, groups_max)


async def line_items_by_bucket(
    connection: AsyncConnection,
    span: Span,
    *,
    group_by: Sequence[Literal["team", "user_id", "key_id", "model", "meter"]],
    only: Only,
    items: Sequence[LineItem] = (),
    groups_max: int,
) -> tuple[list[ItemSums], int]:
    """Sum the line items of the calls received on the days of `span`; as `sums_by_bucket`.

    `items`: only these line items; () for all. Line items are not kept by end user, tag or tier.

    Raises:
        ValueError: `only` asks for what is not kept, or the buckets are no days.
        TooManyGroupsError: the first bucket has more groups than `groups_max`.
    """
    kept = {"team", "user_id", "key_id", "model"}
    if span.width_s != DAY_S or only.tags or only.flags or only.dimensions - kept:
        raise ValueError(
            f"Line items are kept by day, {', '.join(sorted(kept))}: got {only} in buckets of {span.width_s} s"
        )
    is_keyed = bool({*group_by, *only.dimensions} & {"team", "user_id", "key_id"})
    conditions = [
        LINE_ITEMS.c.keyed.is_(is_keyed),
        *_within(LINE_ITEMS.c.day, _moment(span.start).date(), _moment(span.end).date()),
        *_conditions(LINE_ITEMS, only),
    ]
    if items:
        conditions.append(
            or_(*(and_(LINE_ITEMS.c.model == item.model, LINE_ITEMS.c.meter == item.meter) for item in items))
        )
    sums = {name: func.sum(LINE_ITEMS.c[name]) for name in ("quantity", "amount_usd", "unknown_costs")}
    rows = await _read(connection, (LINE_ITEMS, LINE_ITEMS.c.day, sums), group_by, conditions, groups_max)
    width = 1 + len(group_by)
    found = [
        ItemSums(_unix_s(row[0]), dict(zip(group_by, row[1:width], strict=True)), **_exact(tuple(sums), row[width:]))
        for row in rows
    ]
    return _complete(found, span, groups_max)


Found = TypeVar("Found", Sums, ItemSums)
_Source = tuple[FromClause, ColumnElement[Any], Mapping[str, ColumnElement[Any]]]


def _minutes() -> _Source:
    """The log: a call counts once it has ended, as in `spend`, if an upstream was asked."""
    has_ended = and_(CALLS.c.status.not_in(("in_progress", "rejected")), CALLS.c.attempts > 0)
    sums = {name: func.coalesce(func.sum(CALLS.c[name]), 0) for name in (*TOKENS, "billed_usd", "estimated_usd")}
    return (
        CALLS,
        func.date_trunc("minute", CALLS.c.received_at, "UTC"),
        {"calls": func.count().filter(has_ended), **sums, "unknown_costs": func.sum(CALLS.c.unknown)},
    )


async def _read(
    connection: AsyncConnection,
    source: _Source,
    group_by: Sequence[str],
    conditions: list[ColumnElement[bool]],
    groups_max: int,
) -> list[Any]:
    """Return bucket, names and sums of at most one group more than `groups_max`."""
    table, begin, sums = source
    bucket = begin.label("bucket")
    names = [table.c[name] for name in group_by]
    query = select(bucket, *names, *(cast(column, Text).label(name) for name, column in sums.items())).where(
        *conditions
    )
    if table is CALLS:
        # What only failed to reach an upstream is no usage.
        query = query.having(or_(sums["calls"] > 0, func.count(CALLS.c.cost_state) > 0))
    query = query.group_by(bucket, *names).order_by(bucket, *names).limit(groups_max + 1)
    return list((await connection.execute(query)).all())


def _within(column: ColumnElement[Any], start: object, end: object) -> list[ColumnElement[bool]]:
    return [column >= start, column < end]


def _conditions(table: FromClause, only: Only) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for name, values in only.names.items():
        if values:
            conditions.append(table.c[name].in_([func.ledger.bounded(value) for value in values]))
        if values and name == "end_user" and all(values):
            # The index on end users holds only calls that name one; the planner must be told that this is such a query.
            conditions.append(table.c.end_user != "")
    if only.tags:
        conditions.append(table.c.tags.op("&&")(cast(array(only.tags), ARRAY(Text))))
    if only.scope is not None:
        conditions.append(table.c.key_id == only.scope)
    return conditions


def _complete(found: list[Found], span: Span, groups_max: int) -> tuple[list[Found], int]:
    """Leave out a bucket that was cut off, and say where the whole ones end."""
    if len(found) <= groups_max:
        return found, span.end
    cut = found[-1].bucket
    whole = [sums for sums in found if sums.bucket < cut]
    if not whole:
        raise TooManyGroupsError
    return whole, cut


def _exact(names: Sequence[str], values: Iterable[str]) -> dict[str, Any]:
    """Sums are read as text, see `sums.py`."""
    return {
        name: Decimal(value) if name.endswith("_usd") else int(value) for name, value in zip(names, values, strict=True)
    }


@lru_cache(maxsize=400)
def _unix_s(bucket: date) -> int:
    """Return when a bucket begins, of a moment or of a day (UTC), in Unix seconds."""
    moment = bucket if isinstance(bucket, datetime) else datetime.combine(bucket, time.min, UTC)
    return int(moment.timestamp())


def _moment(unix_s: int) -> datetime:
    return datetime.fromtimestamp(unix_s, UTC)
