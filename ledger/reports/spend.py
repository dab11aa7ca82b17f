"""Spend over a period, grouped by one dimension; sums come from the projection `spend`, which is kept by the hour."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal

from sqlalchemy import ColumnElement, Select, any_, func, literal, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.reports.tables import SPEND, TOKENS

GroupBy = Literal["key", "end_user", "model", "team", "tag", "org", "user", "deployment", "tier"]

#: More groups than this are not a report; the largest are shown, and `truncated` says so.
GROUPS_MAX = 10_000

_COLUMNS: dict[str, str] = {
    "key": "key_id",
    "end_user": "end_user",
    "model": "model",
    "team": "team",
    "org": "org",
    "user": "user_id",
    "deployment": "deployment",
    "tier": "tier",
}
_SUMS = ("calls", "attempts", *TOKENS, "billed_usd", "estimated_usd", "unknown_calls")
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class SpendFilters:
    """Which calls count; None: all. An empty string asks for the calls that have none."""

    key_id: str | None = None
    end_user: str | None = None
    org: str | None = None
    team: str | None = None
    user_id: str | None = None
    model: str | None = None
    tag: str | None = None


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
class SpendReport:
    """Sums of each group, the most expensive first, and of everything that was asked for.

    `start` and `end` are the period that was summed: the one asked for, widened to whole hours (UTC). Tags overlap:
    grouped by tag, the groups add up to more than `total`, and calls without a tag are in no group (`overlapping`).
    """

    start: datetime
    end: datetime
    groups: tuple[tuple[str, Sums], ...]
    total: Sums
    overlapping: bool
    truncated: bool


async def spend_report(
    connection: AsyncConnection,
    *,
    start: datetime,
    end: datetime,
    group_by: GroupBy,
    filters: SpendFilters | None = None,
    scope: str | None = None,
    groups_max: int = 1_000,
) -> SpendReport:
    """Sum what was spent on calls received from `start` up to `end` (exclusive), by `group_by`.

    Raises:
        ValueError: a time without a zone, an empty period, an unknown dimension, too many groups.
    """
    if start.tzinfo is None or end.tzinfo is None or start >= end:
        raise ValueError(f"A period needs two times with a zone, the earlier first: got {start} and {end}.")
    if group_by != "tag" and group_by not in _COLUMNS:
        raise ValueError(f"Spend can be grouped by tag, {', '.join(_COLUMNS)}: got {group_by!r}.")
    if not 1 <= groups_max <= GROUPS_MAX:
        raise ValueError(f"A report has from 1 to {GROUPS_MAX} groups: got {groups_max}.")
    start, end = _whole_hours(start, end)
    conditions = [SPEND.c.hour >= start, SPEND.c.hour < end, *_conditions(filters or SpendFilters(), scope)]
    sums = [func.coalesce(func.sum(SPEND.c[name]), 0).label(name) for name in _SUMS]
    if group_by == "tag":
        total = (await connection.execute(select(*sums).where(*conditions))).one()
        rows = (await connection.execute(_by_tag(sums).where(*conditions).limit(groups_max + 1))).all()
    else:
        # The total and the groups in one reading; the total comes first, and comes even where there is nothing.
        query = _by_column(SPEND.c[_COLUMNS[group_by]], sums).where(*conditions).limit(groups_max + 2)
        first, *rest = (await connection.execute(query)).all()
        total, rows = first[2:], [row[1:] for row in rest]
    return SpendReport(
        start=start,
        end=end,
        groups=tuple((row[0], _sums(row[1:])) for row in rows[:groups_max]),
        total=_sums(total),
        overlapping=group_by == "tag",
        truncated=len(rows) > groups_max,
    )


def _whole_hours(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    floor = end.replace(minute=0, second=0, microsecond=0)
    return start.replace(minute=0, second=0, microsecond=0), floor if floor == end else floor + _HOUR


def _conditions(filters: SpendFilters, scope: str | None) -> list[ColumnElement[bool]]:
    wanted = {
        "key_id": filters.key_id,
        "end_user": filters.end_user,
        "org": filters.org,
        "team": filters.team,
        "user_id": filters.user_id,
        "model": filters.model,
    }
    conditions: list[ColumnElement[bool]] = [
        SPEND.c[name] == func.ledger.bounded(value) for name, value in wanted.items() if value is not None
    ]
    if filters.end_user:
        # The index on end users holds only calls that name one; the planner must be told that this is such a query.
        conditions.append(SPEND.c.end_user != literal(""))
    if filters.tag is not None:
        conditions.append(literal(filters.tag) == any_(SPEND.c.tags))
    if scope is not None:
        conditions.append(SPEND.c.key_id == scope)
    return conditions


def _cost() -> ColumnElement[Any]:
    return func.sum(SPEND.c.billed_usd) + func.sum(SPEND.c.estimated_usd)


def _by_column(group: ColumnElement[Any], sums: list[Any]) -> Select[*tuple[Any, ...]]:
    is_total = func.grouping(group)
    return (
        select(is_total, group, *sums)
        .group_by(func.grouping_sets(tuple_(group), tuple_()))
        .order_by(is_total.desc(), _cost().desc(), group)
    )


def _by_tag(sums: list[Any]) -> Select[*tuple[Any, ...]]:
    tags = func.unnest(SPEND.c.tags).table_valued("tag").render_derived()
    source = SPEND.join(tags, literal(value=True))
    return select(tags.c.tag, *sums).select_from(source).group_by(tags.c.tag).order_by(_cost().desc(), tags.c.tag)


def _sums(values: Any) -> Sums:
    return Sums(**{name: _exact(name, value) for name, value in zip(_SUMS, values, strict=True)})


def _exact(name: str, value: Any) -> Any:
    """Sums of bigint come back as numeric."""
    return Decimal(value) if name.endswith("_usd") else int(value)
