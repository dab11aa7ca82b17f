"""Chooses what a report reads for a period: rollups of months, their parts and days that are current, else the rows.

Pure but for one look at which rollups are current; the caller reads everything in one snapshot. What the tables hold is
said in `ledger/projections/rollup.py`.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Literal

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.projections.rollup import END_USER_OF_KEY, GRAINS, PERIOD_DIMENSIONS, PERIOD_GRAINS

Interval = Literal["hour", "day", "month"]
#: A table of rollups and, for names, the dimension; None: the rows themselves.
Source = tuple[Literal["periods", "names"], str] | None

_DAY = timedelta(days=1)
_HOUR = timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Plan:
    """What is read: rollups by their grain and first days, and rows of the times from (inclusive) to (exclusive)."""

    rollups: dict[str, tuple[date, ...]]
    rows: tuple[tuple[datetime, datetime], ...]


def whole_hours(start: datetime, end: datetime) -> tuple[datetime, datetime]:
    """Return the period widened to whole hours, UTC.

    Raises:
        ValueError: a time without a zone, or an end that is not after the start.
    """
    if start.tzinfo is None or end.tzinfo is None or start >= end:
        raise ValueError(f"A period needs two times with a zone, the earlier first: got {start} and {end}.")
    start, end = start.astimezone(UTC), end.astimezone(UTC)
    floor = end.replace(minute=0, second=0, microsecond=0)
    return start.replace(minute=0, second=0, microsecond=0), floor if floor == end else floor + _HOUR


def source_of(grouped: Collection[str], filtered: Collection[str]) -> Source:
    """Return what holds sums by these dimensions and for these filters.

    Tags overlap: their names serve one tag, or all tags apart, and not the tags of what has a tag.
    """
    used = {*grouped, *filtered}
    if "tag" in grouped and "tag" in filtered:
        return None
    if len(used) <= 1:
        return "names", next(iter(used), "all")
    of_key = {"end_user": END_USER_OF_KEY, "tag": "tag"}
    if "key_id" in used and len(used) == 2 and (others := used & of_key.keys()):  # noqa: PLR2004 - a name and its key
        return "names", of_key[others.pop()]
    if used <= {*PERIOD_DIMENSIONS}:
        return "periods", ""
    return None


async def plan(
    connection: AsyncConnection,
    prefix: str,
    start: datetime,
    end: datetime,
    *,
    source: Source,
    interval: Interval | None,
) -> Plan:
    """Return what to read of the rollup `prefix` for whole hours from `start` to `end`."""
    grains = _grains(source, interval)
    if not grains:
        return Plan({}, ((start, end),))
    query = text(
        f"SELECT grain, start FROM ledger.{prefix}_rolled WHERE is_current AND start >= :first AND start < :last"  # noqa: S608 a constant of this package
    )
    found = await connection.execute(query, {"first": start.date(), "last": end.date()})
    return choose(start, end, grains, {(row.grain, row.start) for row in found})


def choose(start: datetime, end: datetime, grains: Sequence[str], current: set[tuple[str, date]]) -> Plan:
    """Cover the period by the coarsest rollups that are current and lie in it; the rest is read from the rows."""
    first, last = _ceil_day(start), end.date()
    if first >= last:
        return Plan({}, ((start, end),))
    chosen: dict[str, list[date]] = {}
    spans: list[tuple[date, date]] = []
    begins = [day for _, day in current]
    at, bound = first, max(begins, default=first)
    if begins and (skipped := min(*begins, last)) > at:
        spans.append((at, skipped))
        at = skipped
    while at < last and at <= bound:
        for grain in grains:
            until = _until(grain, at)
            if until is not None and until <= last and (grain, at) in current:
                chosen.setdefault(grain, []).append(at)
                at = until
                break
        else:
            spans.append((at, at + _DAY))
            at += _DAY
    if at < last:
        spans.append((at, last))
    rows = [(_midnight(day), _midnight(until)) for day, until in spans]
    if start < _midnight(first):
        rows.insert(0, (start, _midnight(first)))
    if _midnight(last) < end:
        rows.append((_midnight(last), end))
    return Plan({grain: tuple(starts) for grain, starts in chosen.items()}, tuple(_joined(rows)))


def _grains(source: Source, interval: Interval | None) -> tuple[str, ...]:
    if source is None or interval == "hour":
        return ()
    if interval == "day":
        return ("day",)
    return tuple(reversed(GRAINS if source[0] == "names" else PERIOD_GRAINS))


def _until(grain: str, start: date) -> date | None:
    """Return the first day after the period that begins on `start`; None where none begins there."""
    days = GRAINS[grain]
    if (start.day - 1) % days:
        return None
    next_month = date(start.year + start.month // 12, start.month % 12 + 1, 1)
    return min(start + days * _DAY, next_month)


def _ceil_day(at: datetime) -> date:
    return at.date() if at.time() == time.min else at.date() + _DAY


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, UTC)


def _joined(spans: Iterable[tuple[datetime, datetime]]) -> list[tuple[datetime, datetime]]:
    joined: list[tuple[datetime, datetime]] = []
    for start, end in spans:
        if joined and joined[-1][1] == start:
            joined[-1] = (joined[-1][0], end)
        else:
            joined.append((start, end))
    return joined
