"""Sums by dimensions and time, over rollups and rows alike; `spend.py` and `ends.py` say of what.

One statement an answer: the pieces that `periods.py` chose, each narrowed by the filters, joined and grouped once more.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from typing import Any

from sqlalchemy import ARRAY, Date, String, bindparam, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.projections.rollup import END_USER_OF_KEY
from ledger.reports.periods import Interval, Plan, Source, plan, source_of

Names = tuple[str, ...]

_NAME_BYTES = 800

_BUCKETS = {
    "hour": "{hour}",
    "day": "({hour} AT TIME ZONE 'UTC')::date",
    "month": "date_trunc('month', {hour} AT TIME ZONE 'UTC')::date",
}


_MICROS = "usd_micros"
#: Each of a group's `pieces` is rounded down, so the group has at least `micros` and less than `micros + pieces`: who
#: does not reach the last of the best by that is not among them. What is left is summed and sorted exactly.
_RANKED = """
WITH ranked AS MATERIALIZED (
    SELECT {names}, ledger.sum_of_micros({micros}) AS micros, count(*) AS pieces
    FROM ({narrow}) AS narrow GROUP BY {names}
), best AS (
    SELECT micros FROM ranked ORDER BY micros DESC LIMIT :limit
)
"""
_AMONG_BEST = " WHERE ({0}) IN (SELECT {0} FROM ranked WHERE micros + pieces > (SELECT min(micros) FROM best))"


@dataclass(frozen=True, slots=True)
class Book:
    """Where sums come from: rollups under `prefix`, rows of `table` at their time `at`.

    Without a prefix there are no rollups.

    `sums` is the name and, for the rows, the SQL of each sum; `where` is the SQL of which rows count; `order` the SQL
    by which groups of one bucket are sorted, before their names.
    """

    prefix: str
    table: str
    at: str
    sums: Mapping[str, str]
    where: str
    order: str
    has_end_users: bool = True
    #: Where its rollups of names hold what groups are sorted by in millionths, rounded down: its SQL for the rows.
    micros: str = ""


@dataclass(frozen=True, slots=True)
class Question:
    """What is asked: sums of whole hours from `start` to `end`, by dimensions (columns, or `tag`) and interval.

    A row counts where each filter names its value; of tags, where it has one of them.
    """

    start: datetime
    end: datetime
    group_by: tuple[str, ...] = ()
    interval: Interval | None = None
    filters: Mapping[str, Names] | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """One group: its bucket (beginning of the interval; None without one), names in the order asked, and sums.

    Sums of USD are Decimals, others whole numbers.
    """

    bucket: datetime | None
    names: tuple[str, ...]
    sums: dict[str, Any]


async def total_and_groups(
    connection: AsyncConnection, book: Book, question: Question, *, limit: int
) -> tuple[dict[str, Any], list[Answer]]:
    """Return the sums of everything, and at most `limit` groups; none where neither name nor interval is asked for."""
    total = await total_of(connection, book, question)
    is_grouped = bool(question.group_by or question.interval)
    return total, await groups_of(connection, book, question, limit=limit) if is_grouped else []


async def total_of(connection: AsyncConnection, book: Book, question: Question) -> dict[str, Any]:
    """Return the sums of everything that the filters let through; none where there is nothing."""
    everything = Question(question.start, question.end, (), None, question.filters)
    groups = await groups_of(connection, book, everything, limit=1)
    return groups[0].sums if groups else {}


async def groups_of(connection: AsyncConnection, book: Book, question: Question, *, limit: int) -> list[Answer]:
    """Return at most `limit` groups: by bucket, then in the book's order."""
    filters = question.filters or {}
    source = source_of(question.group_by, filters.keys())
    if not book.prefix or len(filters.get("tag", ())) > 1:
        # Several tags overlap: only the rows say which calls have one of them.
        source = None
    if source is not None and not book.has_end_users and source[1] in {"end_user", END_USER_OF_KEY}:
        source = None
    read = await plan(connection, book.prefix, question.start, question.end, source=source, interval=question.interval)
    query, values = _statement(book, question, source, read)
    # Rollups hold names in short, the rows tags in full: a question may read one of them only.
    values = {name: value for name, value in values.items() if f":{name}" in query}
    arrays = [bindparam(name, type_=_array_type(value)) for name, value in values.items() if isinstance(value, list)]
    rows = await connection.execute(text(query).bindparams(*arrays), {**values, "limit": limit})
    return _answers(rows.all(), book, question)


def _array_type(value: list[Any]) -> Any:
    return ARRAY(Date() if value and isinstance(value[0], date) else String())


def _statement(book: Book, question: Question, source: Source, read: Plan) -> tuple[str, dict[str, Any]]:
    values: dict[str, Any] = {}
    filters = {f"f_{name}": [_bounded(each) for each in names] for name, names in (question.filters or {}).items()}
    if "tag" in (question.filters or {}):
        # The rows hold tags in full.
        filters["raw_tag"] = list((question.filters or {})["tag"])
    for grain, starts in read.rollups.items():
        values[f"starts_{grain}"] = list(starts)
    for n, (since, until) in enumerate(read.rows):
        values |= {f"since_{n}": since, f"until_{n}": until}
    pieces = _pieces(book, question, source, read)
    keys = [*(["bucket"] if question.interval else []), *question.group_by]
    # As text: of a sum's type, numeric, the driver makes a Decimal, which takes longer than all the rest of reading it.
    sums = ", ".join(f"sum({name})::text AS {name}" for name in book.sums)
    listed = ", ".join(keys)
    order = ", ".join([*(["bucket"] if question.interval else []), book.order, *question.group_by])
    statement = f"SELECT {listed + ', ' if keys else ''}{sums} FROM ({pieces}) AS pieces"  # noqa: S608 constants of this package; what people give is bound
    if _is_ranked(book, question, source, read):
        narrow = _pieces(replace(book, sums={_MICROS: book.micros}), question, source, read)
        statement = _RANKED.format(names=listed, narrow=narrow, micros=_MICROS) + statement + _AMONG_BEST.format(listed)
    if keys:
        statement += f" GROUP BY {listed} ORDER BY {order}"
    else:
        statement += " HAVING count(*) > 0"
    return statement + " LIMIT :limit", values | filters


def _is_ranked(book: Book, question: Question, source: Source, read: Plan) -> bool:
    """Whether there may be so many groups that the most expensive are better found first, and only they are summed."""
    is_by_end_user = source is not None and source[1] in {"end_user", END_USER_OF_KEY}
    return (
        bool(book.micros and read.rollups)
        and is_by_end_user
        and "end_user" in question.group_by
        and question.interval is None
    )


def _pieces(book: Book, question: Question, source: Source, read: Plan) -> str:
    rollups = [_from_rollup(book, question, source or ("names", "all"), grain) for grain in read.rollups]
    rows = [_from_rows(book, question, n) for n in range(len(read.rows))]
    return " UNION ALL ".join([*rollups, *rows])


def _from_rollup(book: Book, question: Question, source: tuple[str, str], grain: str) -> str:
    table, dimension = source
    named = "end_user" if dimension == END_USER_OF_KEY else dimension
    column = {named: "name"} if table == "names" else {}
    columns = [f"{column.get(name, name)} AS {name}" for name in question.group_by]
    conditions = [f"grain = '{grain}' AND start = ANY(:starts_{grain})"]
    if table == "names":
        conditions.append(f"dimension = '{dimension}'")
    conditions += [_among(column.get(name, name), name) for name in question.filters or {}]
    bucket = {"day": ["start AS bucket"], "month": ["date_trunc('month', start)::date AS bucket"]}
    listed = ", ".join([*bucket.get(question.interval or "", []), *columns, *book.sums])
    return f"SELECT {listed} FROM ledger.{book.prefix}_{table} WHERE {' AND '.join(conditions)}"  # noqa: S608 constants of this package; what people give is bound


def _from_rows(book: Book, question: Question, n: int) -> str:
    conditions = [f"{book.at} >= :since_{n} AND {book.at} < :until_{n}", book.where]
    for name in question.filters or {}:
        if name == "tag":
            conditions.append("tags && CAST(:raw_tag AS text[])")
        else:
            conditions.append(_among(name, name))
            # The index on end users holds only calls that name one; the planner must see that such are asked for.
            if name == "end_user" and "" not in (question.filters or {})[name]:
                conditions.append("end_user <> ''")
    columns = ["ledger.bounded(one.tag) AS tag" if name == "tag" else name for name in question.group_by]
    bucket = [] if question.interval is None else [f"{_BUCKETS[question.interval].format(hour=_hour(book))} AS bucket"]
    sums = [f"{sql} AS {name}" for name, sql in book.sums.items()]
    unnested = " CROSS JOIN LATERAL unnest(tags) AS one (tag)" if "tag" in question.group_by else ""
    listed = ", ".join([*bucket, *columns, *sums])
    return f"SELECT {listed} FROM ledger.{book.table}{unnested} WHERE {' AND '.join(conditions)}"  # noqa: S608 constants of this package; what people give is bound


def _hour(book: Book) -> str:
    return book.at if book.at == "hour" else f"date_trunc('hour', {book.at}, 'UTC')"


def _among(column: str, name: str) -> str:
    return f"{column} = ANY(CAST(:f_{name} AS text[]))"


def _bounded(name: str) -> str:
    """Return a name as the projections keep it; `ledger.bounded` in SQL."""
    raw = name.encode()
    return name if len(raw) <= _NAME_BYTES else f"{name[:180]}#{hashlib.md5(raw, usedforsecurity=False).hexdigest()}"


def _answers(rows: Sequence[Sequence[Any]], book: Book, question: Question) -> list[Answer]:
    kinds = [(name, Decimal if name.endswith("_usd") else int) for name in book.sums]
    first = 0 if question.interval is None else 1
    width = first + len(question.group_by)
    return [
        Answer(
            _moment(row[0]) if first else None,
            tuple(row[first:width]),
            {name: kind(value) for (name, kind), value in zip(kinds, row[width:], strict=True)},
        )
        for row in rows
    ]


@lru_cache(maxsize=400)
def _moment(bucket: date) -> datetime:
    return bucket if isinstance(bucket, datetime) else datetime.combine(bucket, time.min, UTC)


def only(filters: Mapping[str, Sequence[str] | None]) -> dict[str, Names]:
    """Return the filters that are given; an empty sequence lets nothing through."""
    return {name: tuple(names) for name, names in filters.items() if names is not None}
