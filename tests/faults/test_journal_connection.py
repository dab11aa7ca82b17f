"""The journal's writer when the line or the database fails: nothing lost, nothing twice, nothing told too early."""

import asyncio
import os
import random
import signal
from collections.abc import Awaitable, Callable

import asyncpg
import pytest
import uuid_utils.compat

from ledger import events
from ledger.errors import FencedError, LedgerUnavailableError
from ledger.journal import backend, writer
from ledger.journal.journals import Journals
from ledger.journal.outbox import Outbox, Verdict
from ledger.journal.recovery import take_over
from ledger.journal.watch import Watch
from ledger.postgres.migrate import upgrade
from tests.support.journal import RECEIVED, assert_sound, eventually, journals_at, read_book, unknown
from tests.support.journal_proxy import line_to
from tests.support.postgres import PrivateServer

#: COPY inserts every thousand rows, and holds no key that it has not inserted.
FROZEN_CHUNKS = 1_100


class Load:
    """Calls that append chunks for as long as they are let, and remember what they were told is durable."""

    def __init__(self, journals: Journals, calls: int) -> None:
        self.told: dict[tuple[str, int], bytes] = {}
        self.turns = 0
        self._journals = journals
        self._is_running = True
        self._tasks = [asyncio.create_task(self._call(number)) for number in range(calls)]

    async def _call(self, number: int) -> None:
        while self._is_running:
            try:
                log = self._journals.begin_call(uuid_utils.compat.uuid7())
            except LedgerUnavailableError:
                await asyncio.sleep(0.01)
                continue
            bodies = [b"{}", *(f"data: {number} {chunk}\n\n".encode() for chunk in range(4))]
            log.append(events.CALL_RECEIVED, RECEIVED, bodies[0])
            for body in bodies[1:]:
                log.chunk(body)
                await log.durable()
            self.told |= {(str(log.call_id), version): body for version, body in enumerate(bodies)}
            self.turns += 1
            log.close()

    async def end(self) -> None:
        """Let the calls under way end."""
        self._is_running = False
        await asyncio.gather(*self._tasks)

    async def assert_kept(self, url: str) -> None:
        """Assert that all that was told is in the book, once, and that the book is sound."""
        book = await read_book(url)
        assert_sound(book)
        kept = {(str(event.call_id), event.version): event.body for event in book.events if event.call_id is not None}
        assert len(kept) == sum(event.call_id is not None for event in book.events)
        assert kept == self.told
        assert len(book.journals()) == 1


async def committed_unheard(url: str, journals: Journals) -> None:
    """Wait until the database holds a flush that its writer, who hears nothing, takes for not yet acknowledged.

    That something was swallowed does not say so: COPY is answered once before its data are in, and once after.
    """
    connection = await asyncpg.connect(url)
    writer = journals.current
    query = "SELECT max(seq) > $2 FROM ledger.events WHERE journal_id = $1"
    while not await connection.fetchval(query, writer.journal_id, writer.acknowledged_seq):  # noqa: ASYNC110 - in a database
        await asyncio.sleep(0.002)
    await connection.close()


def verdicts(monkeypatch: pytest.MonkeyPatch) -> list[Verdict]:
    """Listen to what the outbox says on each reconnect."""
    heard: list[Verdict] = []
    judge = Outbox.judge

    def listen(self: Outbox, last_seq: int, last_chain: bytes | None) -> Verdict:
        heard.append(judge(self, last_seq, last_chain))
        return heard[-1]

    monkeypatch.setattr(Outbox, "judge", listen)
    return heard


async def test_flush_whose_answer_is_lost_is_found_and_not_written_twice(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard, rng = verdicts(monkeypatch), random.Random(1)
    async with line_to(database_url) as (line, url), journals_at(url) as journals:
        load = Load(journals, 8)
        for _ in range(20):
            turns = load.turns
            await eventually(lambda turns=turns: load.turns > turns)
            line.is_deaf = True
            await committed_unheard(database_url, journals)
            line.cut()
            await asyncio.sleep(rng.uniform(0, 0.02))
        await load.end()
    assert heard.count(Verdict.ACKNOWLEDGE) >= 20
    await load.assert_kept(database_url)


async def test_flush_cut_at_any_byte_is_resent(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    heard, rng = verdicts(monkeypatch), random.Random(2)
    async with line_to(database_url) as (line, url), journals_at(url) as journals:
        load = Load(journals, 8)
        for _ in range(20):
            turns = load.turns
            await eventually(lambda turns=turns: load.turns > turns)
            line.frozen.clear()
            line.sent_bytes_max = rng.randrange(1, 6_000)
            await line.frozen.wait()
            line.close()
        await load.end()
    assert heard.count(Verdict.RESEND) >= 10
    await load.assert_kept(database_url)


async def test_flush_whose_backend_is_ended_at_random_moments_loses_nothing(database_url: str) -> None:
    rng = random.Random(3)
    administrator = await asyncpg.connect(database_url)
    async with journals_at(database_url) as journals:
        load = Load(journals, 8)
        for _ in range(20):
            await asyncio.sleep(rng.uniform(0, 0.02))
            await administrator.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
                "WHERE application_name LIKE 'responses-ledger %' AND datname = current_database()"
            )
        await load.end()
    await administrator.close()
    await load.assert_kept(database_url)


async def test_resend_that_meets_its_own_key_reads_again_and_acknowledges(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    judge, heard = Outbox.judge, list[Verdict]()

    def late(self: Outbox, last_seq: int, last_chain: bytes | None) -> Verdict:
        """Read first as if the commit were not yet to be seen."""
        verdict = judge(self, last_seq, last_chain)
        heard.append(verdict)
        return Verdict.RESEND if heard.count(Verdict.ACKNOWLEDGE) == 1 else verdict

    monkeypatch.setattr(Outbox, "judge", late)
    async with line_to(database_url) as (line, url), journals_at(url) as journals:
        line.is_deaf = True
        log = journals.begin_call(uuid_utils.compat.uuid7())
        log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
        await committed_unheard(database_url, journals)
        line.cut()
        await log.durable()
        log.close()
    assert heard == [Verdict.ACKNOWLEDGE, Verdict.ACKNOWLEDGE]
    assert_sound(await read_book(database_url))


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_database_down_under_load_and_back_goes_on_without_a_restart(
    postgres_server: Callable[..., PrivateServer], how: str
) -> None:
    server = await asyncio.to_thread(postgres_server)
    await asyncio.to_thread(upgrade, server.url)
    async with journals_at(server.url) as journals:
        load = Load(journals, 8)
        await eventually(lambda: load.turns > 20)
        await asyncio.to_thread(getattr(server, how))
        await eventually(lambda: (journals.current.disconnected_s or 0) > journals.settings.refuse_after_s)
        with pytest.raises(LedgerUnavailableError, match="cannot be reached"):
            journals.begin_call(uuid_utils.compat.uuid7())
        await asyncio.to_thread(server.start)
        turns = load.turns
        await eventually(lambda: load.turns > turns + 20)
        await load.end()
        assert journals.current.disconnected_s is None
    await load.assert_kept(server.url)


@pytest.mark.parametrize("kept", [0, 3])
async def test_database_restored_to_the_past_is_reported_and_never_filled(database_url: str, kept: int) -> None:
    async with journals_at(database_url) as journals:
        former = journals.current.journal_id
        log = journals.begin_call(uuid_utils.compat.uuid7())
        log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
        for _ in range(5):
            log.chunk(b"data: 1\n\n")
            await log.durable()
        await _forget(database_url, kept)
        log.chunk(b"data: too late\n\n")
        with pytest.raises(FencedError, match=f"ends at seq {kept}, but seq 7 had been acknowledged"):
            await log.durable()
        await eventually(lambda: journals.current.journal_id != former and bool(journals.lost_tails))
        await journals.administer("config.loaded", {})
        watch = Watch(database_url, unknown, lease_s=15, own=journals.own_ids, lost=journals.take_lost_tails)
        await watch.look()
        await watch.close()
    book = await read_book(database_url)
    assert_sound(book)
    assert [event.type for event in book.of(former)[kept:]][-1] == "journal.sealed"
    assert book.of(former)[-1].facts["reason"] == "lost_tail"
    assert not any(event.body == b"data: too late\n\n" for event in book.events)
    assert len(book.journals()) == 2


async def test_stopped_backend_holds_durability_back_until_it_goes_on(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        pid = journals.current._backend.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            log = journals.begin_call(uuid_utils.compat.uuid7())
            log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
            assert not await log.wait_for(0.3)
        finally:
            os.kill(pid, signal.SIGCONT)
        await log.durable()
        log.close()
    assert_sound(await read_book(database_url))


async def test_stopped_backend_beyond_the_flush_timeout_is_left_behind(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _be_impatient(monkeypatch)
    async with journals_at(database_url) as journals:
        pid = journals.current._backend.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            log = journals.begin_call(uuid_utils.compat.uuid7())
            log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
            await log.durable()
        finally:
            os.kill(pid, signal.SIGCONT)
        log.chunk(b"data: 1\n\n")
        await log.durable()
        log.close()
    assert_sound(await read_book(database_url))


async def test_backend_frozen_inside_a_copy_is_ended_by_its_own_writer(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _be_impatient(monkeypatch)
    async with line_to(database_url) as (line, url), journals_at(url) as journals:
        line.is_frozen_in_copy = True
        log = journals.begin_call(uuid_utils.compat.uuid7())
        log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
        for _ in range(FROZEN_CHUNKS):
            log.chunk(b"data: 1\n\n")
        await line.frozen.wait()
        # asyncpg cancels by a connection of its own, which must not get through either.
        connections = line.connections
        await eventually(lambda: line.connections > connections + 2)
        line.is_down = False
        # As long as the former backend lives, each flush waits for its key, and is given up long before it gets it.
        await asyncio.wait_for(log.durable(), 60)
        log.close()
    assert_sound(await read_book(database_url))


async def test_writer_frozen_inside_a_copy_is_taken_over_by_ending_its_backend(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "FLUSH_TIMEOUT_S", 3.0)
    async with line_to(database_url) as (line, url), journals_at(url, close_s=0.1) as journals:
        log = journals.begin_call(uuid_utils.compat.uuid7())
        log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
        await log.durable()
        line.is_frozen_in_copy = True
        for _ in range(FROZEN_CHUNKS):
            log.chunk(b"data: 1\n\n")
        await line.frozen.wait()
        taken = await take_over(database_url, journals.current.journal_id, unknown)
        assert taken.won
        assert taken.abandoned == 1
        line.is_down = False
        with pytest.raises(FencedError):
            await log.durable()
    book = await read_book(database_url)
    assert_sound(book)
    assert [event.type for event in book.of_call(log.call_id)] == ["call.received", "call.abandoned"]


async def _read_only(administrator: asyncpg.Connection, leaf: str, *, is_on: bool) -> None:
    del leaf
    name = await administrator.fetchval("SELECT current_database()")
    action = "SET default_transaction_read_only = on" if is_on else "RESET default_transaction_read_only"
    await administrator.execute(f'SET default_transaction_read_only = off; ALTER DATABASE "{name}" {action}')
    await administrator.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'responses-ledger journal' "
        "AND datname = current_database()"
    )


async def _disk_full(administrator: asyncpg.Connection, leaf: str, *, is_on: bool) -> None:
    if is_on:
        await administrator.execute(
            "CREATE FUNCTION public.full_disk() RETURNS trigger LANGUAGE plpgsql AS "
            "$$BEGIN RAISE 'no space left on device' USING ERRCODE = 'disk_full'; END$$; "
            f"CREATE TRIGGER full_disk BEFORE INSERT ON {leaf} FOR EACH ROW EXECUTE FUNCTION public.full_disk()"
        )
    else:
        await administrator.execute(f"DROP TRIGGER full_disk ON {leaf}")


async def _no_right(administrator: asyncpg.Connection, leaf: str, *, is_on: bool) -> None:
    del leaf
    words = "REVOKE INSERT ON ledger.events FROM" if is_on else "GRANT INSERT ON ledger.events TO"
    await administrator.execute(f"{words} responses_ledger_app")


@pytest.mark.parametrize("trouble", [_read_only, _disk_full, _no_right])
async def test_database_that_refuses_to_write_is_tried_again_with_pauses(
    database_url: str, trouble: Callable[..., Awaitable[None]]
) -> None:
    administrator = await asyncpg.connect(database_url)
    async with line_to(database_url) as (line, url), journals_at(url) as journals:
        leaf = await administrator.fetchval("SELECT tableoid::regclass::text FROM ledger.events LIMIT 1")
        await trouble(administrator, leaf, is_on=True)
        connections = line.connections
        log = journals.begin_call(uuid_utils.compat.uuid7())
        log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
        assert not await log.wait_for(1.2)
        assert line.connections - connections < 10
        assert journals.current.disconnected_s is not None
        await trouble(administrator, leaf, is_on=False)
        await log.durable()
        log.close()
    await administrator.close()
    book = await read_book(database_url)
    assert_sound(book)
    assert len(book.journals()) == 1


@pytest.mark.parametrize(("configured", "expected"), [("off", "on"), ("on", "on"), ("remote_apply", "remote_apply")])
async def test_synchronous_commit_of_the_database_is_never_weaker_than_on(
    database_url: str, configured: str, expected: str
) -> None:
    connection = await asyncpg.connect(database_url)
    name = await connection.fetchval("SELECT current_database()")
    await connection.execute(f'ALTER DATABASE "{name}" SET synchronous_commit = {configured}')
    await connection.close()
    async with journals_at(database_url) as journals:
        opened = journals.current._connection
        assert opened is not None
        pinned = await opened.fetchrow("SELECT setting, source FROM pg_settings WHERE name = 'synchronous_commit'")
        assert pinned is not None
        assert tuple(pinned) == (expected, "session")
        assert await opened.fetchval("SELECT current_user") == "responses_ledger_app"


async def _forget(url: str, kept: int) -> None:
    """Take the database back in time, as a restore does, and end the connections."""
    connection = await asyncpg.connect(url)
    leaf = await connection.fetchval("SELECT tableoid::regclass FROM ledger.events LIMIT 1")
    await connection.execute(f"ALTER TABLE {leaf} DISABLE TRIGGER ALL; ALTER TABLE ledger.events DISABLE TRIGGER ALL")
    await connection.execute("DELETE FROM ledger.events WHERE seq > $1", kept)
    await connection.fetch(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'responses-ledger journal' "
        "AND datname = current_database()"
    )
    await connection.close()


def _be_impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "FLUSH_TIMEOUT_S", 0.5)
    monkeypatch.setattr(backend, "_TERMINATE", backend._TERMINATE.replace("2000", "100"))
