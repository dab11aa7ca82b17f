"""The request log, page by page, and one call's row. `events.py` has what the call's events say."""

import base64
import binascii
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, Literal
from uuid import UUID

from sqlalchemy import ColumnElement, any_, func, literal, or_, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.reports.ends import SUCCEEDED
from ledger.reports.tables import CALLS

PAGE_MAX = 1_000
#: The database walks over everything before a numbered page.
ROWS_DEEP_MAX = 100_000
_ROWS_AT_ONCE = 500

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
_ROW = [column.label("unknown_costs") if column.name == "unknown" else column for column in CALLS.c]


class CursorError(ValueError):
    """A cursor is not one that `log_page` gave out."""


@dataclass(frozen=True, slots=True)
class LogFilters:
    """Which calls to list; None: all. `start` is inclusive, `end` exclusive, both aware.

    `status` may also be `success` (completed or incomplete) or `failure` (any other end).
    `interrupted`: truncated, abandoned, cancelled or hung up on. `unpriced`: a cost is not known. `estimated`: USD are
    estimated. `least_usd`, `most_usd`: of billed and estimated together.
    """

    start: datetime | None = None
    end: datetime | None = None
    key_id: str | None = None
    end_user: str | None = None
    org: str | None = None
    team: str | None = None
    user_id: str | None = None
    model: str | None = None
    tag: str | None = None
    status: str | None = None
    response_id: str | None = None
    call_id: UUID | None = None
    interrupted: bool = False
    unpriced: bool = False
    estimated: bool = False
    least_usd: Decimal | None = None
    most_usd: Decimal | None = None
    key_alias: str | None = None
    error_code: str | None = None
    deployment: str | None = None


Order = Literal["received_at", "finished_at", "spend", "tokens", "duration_us", "first_chunk_us", "model"]

_ORDERS: dict[Order, ColumnElement[Any]] = {
    "finished_at": CALLS.c.finished_at,
    "spend": CALLS.c.billed_usd + CALLS.c.estimated_usd,
    "tokens": func.coalesce(CALLS.c.input_tokens, 0) + func.coalesce(CALLS.c.output_tokens, 0),
    "duration_us": CALLS.c.duration_us,
    "first_chunk_us": CALLS.c.first_chunk_us,
    "model": CALLS.c.model,
}


@dataclass(frozen=True, slots=True)
class LogPage:
    """Rows (columns as in reporting.calls), newest first, and the cursor of the next page; None on the last one."""

    rows: tuple[dict[str, Any], ...]
    next_cursor: str | None


async def log_page(
    connection: AsyncConnection,
    *,
    filters: LogFilters | None = None,
    cursor: str | None = None,
    limit: int = 100,
    scope: str | None = None,
) -> LogPage:
    """List calls by the time of their request, newest first.

    A cursor is a place between two calls, so that calls which arrive meanwhile neither shift nor repeat a row.

    Raises:
        CursorError: `cursor` was not given out by this function.
        ValueError: `limit` is not within 1 and PAGE_MAX, or a time has no zone.
    """
    if not 1 <= limit <= PAGE_MAX:
        raise ValueError(f"A page has from 1 to {PAGE_MAX} rows: got {limit}.")
    conditions = _conditions(filters or LogFilters(), scope)
    if cursor is not None:
        received_at, call_id = _read(cursor)
        place = tuple_(
            literal(received_at, CALLS.c.received_at.type),
            literal(call_id, CALLS.c.call_id.type),
        )
        conditions.append(tuple_(CALLS.c.received_at, CALLS.c.call_id) < place)
    query = (
        select(*_ROW).where(*conditions).order_by(CALLS.c.received_at.desc(), CALLS.c.call_id.desc()).limit(limit + 1)
    )
    rows = [dict(row) for row in (await connection.execute(query)).mappings()]
    more, rows = len(rows) > limit, rows[:limit]
    return LogPage(tuple(rows), _spell(rows[-1]) if more else None)


async def log_rows(
    connection: AsyncConnection, *, filters: LogFilters | None = None, scope: str | None = None
) -> AsyncGenerator[dict[str, Any]]:
    """Yield every call that the filters let through, newest first, through a cursor of the database.

    However many there are, some hundred are held at once.
    """
    conditions = _conditions(filters or LogFilters(), scope)
    query = select(*_ROW).where(*conditions).order_by(CALLS.c.received_at.desc(), CALLS.c.call_id.desc())
    async with connection.stream(query.execution_options(yield_per=_ROWS_AT_ONCE)) as rows:
        async for row in rows.mappings():
            yield dict(row)


@dataclass(frozen=True, slots=True)
class NumberedPage:
    """One of the numbered pages of the log, and how many calls there are on all."""

    rows: tuple[dict[str, Any], ...]
    count: int


async def numbered_page(
    connection: AsyncConnection,
    *,
    filters: LogFilters | None = None,
    order: Order = "received_at",
    is_descending: bool = True,
    page: int = 1,
    size: int = 50,
    scope: str | None = None,
) -> NumberedPage:
    """List calls by page number, sorted; for people who leaf through. A cursor (`log_page`) does not shift.

    Raises:
        ValueError: `size` is not within 1 and PAGE_MAX, or the page ends after ROWS_DEEP_MAX rows.
    """
    if not 1 <= size <= PAGE_MAX or page < 1 or page * size > ROWS_DEEP_MAX:
        raise ValueError(f"Pages have from 1 to {PAGE_MAX} rows, and end before row {ROWS_DEEP_MAX}: go by a cursor.")
    conditions = _conditions(filters or LogFilters(), scope)
    count = await connection.scalar(select(func.count()).select_from(CALLS).where(*conditions))
    by: list[ColumnElement[Any]] = [_ORDERS[order]] if order != "received_at" else []
    by = [each.desc().nulls_last() if is_descending else each.asc().nulls_last() for each in by]
    at = (CALLS.c.received_at, CALLS.c.call_id)
    by += [each.desc() if is_descending else each.asc() for each in at]
    query = select(*_ROW).where(*conditions).order_by(*by).limit(size).offset((page - 1) * size)
    rows = [dict(row) for row in (await connection.execute(query)).mappings()]
    return NumberedPage(tuple(rows), int(count or 0))


async def call(connection: AsyncConnection, call_id: UUID, *, scope: str | None = None) -> dict[str, Any] | None:
    """Return a call's row (columns as in reporting.calls); None where there is none, or it is another key's."""
    conditions = _conditions(LogFilters(call_id=call_id), scope)
    row = (await connection.execute(select(*_ROW).where(*conditions).limit(1))).mappings().one_or_none()
    return None if row is None else dict(row)


def _conditions(filters: LogFilters, scope: str | None) -> list[ColumnElement[bool]]:
    # Without received_at it is no call yet: only a correction of its cost has been folded.
    conditions: list[ColumnElement[bool]] = [CALLS.c.received_at.is_not(None), *_period(filters)]
    for name in ("key_id", "end_user", "org", "team", "user_id", "model", "response_id", "deployment"):
        value = getattr(filters, name)
        if value is not None:
            conditions.append(CALLS.c[name] == func.ledger.bounded(value))
    if filters.end_user:
        # The index on end users holds only calls that name one; the planner must be told that this is such a query.
        conditions.append(CALLS.c.end_user != literal(""))
    if filters.call_id is not None:
        conditions.append(CALLS.c.call_id == filters.call_id)
    if filters.tag is not None:
        conditions.append(literal(filters.tag) == any_(CALLS.c.tags))
    if filters.status is not None:
        conditions.append(_of_status(filters.status))
    if scope is not None:
        conditions.append(CALLS.c.key_id == scope)
    return [*conditions, *_flagged(filters), *_narrowed(filters)]


def _of_status(status: str) -> ColumnElement[bool]:
    """Narrow to a status, or to what `ends.py` counts as succeeded or failed."""
    if status == "success":
        return CALLS.c.status.in_(SUCCEEDED)
    if status == "failure":
        return CALLS.c.status.not_in((*SUCCEEDED, "in_progress"))
    return CALLS.c.status == status


def _narrowed(filters: LogFilters) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for name in ("key_alias", "error_code"):
        value = getattr(filters, name)
        if value is not None:
            conditions.append(CALLS.c[name] == value)
    spent = CALLS.c.billed_usd + CALLS.c.estimated_usd
    if filters.least_usd is not None:
        conditions.append(spent >= filters.least_usd)
    if filters.most_usd is not None:
        conditions.append(spent <= filters.most_usd)
    return conditions


def _flagged(filters: LogFilters) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    if filters.interrupted:
        conditions.append(or_(CALLS.c.status.in_(("truncated", "abandoned", "cancelled")), CALLS.c.disconnected))
    if filters.unpriced:
        conditions.append(CALLS.c.unknown > 0)
    if filters.estimated:
        conditions.append(CALLS.c.estimated_usd != 0)
    return conditions


def _period(filters: LogFilters) -> list[ColumnElement[bool]]:
    for at in (filters.start, filters.end):
        if at is not None and at.tzinfo is None:
            raise ValueError(f"A time needs a zone: got {at}.")
    conditions: list[ColumnElement[bool]] = []
    if filters.start is not None:
        conditions.append(CALLS.c.received_at >= filters.start)
    if filters.end is not None:
        conditions.append(CALLS.c.received_at < filters.end)
    return conditions


def _spell(row: dict[str, Any]) -> str:
    micros = (row["received_at"] - _EPOCH) // _MICROSECOND
    return base64.urlsafe_b64encode(micros.to_bytes(8, "big", signed=True) + row["call_id"].bytes).decode().rstrip("=")


def _read(cursor: str) -> tuple[datetime, UUID]:
    try:
        raw = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4))
        micros, call_id = int.from_bytes(raw[:8], "big", signed=True), UUID(bytes=raw[8:])
        return _EPOCH + micros * _MICROSECOND, call_id
    except (binascii.Error, ValueError, OverflowError) as error:
        raise CursorError(f"Not a cursor of the log: {cursor[:100]!r}. Begin without one.") from error
