"""Virtual keys with what they have spent, and end users. Hashes are for finding a key, and never part of an answer."""

from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, TableClause, func, literal, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.reports.tables import END_USER_TOTALS, KEY_TOTALS, KEYS, SPEND

PAGE_MAX = 1_000

_SHOWN = [column for column in KEYS.c if "hash" not in column.name]
_TOTALS = ("calls", "billed_usd", "estimated_usd", "unknown_calls")


@dataclass(frozen=True, slots=True)
class Totals:
    """Sums over all time. Unknown amounts are counted in `unknown_calls` and are in no sum of USD."""

    calls: int = 0
    billed_usd: Decimal = Decimal(0)
    estimated_usd: Decimal = Decimal(0)
    unknown_calls: int = 0


@dataclass(frozen=True, slots=True)
class KeyFilters:
    """Which keys to list; None: all. `status`: active, blocked, revoked, or current (all but revoked)."""

    key_id: str | None = None
    key_hash: str | None = None
    org: str | None = None
    team: str | None = None
    user_id: str | None = None
    key_alias: str | None = None
    status: str | None = None


@dataclass(frozen=True, slots=True)
class KeyPage:
    """Keys (columns as in reporting.keys, and `totals`), newest first, and how many there are on all pages."""

    rows: tuple[dict[str, Any], ...]
    count: int


async def key_info(
    connection: AsyncConnection, *, key_id: str | None = None, key_hash: str | None = None, scope: str | None = None
) -> dict[str, Any] | None:
    """Return a key's state (columns as in reporting.keys) and its `totals`; None: unknown, or another key's.

    Raises:
        ValueError: not exactly one of `key_id` and `key_hash` is given.
    """
    if (key_id is None) == (key_hash is None):
        raise ValueError("A key is found by its key_id or by its key_hash: give one of them.")
    found = KEYS.c.key_id == key_id if key_id is not None else KEYS.c.key_hash == key_hash
    row = (await connection.execute(_keys([found, *_scoped(KEYS, scope)]))).mappings().one_or_none()
    return None if row is None else _with_totals(dict(row))


async def key_id_of(connection: AsyncConnection, key_hash: str) -> str | None:
    """Return the key_id of the key with that hash; None where there is none."""
    return await connection.scalar(select(KEYS.c.key_id).where(KEYS.c.key_hash == key_hash))


async def key_list(
    connection: AsyncConnection,
    *,
    filters: KeyFilters | None = None,
    page: int = 1,
    size: int = 100,
    scope: str | None = None,
) -> KeyPage:
    """List keys, newest first, `size` a page, pages from 1.

    Raises:
        ValueError: `page` or `size` is out of range, or the status is unknown.
    """
    if page < 1 or not 1 <= size <= PAGE_MAX:
        raise ValueError(f"Pages count from 1 and have from 1 to {PAGE_MAX} rows: got page {page}, size {size}.")
    conditions = [*_conditions(filters or KeyFilters()), *_scoped(KEYS, scope)]
    count = await connection.scalar(select(func.count()).select_from(KEYS).where(*conditions))
    query = _keys(conditions).order_by(KEYS.c.created_at.desc(), KEYS.c.key_id).limit(size).offset((page - 1) * size)
    rows = (await connection.execute(query)).mappings()
    return KeyPage(tuple(_with_totals(dict(row)) for row in rows), int(count or 0))


async def key_spend(connection: AsyncConnection, key_id: str, *, scope: str | None = None) -> Totals:
    """Return what a key has spent over all time; nothing for a key that has not, or that is another's."""
    query = select(*(KEY_TOTALS.c[name] for name in _TOTALS)).where(
        KEY_TOTALS.c.key_id == func.ledger.bounded(key_id), *_scoped(KEY_TOTALS, scope)
    )
    row = (await connection.execute(query)).one_or_none()
    return Totals() if row is None else Totals(*row)


async def end_user_info(connection: AsyncConnection, end_user: str, *, scope: str | None = None) -> Totals | None:
    """Return what was spent for an end user over all time (for a key: through it); None: never heard of."""
    if scope is None:
        query = select(*(END_USER_TOTALS.c[name] for name in _TOTALS)).where(
            END_USER_TOTALS.c.end_user == func.ledger.bounded(end_user)
        )
        row = (await connection.execute(query)).one_or_none()
        return None if row is None else Totals(*row)
    sums: list[Any] = [func.sum(SPEND.c[name]) for name in _TOTALS]
    query = select(func.count(), *sums).where(
        SPEND.c.end_user == func.ledger.bounded(end_user), SPEND.c.key_id == scope
    )
    if end_user:
        # The index on end users holds only calls that name one; the planner must be told that this is such a query.
        query = query.where(SPEND.c.end_user != literal(""))
    count, calls, billed, estimated, unknown = tuple[Any, ...]((await connection.execute(query)).one())
    return None if count == 0 else Totals(int(calls), billed, estimated, int(unknown))


def _keys(conditions: list[ColumnElement[bool]]) -> Any:
    totals = [func.coalesce(KEY_TOTALS.c[name], 0).label(f"total_{name}") for name in _TOTALS]
    joined = KEYS.outerjoin(KEY_TOTALS, KEY_TOTALS.c.key_id == KEYS.c.key_id)
    return select(*_SHOWN, *totals).select_from(joined).where(*conditions)


def _conditions(filters: KeyFilters) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for name in ("key_id", "key_hash", "org", "team", "user_id", "key_alias"):
        value = getattr(filters, name)
        if value is not None:
            conditions.append(KEYS.c[name] == value)
    match filters.status:
        case None:
            pass
        case "current":
            conditions.append(KEYS.c.revoked.is_(False))
        case "active":
            conditions += [KEYS.c.blocked.is_(False), KEYS.c.revoked.is_(False)]
        case "blocked":
            conditions += [KEYS.c.blocked, KEYS.c.revoked.is_(False)]
        case "revoked":
            conditions.append(KEYS.c.revoked)
        case unknown:
            raise ValueError(f"A key is current, active, blocked or revoked: got {unknown!r}.")
    return conditions


def _scoped(table: TableClause, scope: str | None) -> list[ColumnElement[bool]]:
    return [] if scope is None else [table.c.key_id == scope]


def _with_totals(row: dict[str, Any]) -> dict[str, Any]:
    row["totals"] = Totals(**{name: row.pop(f"total_{name}") for name in _TOTALS})
    return row
