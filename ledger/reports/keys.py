"""Virtual keys with what they have spent, and end users. Hashes are for finding a key, and never part of an answer."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import ColumnElement, TableClause, func, literal, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.reports.key_state import has_secret
from ledger.reports.tables import END_USER_TOTALS, KEY_TOTALS, KEYS, SPEND

PAGE_MAX = 1_000

_SHOWN = [column for column in KEYS.c if "hash" not in column.name]
#: What keys can be listed by.
SORTS = ("created_at", "changed_at", "expires_at", "key_alias", "key_id", "org", "team", "user_id", "spend")
_SPENT = func.coalesce(KEY_TOTALS.c.billed_usd + KEY_TOTALS.c.estimated_usd, 0)
_NAMES = ("key_id", "key_name", "key_alias", "org", "team", "user_id", "end_user")
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
    """Which keys to list; None: all. `status`: active, expired, blocked, revoked, or current (all but revoked)."""

    key_id: str | None = None
    key_hash: str | None = None
    org: str | None = None
    team: str | None = None
    user_id: str | None = None
    key_alias: str | None = None
    status: str | None = None
    #: A text in one of the key's names.
    search: str | None = None
    ends_before: datetime | None = None


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
    found = KEYS.c.key_id == key_id if key_hash is None else has_secret(key_hash)
    row = (await connection.execute(_keys([found, *_scoped(KEYS, scope)]))).mappings().one_or_none()
    return None if row is None else _with_totals(dict(row))


async def key_id_of(connection: AsyncConnection, key_hash: str) -> str | None:
    """Return the key_id of the key with that hash; None where there is none."""
    return await connection.scalar(select(KEYS.c.key_id).where(has_secret(key_hash)))


async def key_names(connection: AsyncConnection, key_ids: Iterable[str]) -> dict[str, tuple[str, str]]:
    """Return alias and shown name of each of these keys that there is."""
    wanted = list(key_ids)
    if not wanted:
        return {}
    query = select(KEYS.c.key_id, KEYS.c.key_alias, KEYS.c.key_name).where(KEYS.c.key_id.in_(wanted))
    return {row.key_id: (row.key_alias, row.key_name) for row in await connection.execute(query)}


async def key_list(
    connection: AsyncConnection,
    *,
    filters: KeyFilters | None = None,
    page: int = 1,
    size: int = 100,
    sort_by: str = "created_at",
    is_descending: bool = True,
    scope: str | None = None,
) -> KeyPage:
    """List keys by one of SORTS, `size` a page, pages from 1; keys without an end are the last to end.

    Raises:
        ValueError: `page` or `size` is out of range, or the status or the order is unknown.
    """
    if sort_by not in SORTS:
        raise ValueError(f"Keys are sorted by {', '.join(SORTS)}: got {sort_by!r}.")
    if page < 1 or not 1 <= size <= PAGE_MAX:
        raise ValueError(f"Pages count from 1 and have from 1 to {PAGE_MAX} rows: got page {page}, size {size}.")
    conditions = [*_conditions(filters or KeyFilters()), *_scoped(KEYS, scope)]
    count = await connection.scalar(select(func.count()).select_from(KEYS).where(*conditions))
    by = _SPENT if sort_by == "spend" else KEYS.c[sort_by]
    order = by.desc().nulls_first() if is_descending else by.asc().nulls_last()
    query = _keys(conditions).order_by(order, KEYS.c.key_id).limit(size).offset((page - 1) * size)
    rows = (await connection.execute(query)).mappings()
    return KeyPage(tuple(_with_totals(dict(row)) for row in rows), int(count or 0))


async def key_aliases(
    connection: AsyncConnection, *, search: str | None = None, page: int = 1, size: int = 100, scope: str | None = None
) -> tuple[list[str], int]:
    """Return a page of the aliases of keys that are not revoked, sorted, and how many there are on all pages."""
    conditions = [KEYS.c.key_alias != literal(""), KEYS.c.revoked.is_(False), *_scoped(KEYS, scope)]
    if search is not None:
        conditions.append(func.strpos(func.lower(KEYS.c.key_alias), search.lower()) > 0)
    aliases = select(KEYS.c.key_alias).where(*conditions).distinct()
    count = await connection.scalar(select(func.count()).select_from(aliases.subquery()))
    rows = await connection.scalars(aliases.order_by(KEYS.c.key_alias).limit(size).offset((page - 1) * size))
    return list(rows), int(count or 0)


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


async def end_user_list(
    connection: AsyncConnection, *, after: str | None = None, limit: int = PAGE_MAX, scope: str | None = None
) -> list[tuple[str, Totals]]:
    """List end users by name, from the one after `after` on, with their sums over all time (for a key: through it)."""
    table, where = (END_USER_TOTALS, []) if scope is None else (SPEND, [SPEND.c.key_id == scope])
    conditions: list[ColumnElement[bool]] = [*where, *([] if after is None else [table.c.end_user > after])]
    sums: list[Any] = [func.sum(table.c[name]) for name in _TOTALS]
    query = select(table.c.end_user, *sums).where(*conditions).group_by(table.c.end_user)
    rows = await connection.execute(query.order_by(table.c.end_user).limit(limit))
    return [(row[0], Totals(int(row[1]), row[2], row[3], int(row[4]))) for row in rows]


def _keys(conditions: list[ColumnElement[bool]]) -> Any:
    totals = [func.coalesce(KEY_TOTALS.c[name], 0).label(f"total_{name}") for name in _TOTALS]
    joined = KEYS.outerjoin(KEY_TOTALS, KEY_TOTALS.c.key_id == KEYS.c.key_id)
    return select(*_SHOWN, *totals).select_from(joined).where(*conditions)


def _conditions(filters: KeyFilters) -> list[ColumnElement[bool]]:
    conditions: list[ColumnElement[bool]] = []
    for name in ("key_id", "org", "team", "user_id", "key_alias"):
        value = getattr(filters, name)
        if value is not None:
            conditions.append(KEYS.c[name] == value)
    if filters.key_hash is not None:
        conditions.append(has_secret(filters.key_hash))
    if filters.search is not None:
        wanted = filters.search.lower()
        conditions.append(or_(*(func.strpos(func.lower(KEYS.c[name]), wanted) > 0 for name in _NAMES)))
    if filters.ends_before is not None:
        conditions.append(KEYS.c.expires_at < filters.ends_before)
    return [*conditions, *_of_status(filters.status)]


def _of_status(status: str | None) -> list[ColumnElement[bool]]:
    usable = [KEYS.c.blocked.is_(False), KEYS.c.revoked.is_(False)]
    match status:
        case None:
            return []
        case "current":
            return [KEYS.c.revoked.is_(False)]
        case "active":
            return [*usable, or_(KEYS.c.expires_at.is_(None), KEYS.c.expires_at > func.now())]
        case "expired":
            return [*usable, KEYS.c.expires_at <= func.now()]
        case "blocked":
            return [KEYS.c.blocked, KEYS.c.revoked.is_(False)]
        case "revoked":
            return [KEYS.c.revoked]
        case unknown:
            raise ValueError(f"A key is current, active, expired, blocked or revoked: got {unknown!r}.")


def _scoped(table: TableClause, scope: str | None) -> list[ColumnElement[bool]]:
    return [] if scope is None else [table.c.key_id == scope]


def _with_totals(row: dict[str, Any]) -> dict[str, Any]:
    row["totals"] = Totals(**{name: row.pop(f"total_{name}") for name in _TOTALS})
    return row
