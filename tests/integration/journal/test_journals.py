"""A process's journals: opening, rotating, replacing, beating, closing, and refusing what could not be recorded."""

import asyncio
import time

import asyncpg
import pytest
import uuid_utils.compat

from ledger import events
from ledger.errors import FencedError, LedgerUnavailableError
from ledger.journal import journals as module
from ledger.journal.call_log import CallLog
from ledger.journal.identity import writer_identity
from ledger.journal.journals import Journals, JournalSettings
from ledger.journal.recovery import take_over
from tests.support.journal import RECEIVED, assert_sound, eventually, journals_at, read_book, unknown
from tests.support.journal_proxy import Line, line_to

#: A beat is given up after twice this, and its connection with it: a busy machine must be able to connect in that time.
BEAT_S = 0.25


def begin(journals: Journals) -> CallLog:
    """Begin a call."""
    log = journals.begin_call(uuid_utils.compat.uuid7())
    log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
    return log


async def lose(line: Line, journals: Journals) -> None:
    """Cut the line and keep it cut, until the journal has noticed."""
    line.is_down = True
    line.cut()
    journals.current.append(None, None, b"config.loaded", b"{}")
    await eventually(lambda: journals.current.disconnected_s is not None)


async def test_close_with_everything_durable_seals_as_clean(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        log = begin(journals)
        log.close()
    book = await read_book(database_url)
    assert_sound(book)
    assert [event.type for event in book.events] == ["journal.opened", "call.received", "journal.sealed"]
    assert book.events[-1].facts == {"reason": "clean", "last_seq": 3}
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval("SELECT sealed_seq FROM ledger.journals WHERE sealed_at IS NOT NULL") == 3
    await connection.close()


async def test_close_with_a_call_under_way_leaves_the_journal_to_recovery_and_tells_the_call(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        log = begin(journals)
        await log.durable()
    with pytest.raises(FencedError, match="was closed"):
        log.chunk(b"data: 1\n\n")
    assert (await read_book(database_url)).events[-1].type == "call.received"


async def test_close_in_an_outage_ends_in_time_and_leaves_nobody_waiting(database_url: str) -> None:
    async with line_to(database_url) as (line, url):
        journals = Journals(url, writer_identity("test"))
        await journals.open()
        await lose(line, journals)
        writer = journals.current
        waiting = [asyncio.create_task(writer.durable(writer.last_seq)), asyncio.create_task(writer.progress())]
        await asyncio.sleep(0)
        began = time.monotonic()
        await journals.close(0.3)
        assert time.monotonic() - began < 3
        told = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 1)
        assert isinstance(told[0], FencedError)
        assert told[1] is None
        assert writer.pending_bytes == 0


async def test_stop_that_is_cancelled_is_not_mistaken_for_the_end_of_its_task(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        stopping = asyncio.create_task(journals.current.stop())
        await asyncio.sleep(0)
        stopping.cancel()
        with pytest.raises(asyncio.CancelledError):
            await stopping
        await journals.current.stop()


async def test_rotation_while_a_call_runs_keeps_its_journal_open_until_it_ends(database_url: str) -> None:
    async with journals_at(database_url, JournalSettings(journal_events_max=3)) as journals:
        former = journals.current
        log = begin(journals)
        log.chunk(b"data: 1\n\n")
        await eventually(lambda: journals.current is not former)
        log.chunk(b"data: 2\n\n")
        await log.durable()
        later = begin(journals)
        await later.durable()
        assert former.fenced is None
        log.close()
        journals.wake()
        await eventually(lambda: former.fenced is not None)
        later.close()
        successor = journals.current.journal_id
    book = await read_book(database_url)
    assert_sound(book)
    assert [event.type for event in book.of(former.journal_id)] == [
        "journal.opened", "call.received", "chunk.received", "chunk.received", "journal.sealed",
    ]  # fmt: skip
    assert book.of_call(later.call_id)[0].journal_id == successor
    ((linked, seq, _),) = book.of(successor)[0].facts["links"]
    assert (linked, seq) == (str(former.journal_id), 3)


async def test_rotation_by_age_follows(database_url: str) -> None:
    async with journals_at(database_url, JournalSettings(journal_age_s=0.3)) as journals:
        former = journals.current
        await eventually(lambda: journals.current is not former)


async def test_rotation_that_fails_is_tried_again(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_RETRY_S", 0.05)
    async with line_to(database_url) as (line, url), journals_at(url) as journals:
        former = journals.current
        await take_over(database_url, former.journal_id, unknown)
        line.is_down = True
        former.notice_sealed()
        connections = line.connections
        await eventually(lambda: line.connections > connections + 2)
        with pytest.raises(LedgerUnavailableError, match="being replaced"):
            journals.begin_call(uuid_utils.compat.uuid7())
        line.is_down = False
        await eventually(lambda: journals.current is not former)
        log = begin(journals)
        await log.durable()
        log.close()


async def test_open_of_a_journal_that_cannot_be_written_gives_up_and_leaves_nothing_running(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_OPEN_TIMEOUT_S", 0.3)
    administrator = await asyncpg.connect(database_url)
    await administrator.execute("REVOKE INSERT ON ledger.events FROM responses_ledger_app")
    before = len(asyncio.all_tasks())
    with pytest.raises(TimeoutError):
        await Journals(database_url, writer_identity("test")).open()
    # The driver's own task, that a wait it was cancelled in is told to the server, ends a little later.
    await eventually(lambda: len(asyncio.all_tasks()) == before)
    await administrator.close()


async def test_heartbeat_rises_and_comes_back_after_its_connection_was_ended(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", BEAT_S)
    administrator = await asyncpg.connect(database_url)

    async def beyond(beats: int) -> int:
        now = 0
        while now <= beats:
            await asyncio.sleep(0.01)
            now = int(await administrator.fetchval("SELECT max(heartbeat) FROM ledger.journals") or 0)
        return now

    async with journals_at(database_url):
        seen = await beyond(2)
        await administrator.fetch(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name LIKE '%heartbeat' "
            "AND datname = current_database()"
        )
        await beyond(seen + 2)
    await administrator.close()


async def test_heartbeat_of_an_idle_journal_that_was_taken_over_has_it_replaced(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "HEARTBEAT_S", BEAT_S)
    async with journals_at(database_url) as journals:
        former = journals.current
        await take_over(database_url, former.journal_id, unknown)
        await eventually(lambda: journals.current is not former)
        log = begin(journals)
        await log.durable()
        log.close()
    assert_sound(await read_book(database_url))


async def test_begin_call_with_a_full_buffer_is_refused_and_later_let_in(database_url: str) -> None:
    settings = JournalSettings(buffer_bytes=10_000)
    async with line_to(database_url) as (line, url), journals_at(url, settings) as journals:
        log = begin(journals)
        await log.durable()
        line.is_frozen_in_copy = True
        log.chunk(bytes(10_000))
        with pytest.raises(LedgerUnavailableError, match="buffer is full"):
            journals.begin_call(uuid_utils.compat.uuid7())
        await line.frozen.wait()
        line.is_down = False
        line.close()
        await log.durable()
        journals.begin_call(uuid_utils.compat.uuid7()).close()
        log.close()


async def test_begin_call_while_the_process_ends_is_refused(database_url: str) -> None:
    journals = Journals(database_url, writer_identity("test"))
    with pytest.raises(LedgerUnavailableError, match="not open"):
        journals.begin_call(uuid_utils.compat.uuid7())
    await journals.open()
    closing = asyncio.create_task(journals.close(5))
    await asyncio.sleep(0)
    with pytest.raises(LedgerUnavailableError, match=r"shutting down"):
        journals.begin_call(uuid_utils.compat.uuid7())
    await closing


async def test_append_to_a_journal_that_is_being_sealed_is_refused(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        writer = journals.current
        sealing = asyncio.create_task(writer.seal("clean", 5))
        await asyncio.sleep(0)
        with pytest.raises(FencedError, match="being sealed"):
            writer.append(None, None, b"config.loaded", b"{}")
        assert await sealing
    assert_sound(await read_book(database_url))


async def test_administer_in_an_outage_says_that_it_could_not_and_does_not_wait_for_ever(database_url: str) -> None:
    async with line_to(database_url) as (line, url), journals_at(url, close_s=0.1) as journals:
        line.is_down = True
        line.cut()
        with pytest.raises(LedgerUnavailableError, match="could not be made durable"):
            await journals.administer("config.loaded", {}, timeout_s=0.2)


async def test_administer_on_a_fenced_journal_says_so_and_works_on_the_next(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        former = journals.current
        await take_over(database_url, former.journal_id, unknown)
        with pytest.raises(LedgerUnavailableError):
            await journals.administer("config.loaded", {})
        await eventually(lambda: journals.current is not former)
        position = await journals.administer("config.loaded", {})
    assert position.journal_id != former.journal_id
    assert [event.type for event in (await read_book(database_url)).events].count("config.loaded") == 1


async def test_publish_of_more_than_the_buffer_holds_waits_for_room(database_url: str) -> None:
    async with journals_at(database_url, JournalSettings(buffer_bytes=50_000)) as journals:
        many = [{"price": {"model": "x" * 1_000, "number": number}} for number in range(300)]
        position = await journals.publish("price.published", many)
        assert await journals.publish("price.published", []) is None
    assert position is not None
    published = [event for event in (await read_book(database_url)).events if event.type == "price.published"]
    assert [event.facts["price"]["number"] for event in published] == list(range(300))
    assert published[-1].seq == position.seq


async def test_publish_in_an_outage_says_that_it_could_not(database_url: str) -> None:
    async with line_to(database_url) as (line, url), journals_at(url, close_s=0.1) as journals:
        line.is_down = True
        line.cut()
        with pytest.raises(LedgerUnavailableError, match="2 events"):
            await journals.publish("price.published", [{}, {}], timeout_s=0.2)


async def test_pending_bytes_after_everything_are_none_and_status_says_so(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        logs = [begin(journals) for _ in range(20)]
        await asyncio.gather(*(log.durable() for log in logs))
        status = journals.status()
        assert (status["pending_bytes"], status["lost_tails"]) == (0, [])
        assert (status["journals"][0]["open_calls"], status["journals"][0]["acknowledged_seq"]) == (20, 21)
        for log in logs:
            log.close()
