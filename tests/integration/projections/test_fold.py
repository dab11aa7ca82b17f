"""Rebuild, live folding and a plain fold in Python agree, however journals interleave and batches are cut."""

import random
from collections.abc import AsyncIterator
from datetime import datetime, timedelta
from typing import Any

import asyncpg
import pytest

from ledger.projections.catalogue import ALL
from ledger.projections.compare import compare
from ledger.projections.projector import Projector
from ledger.projections.rebuild import rebuild
from tests.support import projected
from tests.support.book import START, Book, Event, open_journals, random_book, write
from tests.support.plain_fold import plain_spend


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def _snapshot(connection: asyncpg.Connection) -> dict[str, Any]:
    return {
        "keys": await projected.keys(connection),
        "teams": await projected.teams(connection),
        "spend": await projected.spend(connection),
        "calls": await projected.calls(connection),
        "line_items": await projected.line_items(connection),
    }


async def _append_in_pieces(connection: asyncpg.Connection, book: Book, rng: random.Random) -> AsyncIterator[None]:
    """Append flush by flush: each journal in its order, the journals as chance has it."""
    left = {journal: list(events) for journal, events in book.events.items()}
    while any(left.values()):
        journal = rng.choice([journal for journal, events in left.items() if events])
        count = rng.randrange(1, 12)
        flush, left[journal] = left[journal][:count], left[journal][count:]
        await write(connection, flush)
        yield


@pytest.mark.parametrize(("seed", "batch_events"), [(1, 1), (2, 2), (3, 7), (4, 40), (5, 100_000)])
async def test_live_fold_of_interleaved_journals_equals_rebuild_and_plain_fold(
    database_url: str, connection: asyncpg.Connection, seed: int, batch_events: int
) -> None:
    rng = random.Random(seed)
    book = random_book(await open_journals(connection, 3), seed, 250)
    book.seal(next(journal for journal in book.events if journal not in book.sealed))
    projector = Projector(database_url, batch_events=batch_events)
    try:
        async for _ in _append_in_pieces(connection, book, rng):
            if rng.random() < 0.4:
                # Some one by one, some together, in whatever order.
                await (projector.fold(rng.choice(ALL)) if rng.random() < 0.5 else projector._round())
            if rng.random() < 0.1:
                # A crash between two batches: nothing but the database remembers.
                await projector.close()
        await projector.catch_up()
    finally:
        await projector.close()
    live = await _snapshot(connection)
    assert await projected.differences(connection, book.all_events()) == []
    assert await projected.totals_agree(connection)
    assert {projection.name: await compare(database_url, projection.name) for projection in ALL} == {
        projection.name: [] for projection in ALL
    }
    await rebuild(database_url)
    assert await _snapshot(connection) == live


async def test_book_of_the_test_holds_what_the_fold_must_cope_with(connection: asyncpg.Connection) -> None:
    """Recovered calls, corrections in other journals, two tags, retries, unknown and estimated costs do occur."""
    journals = await open_journals(connection, 3)
    events = [event for seed in (1, 2, 3, 4, 5) for event in random_book(journals, seed, 250).all_events()]
    kinds = {event.type for event in events}
    corrections = [event for event in events if event.type == "cost.corrected"]
    assert {"call.abandoned", "journal.sealed", "call.rejected", "attempt.failed", "body.part"} <= kinds
    assert any(event.facts["dims"]["journal_id"] != str(event.journal_id) for event in corrections)
    assert {"estimated", "unknown"} <= {event.facts["state"] for event in events if event.type == "cost.recorded"}
    assert any(len(event.facts["tags"]) == 2 for event in events if event.type == "call.received")


async def test_reader_by_recorded_at_on_the_same_book_loses_events(connection: asyncpg.Connection) -> None:
    """The proof that the tests above can fail: reading by time, as is usual, does not pass them."""
    rng = random.Random(1)
    book = random_book(await open_journals(connection, 3), 1, 250)
    read: list[Event] = []
    by_place = {(event.journal_id, event.seq): event for event in book.all_events()}
    last = START - timedelta(days=1)

    async def read_news(last: datetime) -> datetime:
        rows = await connection.fetch(
            "SELECT journal_id, seq, recorded_at FROM ledger.events WHERE recorded_at > $1"
            " ORDER BY recorded_at LIMIT 20",
            last,
        )
        read.extend(by_place[row["journal_id"], row["seq"]] for row in rows)
        return rows[-1]["recorded_at"] if rows else last

    async for _ in _append_in_pieces(connection, book, rng):
        last = await read_news(last)
    while (news := await read_news(last)) != last:
        last = news
    assert plain_spend(read) != plain_spend(book.all_events())


async def test_correction_folded_before_its_call_is_added_when_the_call_comes(
    database_url: str, connection: asyncpg.Connection
) -> None:
    first, second = await open_journals(connection, 2)
    book = Book([first, second], 1)
    call = book.receive(first)
    call.steps = ["start", "end:truncated"]
    book.advance(call)
    book.advance(call)
    assert call.states[1] in {"estimated", "unknown"}
    book.correct(call, second)
    projector = Projector(database_url)
    try:
        await write(connection, book.events[second])
        await projector.catch_up()
        assert await projected.calls(connection) == {}
        assert await connection.fetchval("SELECT count(*) FROM reporting.calls") == 0
        await write(connection, book.events[first])
        await projector.catch_up()
    finally:
        await projector.close()
    assert await projected.differences(connection, book.all_events()) == []
    (row,) = (await projected.calls(connection)).values()
    assert (row["status"], row["cost_state"], row["estimated_usd"], row["unknown"]) == ("truncated", "billed", 0, 0)


async def test_name_longer_than_an_index_allows_does_not_stop_the_fold(
    database_url: str, connection: asyncpg.Connection
) -> None:
    (journal,) = await open_journals(connection, 1)
    book = Book([journal], 1)
    rng = random.Random(1)
    names = ["".join(chr(rng.randrange(0x4E00, 0x9FFF)) for _ in range(4000)) for _ in range(2)]
    for name in names:
        call = book.receive(journal)
        call.steps = ["start", "end:completed"]
        call.dims["end_user"] = name
        book.events[journal][-1].facts["end_user"] = name
        book.advance(call)
        book.advance(call)
    await write(connection, book.all_events())
    projector = Projector(database_url)
    await projector.catch_up()
    await projector.close()
    assert await connection.fetchval("SELECT count(*) FROM ledger.checkpoints WHERE stopped_by IS NOT NULL") == 0
    shown = await connection.fetch("SELECT end_user, calls FROM ledger.end_user_totals ORDER BY 1")
    assert sorted(row["end_user"][:180] for row in shown) == sorted(name[:180] for name in names)
    assert (
        await connection.fetchval("SELECT count(*) FROM ledger.calls WHERE end_user = ledger.bounded($1)", names[0])
        == 1
    )
