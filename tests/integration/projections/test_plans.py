"""Polls, folds and the log's queries use the indexes that were made for them, also with many other journals."""

import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection

from api import background_settling
from ledger.postgres.connect import engine
from ledger.projections import fold as fold_module
from ledger.projections import projector as projector_module
from ledger.projections.catalogue import ALL
from ledger.projections.projector import Projector
from ledger.reports.calls import LogFilters, log_page
from tests.support.book import START, Book, open_journals, random_book, write

pytestmark = pytest.mark.timeout(120)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    """A book with partitions of other days, some thousand events and calls, and statistics."""
    settings = {**projector_module._SESSION}
    connection = await asyncpg.connect(database_url, server_settings=settings)
    for day in range(1, 6):
        await connection.execute("SELECT ledger.open_partition(date_trunc('day', now()) - $1 * interval '1 day')", day)
    journals = await open_journals(connection, 4)
    book = random_book(journals, 31, 4_000)
    await write(connection, book.all_events())
    projector = Projector(database_url)
    await projector.catch_up()
    await projector.close()
    await connection.execute("ANALYZE")
    yield connection
    await connection.close()


async def _plan(connection: asyncpg.Connection, sql: str, *arguments: object) -> str:
    return "\n".join(row[0] for row in await connection.fetch(f"EXPLAIN (COSTS OFF) {sql}", *arguments))


async def _spans(connection: asyncpg.Connection) -> tuple[list[UUID], list[int], list[int]]:
    rows = await connection.fetch(
        "SELECT journal_id, greatest(max(seq) - 200, 0) AS lo, max(seq) AS hi FROM ledger.events GROUP BY 1 ORDER BY 1"
    )
    return [row["journal_id"] for row in rows], [row["lo"] for row in rows], [row["hi"] for row in rows]


@pytest.mark.parametrize("projection", ALL, ids=lambda projection: projection.name)
async def test_fold_reads_its_spans_by_index_and_no_other_day(connection: asyncpg.Connection, projection: Any) -> None:
    journals, lo, hi = await _spans(connection)
    for statement in projection.statements_into("ledger"):
        plan = await _plan(connection, statement, journals, lo, hi, *([1] if projection.numbered else []))
        # Which of the three indexes is the planner's affair; that it is one of them, and of one day only, is not.
        assert len(set(re.findall(r"on (events_\d{8})", plan))) == 1, plan
        assert not re.search(r"Seq Scan on events_", plan), plan


async def test_poll_reads_the_head_of_unfinished_journals_only(connection: asyncpg.Connection) -> None:
    journals, lo, hi = await _spans(connection)
    names = [ALL[0].name] * len(journals)
    plans = [
        await _plan(connection, fold_module._SPANS, journals, lo, 100, hi),
        await _plan(connection, fold_module._SPANS_IN_TURN, journals, lo, 100, hi),
        await _plan(connection, projector_module._NEWS, names, journals, lo),
    ]
    for plan in plans:
        assert not re.search(r"Seq Scan on events_", plan), plan
        assert len(set(re.findall(r"on (events_\d{8})", plan))) == 1, plan


async def test_poll_of_many_finished_journals_visits_the_partial_index(connection: asyncpg.Connection) -> None:
    await connection.execute(
        "INSERT INTO ledger.checkpoints (projection, journal_id, folded_seq, finished)"
        " SELECT 'calls', gen_random_uuid(), 1, true FROM generate_series(1, 5000)"
    )
    await connection.execute("ANALYZE ledger.checkpoints")
    plan = await _plan(connection, projector_module._UNFINISHED, [projection.name for projection in ALL])
    assert "checkpoints_unfinished" in plan


async def _log_plan(url: str, filters: LogFilters, scope: str | None = None) -> str:
    """Explain the statement that `log_page` sends, with the parameters that it sends."""
    reports = engine(url, purpose="test")
    plans: list[str] = []

    def explain(_connection: object, _cursor: object, statement: str, parameters: Any, *_: object) -> tuple[str, Any]:
        if statement.startswith("SELECT ledger.calls"):
            plans.append(statement)
            return f"EXPLAIN (COSTS OFF) {statement}", parameters
        return statement, parameters

    async with reports.connect() as connection:
        event.listen(reports.sync_engine, "before_cursor_execute", explain, retval=True)
        text = await _explained(connection, filters, scope)
    await reports.dispose()
    assert plans
    return text


async def _explained(connection: AsyncConnection, filters: LogFilters, scope: str | None) -> str:
    try:
        page = await log_page(connection, filters=filters, limit=10, scope=scope)
    except KeyError:
        raise AssertionError("a plan has one column") from None
    return "\n".join(str(row["QUERY PLAN"]) for row in page.rows)


@pytest.mark.parametrize(
    ("filters", "scope", "index"),
    [
        (LogFilters(start=START), None, "calls_received"),
        (LogFilters(), "key-1", "calls_key_received"),
        (LogFilters(key_id="key-1", start=START), None, "calls_key_received"),
        (LogFilters(end_user="alice"), None, "calls_end_user_received"),
        (LogFilters(response_id="resp_1"), None, "calls_response"),
    ],
    ids=["period", "scope", "key", "end user", "response"],
)
async def test_log_page_reads_by_the_index_made_for_it(
    database_url: str, connection: asyncpg.Connection, filters: LogFilters, scope: str | None, index: str
) -> None:
    await connection.execute(
        "INSERT INTO ledger.calls (call_id, journal_id, received_at, key_id, end_user, response_id)"
        " SELECT gen_random_uuid(), gen_random_uuid(), now() - n * interval '1 min', 'key-' || n % 50,"
        " 'user-' || n % 50, 'resp-' || n FROM generate_series(1, 20000) AS n"
    )
    await connection.execute("ANALYZE ledger.calls")
    plan = await _log_plan(database_url, filters, scope)
    assert f"using {index} " in plan, plan


async def test_unsettled_responses_are_found_by_their_own_index_and_their_own_journals(
    connection: asyncpg.Connection,
) -> None:
    """Neither the calls of a large book are read for it, nor those whose price is unknown, nor the events of all."""
    await connection.execute("""
        INSERT INTO ledger.calls (call_id, journal_id, received_at, finished_at, method, path, status, response_id,
            input_tokens, unknown)
        SELECT gen_random_uuid(), gen_random_uuid(), now() - n * interval '1 s', now(), 'POST', '/responses',
            'completed', 'resp-' || n, CASE WHEN n % 500 > 0 THEN 10 END,
            CASE WHEN n % 3 = 0 OR n % 500 = 0 THEN 1 ELSE 0 END
        FROM generate_series(1, 20000) AS n
    """)
    await connection.execute("ANALYZE ledger.calls")
    plan = await _plan(connection, background_settling._FIND, background_settling._AGE_MAX, 10_000)
    assert "Index Scan using calls_unsettled on calls c" in plan, plan
    assert "Index Cond: (received_at >" in plan, plan
    # The other days are empty here: these the planner reads as it likes.
    assert re.search(r"Index Scan using events_\d{8}_call_id_version_idx on events_\d{8}", plan), plan
    assert "Seq Scan on calls" not in plan, plan


async def test_unfolded_book_without_statistics_is_folded_by_index(database_url: str) -> None:
    """A fresh database has no statistics; the first folds must not read everything for that."""
    connection = await asyncpg.connect(database_url, server_settings=projector_module._SESSION)
    journals = await open_journals(connection, 1)
    book = Book(journals, 1)
    while len(book.all_events()) < 1500:
        book.step()
    await write(connection, book.all_events())
    for statement in ALL[3].statements_into("ledger"):
        plan = await _plan(connection, statement, journals, [1400], [1500])
        assert not re.search(r"Seq Scan on events_", plan), plan
    await connection.close()
