"""Every kind of tampering is found, with its place; and a sound book, however odd, gives no finding."""

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from ledger.projections.projector import Projector
from ledger.verification.book import NoSuchJournalError, verify
from ledger.verification.findings import Finding, Report
from tests.support.book import Book, Event
from tests.support.sound_book import make_sound_book, tamper


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def _folded(database_url: str) -> None:
    projector = Projector(database_url)
    await projector.catch_up()
    await projector.close()


@pytest.fixture
async def book(database_url: str, connection: asyncpg.Connection) -> Book:
    made = await make_sound_book(connection, 4)
    await _folded(database_url)
    return made


def _first(book: Book, kind: str, journal: UUID | None = None) -> Event:
    events = book.all_events() if journal is None else book.events[journal]
    return next(event for event in events if event.type == kind)


def _sealed(book: Book) -> UUID:
    return min(book.sealed)


def _of(report: Report, check: str) -> list[Finding]:
    return [finding for finding in report.findings if finding.check == check]


@pytest.mark.parametrize("seed", range(5))
async def test_verify_of_a_sound_book_finds_nothing(
    database_url: str, connection: asyncpg.Connection, seed: int
) -> None:
    book = await make_sound_book(connection, seed)
    await _folded(database_url)
    report = await verify(database_url)
    assert report.findings == []
    assert report.is_sound
    assert report.counts["events"] == len(book.all_events())
    assert report.counts["calls"] == sum(event.type == "call.received" for event in book.all_events())
    assert report.counts["corrections"] == sum(event.type == "cost.corrected" for event in book.all_events())
    assert report.open_calls_total == sum(len(calls) for calls in book.open.values())
    assert min(report.counts[name] for name in ("links", "endings", "prices", "projections", "totals")) > 0


async def test_verify_of_a_changed_fact_names_its_flush(
    database_url: str, connection: asyncpg.Connection, book: Book
) -> None:
    victim = _first(book, "attempt.answered")
    await tamper(
        connection,
        "UPDATE ledger.events SET facts = jsonb_set(facts, '{latency_us}', '1') WHERE journal_id = $1 AND seq = $2",
        victim.journal_id,
        victim.seq,
    )
    (finding,) = (await verify(database_url)).findings
    assert (finding.check, finding.journal_id) == ("chain", victim.journal_id)
    assert finding.seq is not None
    assert 0 <= finding.seq - victim.seq < 7


async def test_verify_of_a_changed_byte_in_a_body_names_its_flush(
    database_url: str, connection: asyncpg.Connection, book: Book
) -> None:
    victim = _first(book, "chunk.received")
    await tamper(
        connection,
        "UPDATE ledger.events SET body = set_byte(body, 3, 33) WHERE journal_id = $1 AND seq = $2",
        victim.journal_id,
        victim.seq,
    )
    (finding,) = (await verify(database_url)).findings
    assert (finding.check, finding.journal_id) == ("chain", victim.journal_id)


@pytest.mark.parametrize(
    "change", ["recorded_at = recorded_at + interval '1 microsecond'", "schema = 2", "type = 'chunk.dropped'"]
)
async def test_verify_of_a_changed_column_finds_it(
    database_url: str, connection: asyncpg.Connection, book: Book, change: str
) -> None:
    victim = _first(book, "chunk.received")
    await tamper(
        connection,
        f"UPDATE ledger.events SET {change} WHERE journal_id = $1 AND seq = $2",  # noqa: S608 - a parameter of this test
        victim.journal_id,
        victim.seq,
    )
    assert [finding.check for finding in (await verify(database_url)).findings] == ["chain"]


async def test_verify_of_a_removed_event_names_the_gap(
    database_url: str, connection: asyncpg.Connection, book: Book
) -> None:
    victim = _first(book, "chunk.received")
    statement = "DELETE FROM ledger.events WHERE journal_id = $1 AND seq = $2"
    await tamper(connection, statement, victim.journal_id, victim.seq)
    report = await verify(database_url)
    assert [(finding.journal_id, finding.seq) for finding in _of(report, "no gap")] == [(victim.journal_id, victim.seq)]
    assert _of(report, "chain")
    assert [finding.call_id for finding in _of(report, "versions")] == [victim.call_id]


async def test_verify_of_a_removed_event_whose_successors_moved_up_finds_it(
    database_url: str, connection: asyncpg.Connection, book: Book
) -> None:
    journal = _sealed(book)
    victim = _first(book, "chunk.received", journal)
    await tamper(connection, "DELETE FROM ledger.events WHERE journal_id = $1 AND seq = $2", journal, victim.seq)
    for event in book.events[journal][victim.seq :]:
        statement = "UPDATE ledger.events SET seq = seq - 1 WHERE journal_id = $1 AND seq = $2"
        await tamper(connection, statement, journal, event.seq)
    report = await verify(database_url)
    assert _of(report, "no gap") == []
    assert {finding.check for finding in report.findings} >= {"chain", "versions", "journals agree"}


async def test_verify_of_two_swapped_events_finds_it(
    database_url: str, connection: asyncpg.Connection, book: Book
) -> None:
    first = _first(book, "chunk.received")
    later = next(
        event
        for event in book.events[first.journal_id]
        if event.call_id == first.call_id and event.type == "chunk.received" and event.seq > first.seq
    )
    await tamper(
        connection,
        """
        UPDATE ledger.events e SET body = o.body FROM ledger.events o
        WHERE e.journal_id = $1 AND o.journal_id = $1 AND e.seq IN ($2, $3) AND o.seq = $2::bigint + $3::bigint - e.seq
        """,
        first.journal_id,
        first.seq,
        later.seq,
    )
    assert {finding.check for finding in (await verify(database_url)).findings} == {"chain"}


async def _append(connection: asyncpg.Connection, book: Book, journal: UUID, like: Event, **changes: Any) -> int:
    """Copy an event behind the end of a journal, as somebody would who cannot compute chains."""
    seq = len(book.events[journal]) + 1
    columns = {"seq": "$3", "chain": "NULL", **changes}
    names = ("journal_id", "seq", "call_id", "version", "type", "schema", "recorded_at", "facts", "body", "chain")
    values = ", ".join(columns.get(name, name) for name in names)
    await tamper(
        connection,
        f"INSERT INTO ledger.events ({', '.join(names)}) SELECT {values} FROM ledger.events"  # noqa: S608 - parts of this test
        " WHERE journal_id = $1 AND seq = $2",
        journal,
        like.seq,
        seq,
    )
    return seq


async def test_verify_of_a_second_terminal_finds_it(
    database_url: str, connection: asyncpg.Connection, book: Book
) -> None:
    journal = max(set(book.events) - book.sealed)
    terminal = _first(book, "call.completed", journal)
    seq = await _append(connection, book, journal, terminal, version="version + 9")
    report = await verify(database_url)
    (finding,) = _of(report, "calls begin and end once")
    assert (finding.seq, finding.call_id) == (seq, terminal.call_id)


async def test_verify_of_a_second_charge_finds_it(
    database_url: str, connection: asyncpg.Connection, book: Book
) -> None:
    journal = max(set(book.events) - book.sealed)
    cost = _first(book, "cost.recorded", journal)
    await _append(connection, book, journal, cost, version="version + 9")
    await _folded(database_url)
    report = await verify(database_url)
    assert [finding.call_id for finding in _of(report, "calls begin and end once")] == [cost.call_id]


async def test_verify_of_an_event_behind_the_seal_finds_it(
    database_url: str, connection: asyncpg.Connection, book: Book
) -> None:
    journal = _sealed(book)
    seq = await _append(connection, book, journal, _first(book, "chunk.received", journal))
    report = await verify(database_url)
    assert [(finding.journal_id, finding.seq) for finding in _of(report, "nothing after the seal")] == [(journal, seq)]
    assert _of(report, "chain")


async def test_verify_of_a_dropped_tail_finds_it(database_url: str, connection: asyncpg.Connection, book: Book) -> None:
    journal = _sealed(book)
    keep = len(book.events[journal]) - 3
    await tamper(connection, "DELETE FROM ledger.events WHERE journal_id = $1 AND seq > $2", journal, keep)
    report = await verify(database_url)
    (finding,) = _of(report, "journals agree")
    assert (finding.journal_id, finding.seq) == (journal, keep)
    assert f"the last one there is {keep}" in finding.message


async def test_verify_of_a_journal_cut_and_marked_open_is_contradicted_by_a_later_one(
    database_url: str, connection: asyncpg.Connection, book: Book
) -> None:
    journal = _sealed(book)
    await tamper(connection, "DELETE FROM ledger.events WHERE journal_id = $1 AND seq > 1", journal)
    await connection.execute("UPDATE ledger.journals SET sealed_at = NULL, sealed_seq = NULL")
    links = _of(await verify(database_url), "links")
    assert links
    assert {finding.journal_id for finding in links} == {journal}


async def test_verify_of_a_removed_journal_is_contradicted_by_a_later_one(
    database_url: str, connection: asyncpg.Connection, book: Book
) -> None:
    journal = _sealed(book)
    await tamper(connection, "DELETE FROM ledger.events WHERE journal_id = $1", journal)
    await connection.execute("DELETE FROM ledger.journals WHERE journal_id = $1", journal)
    assert {finding.journal_id for finding in _of(await verify(database_url), "links")} == {journal}


async def test_verify_of_a_journal_without_row_finds_it(
    database_url: str, connection: asyncpg.Connection, book: Book
) -> None:
    journal = max(book.events)
    await connection.execute("DELETE FROM ledger.journals WHERE journal_id = $1", journal)
    assert [finding.journal_id for finding in _of(await verify(database_url), "journals agree")] == [journal]


async def test_verify_of_a_removed_terminal_and_cost_finds_the_open_call(
    database_url: str, connection: asyncpg.Connection, book: Book
) -> None:
    journal = _sealed(book)
    terminal = _first(book, "call.abandoned", journal)
    await tamper(
        connection,
        "UPDATE ledger.events SET type = 'client.disconnected' WHERE journal_id = $1 AND seq = $2",
        journal,
        terminal.seq,
    )
    findings = _of(await verify(database_url), "calls begin and end once")
    assert [finding.call_id for finding in findings] == [terminal.call_id]
    assert "never ended" in findings[0].message


async def test_verify_of_a_missing_charge_finds_it(
    database_url: str, connection: asyncpg.Connection, book: Book
) -> None:
    journal = _sealed(book)
    cost = _first(book, "cost.recorded", journal)
    await tamper(
        connection,
        "UPDATE ledger.events SET type = 'cost.forgotten' WHERE journal_id = $1 AND seq = $2",
        journal,
        cost.seq,
    )
    report = await verify(database_url)
    assert cost.call_id in [finding.call_id for finding in _of(report, "one cost an attempt")]
    assert _of(report, "totals")


async def test_verify_of_a_gap_in_revisions_finds_it(
    database_url: str, connection: asyncpg.Connection, book: Book
) -> None:
    correction = _first(book, "cost.corrected")
    await tamper(
        connection,
        "UPDATE ledger.events SET facts = jsonb_set(facts, '{revision}', '3') WHERE journal_id = $1 AND seq = $2",
        correction.journal_id,
        correction.seq,
    )
    findings = _of(await verify(database_url), "one cost an attempt")
    assert [finding.call_id for finding in findings] == [correction.call_id]
    assert "1, 3" in findings[0].message


async def test_verify_of_a_missing_part_finds_it(database_url: str, connection: asyncpg.Connection, book: Book) -> None:
    head = _first(book, "body.received")
    await tamper(
        connection,
        "UPDATE ledger.events SET facts = jsonb_set(facts, '{parts}', '3') WHERE journal_id = $1 AND seq = $2",
        head.journal_id,
        head.seq,
    )
    report = await verify(database_url)
    ended = any(event.call_id == head.call_id and event.type == "call.completed" for event in book.all_events())
    assert [finding.call_id for finding in _of(report, "bodies")] == ([head.call_id] if ended else [])
    assert ended


async def test_verify_of_a_price_that_nobody_published_finds_it(
    database_url: str, connection: asyncpg.Connection, book: Book
) -> None:
    published = _first(book, "price.published")
    await tamper(
        connection,
        "UPDATE ledger.events SET facts = jsonb_set(facts, '{price,price_id}', '\"other\"')"
        " WHERE journal_id = $1 AND seq = $2",
        published.journal_id,
        published.seq,
    )
    (finding,) = _of(await verify(database_url), "prices")
    assert "sha256:00" in finding.message


@pytest.mark.parametrize("table", ["spend", "key_totals", "end_user_totals", "calls"])
async def test_verify_of_a_wrong_sum_finds_it_twice(
    database_url: str, connection: asyncpg.Connection, book: Book, table: str
) -> None:
    assert book.ended
    await connection.execute(
        f"UPDATE ledger.{table} SET billed_usd = billed_usd + 0.000000000001"  # noqa: S608 - a parameter of this test
        f" WHERE ctid = (SELECT ctid FROM ledger.{table} ORDER BY billed_usd DESC LIMIT 1)"
    )
    report = await verify(database_url)
    (total,) = _of(report, "totals")
    assert total.message.startswith(f"billed_usd in ledger.{table} is ")
    assert [finding.message.split(":")[0] for finding in _of(report, "projections")] == [f"ledger.{table}"] * 2


async def test_verify_of_a_stopped_projection_finds_it(
    database_url: str, connection: asyncpg.Connection, book: Book
) -> None:
    journal = max(book.events)
    await connection.execute(
        "UPDATE ledger.checkpoints SET stopped_by = 'event 3: because' WHERE projection = 'spend' AND journal_id = $1",
        journal,
    )
    findings = _of(await verify(database_url), "projections")
    assert [finding.journal_id for finding in findings] == [journal]


async def test_verify_of_projections_that_lag_finds_nothing(database_url: str, connection: asyncpg.Connection) -> None:
    await make_sound_book(connection, 3)
    assert (await verify(database_url)).findings == []


async def test_verify_of_one_journal_leaves_out_what_is_of_the_book_and_says_so(
    database_url: str, connection: asyncpg.Connection, book: Book
) -> None:
    await connection.execute("UPDATE ledger.spend SET calls = calls + 1")
    victim = _first(book, "chunk.received", max(book.events))
    await tamper(
        connection,
        "UPDATE ledger.events SET body = 'x' WHERE journal_id = $1 AND seq = $2",
        victim.journal_id,
        victim.seq,
    )
    sealed = await verify(database_url, journal_id=_sealed(book))
    assert (sealed.findings, sealed.counts["journals"]) == ([], 1)
    assert sealed.skipped
    (finding,) = (await verify(database_url, journal_id=victim.journal_id)).findings
    assert finding.check == "chain"
    with pytest.raises(NoSuchJournalError):
        await verify(database_url, journal_id=UUID(int=5))


async def test_verify_of_a_book_rewritten_beyond_reading_still_ends(
    database_url: str, connection: asyncpg.Connection, book: Book
) -> None:
    victim = _first(book, "attempt.started")
    for change in (
        "facts = '[]'",
        "facts = ('{\"attempt\": 1' || repeat('0', 6000) || '}')::jsonb",
        "facts = (repeat('[', 3000) || repeat(']', 3000))::jsonb",
        "recorded_at = 'infinity'",
        "type = repeat('x', 70000)",
    ):
        await tamper(
            connection,
            f"UPDATE ledger.events SET {change} WHERE journal_id = $1 AND seq = $2",  # noqa: S608 - parts of this test
            victim.journal_id,
            victim.seq,
        )
        report = await verify(database_url, journal_id=victim.journal_id)
        assert _of(report, "chain"), change
