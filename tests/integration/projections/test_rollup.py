"""Rollups follow the rows: what a fold touches is stale at once, is summed anew, and is found where it is wrong."""

from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest

from ledger.projections.compare import compare
from ledger.projections.projector import Projector
from ledger.projections.roller import Roller
from ledger.projections.rollup import GRAINS, NAME_DIMENSIONS
from tests.support import projected
from tests.support.book import START, Book, open_journals, random_book, write

PAST = START - timedelta(days=100)
_STATE = "SELECT grain, start, is_current FROM ledger.spend_rolled ORDER BY grain, start"


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def _fold(url: str) -> None:
    projector = Projector(url)
    await projector.catch_up()
    await projector.close()


async def _past_book(url: str, connection: asyncpg.Connection) -> Book:
    book = random_book(await open_journals(connection, 2), 7, 600, PAST)
    await write(connection, book.all_events())
    await _fold(url)
    return book


async def test_rollup_of_what_is_touched_is_stale_until_it_is_summed_anew(
    database_url: str, connection: asyncpg.Connection
) -> None:
    book = await _past_book(database_url, connection)
    assert {row["is_current"] for row in await connection.fetch(_STATE)} == {False}
    rolled = await Roller(database_url).catch_up()
    before = await connection.fetch(_STATE)
    assert {row["is_current"] for row in before} == {True}
    assert rolled == 2 * len(before)
    assert await Roller(database_url).catch_up() == 0
    assert await projected.rollup_differences(connection) == []

    corrected = book.ended[0]
    (journal,) = await open_journals(connection, 1)
    late = Book([journal], 1, START)
    late.correct(corrected, journal)
    await write(connection, late.all_events())
    await _fold(database_url)
    day = corrected.received_at.date()
    stale = {(row["grain"], row["start"]) for row in await connection.fetch(_STATE) if not row["is_current"]}
    starts = {grain: day.replace(day=(day.day - 1) // days * days + 1) for grain, days in GRAINS.items()}
    assert stale == set(starts.items())
    assert await projected.rollup_differences(connection) == []
    # Of spend and of calls.
    assert await Roller(database_url).catch_up() == 2 * len(GRAINS)
    assert await projected.rollup_differences(connection) == []
    assert [await compare(database_url, name) for name in ("spend", "calls")] == [[], []]


async def test_rollup_summed_anew_writes_what_has_changed_and_nothing_else(
    database_url: str, connection: asyncpg.Connection
) -> None:
    book = await _past_book(database_url, connection)
    await Roller(database_url).catch_up()
    rows = "SELECT ctid, xmin, * FROM ledger.spend_names"
    before = {(row["ctid"], row["xmin"]) for row in await connection.fetch(rows)}
    (journal,) = await open_journals(connection, 1)
    late = Book([journal], 1, START)
    late.correct(book.ended[0], journal)
    await write(connection, late.all_events())
    await _fold(database_url)
    assert await Roller(database_url).catch_up() == 2 * len(GRAINS)
    changed = [row for row in await connection.fetch(rows) if (row["ctid"], row["xmin"]) not in before]
    # Its own names in each period; it has at most three tags.
    names = len(NAME_DIMENSIONS) + 2
    assert 0 < len(changed) <= names * len(GRAINS) < len(before) / 2
    assert await projected.rollup_differences(connection) == []


async def test_rollup_that_is_wrong_is_found_and_a_stale_one_is_not_looked_at(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await _past_book(database_url, connection)
    await Roller(database_url).catch_up()
    await connection.execute("UPDATE ledger.spend_names SET calls = calls + 1 WHERE dimension = 'all'")
    found = await compare(database_url, "spend")
    assert {(each.table, each.side) for each in found} == {("spend_names", "found"), ("spend_names", "expected")}
    await connection.execute("UPDATE ledger.spend_rolled SET is_current = false")
    assert await compare(database_url, "spend") == []


async def test_rollup_by_a_second_process_at_once_has_nothing_to_do(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await _past_book(database_url, connection)
    async with connection.transaction():
        for name in ("spend", "calls"):
            await connection.execute(
                "SELECT pg_advisory_xact_lock(hashtextextended('responses-ledger roll up ' || $1, 0))", name
            )
        assert await Roller(database_url).catch_up() == 0
    assert await Roller(database_url).catch_up() > 0


async def test_rollup_of_a_process_with_an_older_fold_does_not_happen(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await _past_book(database_url, connection)
    await connection.execute("UPDATE ledger.projections SET version = 99")
    assert await Roller(database_url).catch_up() == 0


async def test_rollup_under_way_does_not_hold_up_folds_of_other_days(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await _past_book(database_url, connection)
    async with connection.transaction():
        await connection.execute("SELECT FROM ledger.spend_rolled FOR UPDATE")
        writer = await asyncpg.connect(database_url)
        other = random_book(await open_journals(writer, 1), 3, 40, START)
        await write(writer, other.all_events())
        await _fold(database_url)
        await writer.close()
    days = {row["start"] for row in await connection.fetch(_STATE) if row["grain"] == "day"}
    assert START.date() in days
