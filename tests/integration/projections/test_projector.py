"""The projector: nothing is lost while others append, one folds at a time, and what cannot be read stops it visibly."""

import asyncio
import dataclasses
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest

from ledger.projections import projector as module
from ledger.projections.catalogue import ALL
from ledger.projections.compare import compare
from ledger.projections.fold import fold, spans
from ledger.projections.lag import lag
from ledger.projections.projector import ProjectionLagError, ProjectionStoppedError, Projector, resume
from ledger.projections.rebuild import rebuild
from ledger.projections.spend import SPEND
from tests.support import projected
from tests.support.book import Book, Event, open_journals, random_book, write
from tests.support.plain_fold import plain_spend


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def projector(database_url: str) -> AsyncIterator[Projector]:
    projector = Projector(database_url, poll_s=0.01)
    yield projector
    await projector.close()


async def _until(condition: str, connection: asyncpg.Connection, *arguments: object) -> None:
    async with asyncio.timeout(20):
        while not await connection.fetchval(condition, *arguments):  # noqa: ASYNC110 it is the database that is awaited
            await asyncio.sleep(0.005)


def _flushes(events: list[Event], size: int) -> list[list[Event]]:
    return [events[start : start + size] for start in range(0, len(events), size)]


async def _append_all(url: str, events: list[Event]) -> None:
    connection = await asyncpg.connect(url)
    for flush in _flushes(events, 5):
        await write(connection, flush)
    await connection.close()


async def test_run_while_three_writers_append_loses_nothing(
    database_url: str, connection: asyncpg.Connection, projector: Projector
) -> None:
    """The READ COMMITTED hazard with real connections: statements of one batch must not see newer events."""
    journals = await open_journals(connection, 3)
    book = random_book(journals, 11, 900)
    folding = asyncio.create_task(projector.run())
    await asyncio.gather(*(_append_all(database_url, book.events[journal]) for journal in journals))
    await _until(
        "SELECT bool_and(folded_seq = (SELECT max(seq) FROM ledger.events e WHERE e.journal_id = c.journal_id))"
        " FROM ledger.checkpoints c",
        connection,
    )
    folding.cancel()
    await asyncio.gather(folding, return_exceptions=True)
    assert await projected.differences(connection, book.all_events()) == []


async def test_fold_with_a_flush_between_bound_and_statements_leaves_it_for_the_next_batch(
    database_url: str, connection: asyncpg.Connection, projector: Projector
) -> None:
    (journal,) = await open_journals(connection, 1)
    book = random_book([journal], 3, 60)
    events = book.all_events()
    await write(connection, events[:40])
    other = await asyncpg.connect(database_url)
    async with connection.transaction():
        work = await spans(connection, SPEND, batch_events=1000)
        await write(other, events[40:])
        await fold(connection, SPEND, work, batch=1)
    await other.close()
    assert await projected.spend(connection) == plain_spend(events[:40])
    await projector.catch_up()
    assert await projected.spend(connection) == plain_spend(events)


async def test_spans_in_turn_are_of_the_oldest_journals_and_leave_nothing_out(connection: asyncpg.Connection) -> None:
    journals = await open_journals(connection, 4)
    book = random_book(journals, 12, 400)
    await write(connection, book.all_events())
    heads = {journal: events[-1].seq for journal, events in book.events.items()}
    sizes = [heads[journal] for journal in journals]
    assert [span.journal_id for span in await spans(connection, SPEND, batch_events=1000)] == journals
    first, second = sizes[0], sizes[0] + 1
    for batch_events, taken in ((first - 1, 1), (first, 1), (second, 2), (sum(sizes[:3]), 3), (10_000, 4)):
        found = await spans(connection, SPEND, batch_events=batch_events, in_turn=True)
        assert [span.journal_id for span in found] == journals[:taken]
        assert sum(span.hi - span.lo for span in found) <= 2 * batch_events
    read = dict.fromkeys(journals, 0)
    while found := await spans(connection, SPEND, batch_events=37, in_turn=True, up_to=heads):
        async with connection.transaction():
            await fold(connection, SPEND, found, batch=1)
        for span in found:
            assert span.lo == read[span.journal_id]
            read[span.journal_id] = span.hi
    assert read == heads
    assert await projected.spend(connection) == plain_spend(book.all_events())


async def test_two_projectors_on_one_book_fold_each_event_once(
    database_url: str, connection: asyncpg.Connection
) -> None:
    journals = await open_journals(connection, 3)
    book = random_book(journals, 12, 600)
    rivals = [Projector(database_url, poll_s=0.001, batch_events=9) for _ in range(2)]
    folding = [asyncio.create_task(rival.run()) for rival in rivals]
    await asyncio.gather(*(_append_all(database_url, book.events[journal]) for journal in journals))
    await asyncio.gather(*(rival.catch_up() for rival in rivals))
    for task in folding:
        task.cancel()
    await asyncio.gather(*folding, return_exceptions=True)
    assert await projected.differences(connection, book.all_events()) == []


async def test_projector_of_an_older_version_does_not_fold(
    connection: asyncpg.Connection, projector: Projector, caplog: pytest.LogCaptureFixture
) -> None:
    (journal,) = await open_journals(connection, 1)
    await write(connection, random_book([journal], 4, 60).all_events())
    await connection.execute("UPDATE ledger.projections SET version = 99")
    assert await projector.catch_up() == 0
    assert await connection.fetchval("SELECT count(*) FROM ledger.calls") == 0
    assert "does not fold" in caplog.text
    await connection.execute("UPDATE ledger.projections SET version = 1")
    assert await projector.catch_up() > 0


async def _poison(connection: asyncpg.Connection, book: Book, journal: UUID, change: dict[str, object]) -> Event:
    """Append a book of which one cost cannot be read."""
    bad = next(event for event in book.events[journal] if event.type == "cost.recorded" and event.seq > 10)
    bad.facts = {**bad.facts, **change}
    await write(connection, book.all_events())
    return bad


@pytest.mark.parametrize(
    "change",
    [{"billed_usd": "a lot"}, {"billed_usd": None}, {"state": "guessed"}, {"dims": {}}, {"billed_usd": "1e300"}],
    ids=json.dumps,
)
async def test_cost_that_cannot_be_read_stops_its_journal_alone_until_it_is_skipped(
    database_url: str, connection: asyncpg.Connection, projector: Projector, change: dict[str, object]
) -> None:
    first, second = await open_journals(connection, 2)
    book = random_book([first, second], 5, 300)
    bad = await _poison(connection, book, first, change)
    while await projector._round():
        pass
    stopped = await connection.fetch(
        "SELECT * FROM ledger.checkpoints WHERE stopped_by IS NOT NULL ORDER BY projection"
    )
    assert [(row["projection"], row["journal_id"], row["folded_seq"]) for row in stopped] == [
        ("calls", first, bad.seq - 1),
        ("line_items", first, bad.seq - 1),
        ("spend", first, bad.seq - 1),
    ]
    assert f"event {bad.seq}" in stopped[0]["stopped_by"]
    before = [event for event in book.events[first] if event.seq < bad.seq] + book.events[second]
    assert await projected.spend(connection) == plain_spend(before)
    assert {row.projection: row.stopped for row in await lag(connection)} == {
        "calls": 1,
        "keys": 0,
        "line_items": 1,
        "prices": 0,
        "spend": 1,
    }
    with pytest.raises(ProjectionStoppedError, match=f"event {bad.seq}"):
        await projector.passed("spend", first, bad.seq)

    assert await resume(connection, "spend", first)
    await projector.catch_up()
    assert await connection.fetchval("SELECT count(*) FROM ledger.checkpoints WHERE stopped_by IS NOT NULL") == 3
    with pytest.raises(ValueError, match=f"before event {bad.seq}"):
        await resume(connection, "spend", first, skip_seq=bad.seq + 1)
    for name in ("spend", "calls", "line_items"):
        assert await resume(connection, name, first, skip_seq=bad.seq)
        assert not await resume(connection, name, first, skip_seq=bad.seq)
    await projector.catch_up()
    readable = [event for event in book.all_events() if event is not bad]
    assert await projected.differences(connection, readable) == []
    await rebuild(database_url)
    assert await projected.differences(connection, readable) == []
    assert await compare(database_url, "spend") == []


async def test_items_that_cannot_be_read_stop_the_fold_of_line_items_alone(
    connection: asyncpg.Connection, projector: Projector
) -> None:
    item = {"meter": "output", "quantity": 1, "unit_price_usd": "1", "amount_usd": "1"}
    for items in (
        None,
        {},
        [{**item, "amount_usd": None}],
        [item, {**item, "meter": None}],
        [{**item, "quantity": 1.5}],
    ):
        (journal,) = await open_journals(connection, 1)
        bad = await _poison(connection, random_book([journal], 5, 60), journal, {"items": items})
        await projector.catch_up()
        stopped = await connection.fetch(
            "SELECT projection, folded_seq FROM ledger.checkpoints WHERE stopped_by IS NOT NULL AND journal_id = $1",
            journal,
        )
        assert [tuple(row) for row in stopped] == [("line_items", bad.seq - 1)], items


async def test_money_of_an_unknown_kind_stops_and_other_unknown_events_are_data(
    connection: asyncpg.Connection, projector: Projector
) -> None:
    first, second = await open_journals(connection, 2)
    book = Book([first, second], 1)
    call = book.receive(first)
    book.add(first, "call.annotated", {"new": 1}, call)
    book.add(first, "weather.changed", {"rain": True})
    book.add(second, "cost.refunded", {"amount": "1"}, book.receive(second))
    await write(connection, book.all_events())
    await projector.catch_up()
    rows = await connection.fetch("SELECT projection, journal_id FROM ledger.checkpoints WHERE stopped_by IS NOT NULL")
    stopped = {(row["projection"], row["journal_id"]) for row in rows}
    assert stopped == {(name, second) for name in ("spend", "calls", "line_items")}


async def test_passed_folds_by_itself_when_nobody_else_does(
    connection: asyncpg.Connection, projector: Projector
) -> None:
    (journal,) = await open_journals(connection, 1)
    book = Book([journal], 1)
    book.administer(journal)
    await write(connection, book.all_events())
    await projector.passed("keys", journal, 2)
    assert await connection.fetchval("SELECT count(*) FROM ledger.keys WHERE batch = 1") == 1
    with pytest.raises(ProjectionLagError, match="has not passed event 99"):
        await projector.passed("keys", journal, 99, timeout_s=0.05)


async def test_passed_waits_for_the_process_that_is_folding(
    database_url: str, connection: asyncpg.Connection, projector: Projector
) -> None:
    (journal,) = await open_journals(connection, 1)
    book = Book([journal], 1)
    book.administer(journal)
    await write(connection, book.all_events())
    other = await asyncpg.connect(database_url)
    transaction = other.transaction()
    await transaction.start()
    await other.execute(module._RIGHT_TO_FOLD.replace("$1", "'keys'"))
    waiting = asyncio.create_task(projector.passed("keys", journal, 2, timeout_s=10))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(asyncio.shield(waiting), 0.1)
    # Opening a journal refers to the locked row, and is not held up.
    await asyncio.wait_for(open_journals(connection, 1), 5)
    await transaction.rollback()
    await other.close()
    await waiting


async def test_run_whose_connection_is_cut_goes_on(connection: asyncpg.Connection, projector: Projector) -> None:
    (journal,) = await open_journals(connection, 1)
    book = random_book([journal], 7, 120)
    folding = asyncio.create_task(projector.run())
    events = book.all_events()
    await write(connection, events[:50])
    await _until("SELECT bool_and(folded_seq = 50) FROM ledger.checkpoints", connection)
    cut = await connection.fetchval(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND application_name = 'responses-ledger projector'"
    )
    assert cut == 1
    await write(connection, events[50:])
    await _until("SELECT bool_and(folded_seq = $1) FROM ledger.checkpoints", connection, len(events))
    folding.cancel()
    await asyncio.gather(folding, return_exceptions=True)
    assert await projected.differences(connection, events) == []


async def test_run_is_woken_by_the_local_journal(database_url: str, connection: asyncpg.Connection) -> None:
    wake = asyncio.Event()
    projector = Projector(database_url, wake, poll_s=3600)
    (journal,) = await open_journals(connection, 1)
    folding = asyncio.create_task(projector.run())
    await write(connection, random_book([journal], 8, 30).all_events())
    wake.set()
    await _until("SELECT bool_and(folded_seq > 0) FROM ledger.checkpoints", connection)
    folding.cancel()
    await asyncio.gather(folding, return_exceptions=True)


async def test_sealed_journal_when_folded_is_not_visited_again(
    connection: asyncpg.Connection, projector: Projector
) -> None:
    first, second = await open_journals(connection, 2)
    book = random_book([first, second], 9, 100)
    if first not in book.sealed:
        book.seal(first)
    await write(connection, book.all_events())
    await projector.catch_up()
    finished = await connection.fetch(
        "SELECT journal_id FROM ledger.checkpoints WHERE projection = 'calls' AND finished"
    )
    assert first in {row["journal_id"] for row in finished}
    assert await spans(connection, SPEND, batch_events=100) == []


async def test_revoked_key_whose_older_state_comes_later_stays_revoked(
    connection: asyncpg.Connection, projector: Projector
) -> None:
    first, second = await open_journals(connection, 2)
    book = Book([first, second], 3)
    for _ in range(80):
        book.administer(first)
    late = [event for event in book.events[first] if event.type == "key.issued"]
    book.events[second] += [
        dataclasses.replace(event, journal_id=second, seq=index + 2) for index, event in enumerate(late)
    ]
    await write(connection, book.events[first])
    await projector.catch_up()
    seen = await connection.fetchval("SELECT max(batch) FROM ledger.keys")
    await write(connection, book.events[second])
    await projector.catch_up()
    assert await projected.differences(connection, book.all_events()) == []
    revoked = await connection.fetch("SELECT key_id FROM ledger.keys WHERE revoked")
    assert {row["key_id"] for row in revoked} >= {event.facts["key"]["key_id"] for event in late}
    assert await connection.fetchval("SELECT count(*) FROM ledger.keys WHERE batch > $1", seen) == 0


async def test_lag_counts_what_is_not_folded(connection: asyncpg.Connection, projector: Projector) -> None:
    (journal,) = await open_journals(connection, 1)
    book = random_book([journal], 2, 40)
    recorded_at = datetime.now(UTC) - timedelta(seconds=100)
    await write(connection, [dataclasses.replace(event, recorded_at=recorded_at) for event in book.all_events()])
    before = await lag(connection)
    assert {row.projection: row.events_behind for row in before} == {
        projection.name: len(book.all_events()) for projection in ALL
    }
    assert all(99 < row.age_s < 200 for row in before)
    await projector.catch_up()
    assert [row.events_behind for row in await lag(connection)] == [0] * len(ALL)
