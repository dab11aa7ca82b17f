"""Taking over the journals of the dead: what is closed, with what, and what is left alone."""

import asyncio
import json
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import uuid_utils.compat

from ledger import events
from ledger.events import PART_BYTES_MAX
from ledger.journal import open_calls
from ledger.journal.call_log import CallLog
from ledger.journal.journals import Journals
from ledger.journal.open_calls import OpenAttempt, OpenCall
from ledger.journal.recovery import take_over
from ledger.journal.watch import Watch
from ledger.money.cost import Charge, unknown_cost
from tests.support.journal import (
    RECEIVED,
    assert_closed,
    assert_sound,
    cost,
    ended,
    journals_at,
    read_book,
    started,
    unknown,
)


def begin(journals: Journals) -> CallLog:
    """Begin a call."""
    log = journals.begin_call(uuid_utils.compat.uuid7())
    log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
    return log


async def die(journals: Journals) -> UUID:
    """End a process's journals as kill -9 does: nothing more is written. Returns the journal."""
    journal_id = journals.current.journal_id
    for task in journals._tasks:
        task.cancel()
    await asyncio.gather(*journals._tasks, return_exceptions=True)
    await journals.current.stop()
    return journal_id


class Estimates:
    """Estimates that keep what they were asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[OpenCall, OpenAttempt]] = []

    def __call__(self, call: OpenCall, attempt: OpenAttempt) -> Charge:
        """Keep, and say unknown."""
        self.asked.append((call, attempt))
        return unknown_cost("asked")


async def test_take_over_of_calls_at_every_stage_closes_each_once(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        logs = {
            name: begin(journals)
            for name in ("received", "started", "streaming", "second", "unpaid", "done", "refused")
        }
        for name in ("started", "streaming", "second", "unpaid", "done"):
            logs[name].append(events.ATTEMPT_STARTED, started(1))
        for name in ("streaming", "second"):
            logs[name].append(events.ATTEMPT_ANSWERED, {"attempt": 1, "status": 200, "headers": []})
            logs[name].chunk(b"data: 1\n\n")
        logs["second"].append(events.ATTEMPT_FAILED, {"attempt": 1, "reason": "cut"})
        logs["second"].append(events.COST_RECORDED, cost(logs["second"], 1, final=False))
        logs["second"].append(events.ATTEMPT_STARTED, started(2))
        logs["unpaid"].append(events.CALL_COMPLETED, ended(1))
        logs["done"].append(events.CALL_COMPLETED, ended(1), with_next=True)
        logs["done"].append(events.COST_RECORDED, cost(logs["done"], 1, final=True))
        logs["refused"].append(events.CALL_REJECTED, {"status": 404, "error": {}, "reason": "model"})
        for log in logs.values():
            await log.durable()
        journal_id = await die(journals)
        taken = await take_over(database_url, journal_id, unknown)
    book = await read_book(database_url)
    assert_sound(book)
    assert (taken.won, taken.abandoned, taken.sealed_seq) == (True, 4, len(book.of(journal_id)))
    assert book.of(journal_id)[-1].facts == {"reason": "dead", "last_seq": taken.sealed_seq}
    for name in logs.keys() - {"refused"}:
        assert_closed(book.of_call(logs[name].call_id))
    kinds = {name: [event.type for event in book.of_call(log.call_id)] for name, log in logs.items()}
    assert kinds["done"][-2:] == ["call.completed", "cost.recorded"]
    assert kinds["unpaid"][-2:] == ["call.completed", "cost.recorded"]
    assert kinds["received"] == ["call.received", "call.abandoned"]
    assert kinds["second"][-2:] == ["call.abandoned", "cost.recorded"]
    assert kinds["refused"][-1] == "call.rejected"
    last = book.of_call(logs["second"].call_id)
    assert (last[-2].facts["attempts"], last[-2].facts["chunks"]) == (2, 1)
    assert (last[-1].facts["attempt"], last[-1].facts["calls"], last[-1].facts["unknown"]) == (2, 0, 1)
    assert last[-1].facts["dims"]["end_user"] == "alice"


async def test_take_over_twice_and_of_an_empty_journal_happens_once(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    journal_id = await connection.fetchval("SELECT ledger.open_journal('{}'::jsonb, NULL, NULL)")
    first = await take_over(database_url, journal_id, unknown)
    second = await take_over(database_url, journal_id, unknown)
    row = await connection.fetchrow(
        "SELECT sealed_at, sealed_seq FROM ledger.journals WHERE journal_id = $1", journal_id
    )
    await connection.close()
    assert (first.won, first.sealed_seq, second.won, second.sealed_seq) == (True, 1, False, 1)
    assert row is not None
    assert row["sealed_at"] is not None
    assert row["sealed_seq"] == 1


async def test_take_over_of_a_sealed_journal_whose_row_does_not_say_so_mends_the_row(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        journal_id = journals.current.journal_id
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE ledger.journals SET sealed_at = NULL, sealed_seq = NULL")
    taken = await take_over(database_url, journal_id, unknown)
    assert not taken.won
    assert await connection.fetchval("SELECT sealed_seq FROM ledger.journals") == taken.sealed_seq
    await connection.close()


async def test_take_over_beside_a_correction_of_another_journals_call_leaves_that_call(database_url: str) -> None:
    async with journals_at(database_url) as first:
        log = begin(first)
        log.append(events.ATTEMPT_STARTED, started(1))
        log.append(events.CALL_COMPLETED, ended(1), with_next=True)
        log.append(events.COST_RECORDED, cost(log, 1, final=True))
        await log.durable()
        log.close()
    async with journals_at(database_url) as second:
        entry = second.current.append(log.call_id.bytes, log.next_version, b"cost.corrected", b'{"attempt":1}')
        await second.current.durable(entry.seq)
        taken = await take_over(database_url, await die(second), unknown)
    assert taken.abandoned == 0
    kinds = [event.type for event in (await read_book(database_url)).of_call(log.call_id)]
    assert kinds == ["call.received", "attempt.started", "call.completed", "cost.recorded", "cost.corrected"]


async def test_take_over_with_bodies_in_parts_hands_them_over_whole(database_url: str) -> None:
    request, answer = bytes(PART_BYTES_MAX) + b"r", b"{" + bytes(2 * PART_BYTES_MAX)
    estimates = Estimates()
    async with journals_at(database_url) as journals:
        log = journals.begin_call(uuid_utils.compat.uuid7())
        await log.append_large(events.CALL_RECEIVED, RECEIVED, request)
        log.append(events.ATTEMPT_STARTED, started(1))
        log.append(events.ATTEMPT_ANSWERED, {"attempt": 1, "status": 201, "headers": []})
        await log.append_large(events.BODY_RECEIVED, {"attempt": 1}, answer)
        other = begin(journals)
        other.append(events.ATTEMPT_STARTED, started(1))
        other.chunk(b"data: 1\n\n")
        await other.append_large(events.CHUNK_RECEIVED, {}, answer)
        await other.durable()
        await take_over(database_url, await die(journals), estimates)
    (call, attempt), (_, streamed) = estimates.asked
    assert call.request == request
    assert (attempt.body, attempt.http_status, attempt.chunks) == (answer, 201, [])
    assert (streamed.body, streamed.chunks) == (None, [b"data: 1\n\n", answer])


async def test_take_over_with_bodies_beyond_the_bound_estimates_without_them(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_calls, "BODY_BYTES_MAX", 100)
    estimates = Estimates()
    async with journals_at(database_url) as journals:
        log = begin(journals)
        log.append(events.ATTEMPT_STARTED, started(1))
        log.chunk(bytes(101))
        await log.durable()
        await take_over(database_url, await die(journals), estimates)
    ((call, attempt),) = estimates.asked
    assert (call.request, call.chunk_count, attempt.chunks) == (None, 1, [])


@pytest.mark.parametrize("broken", ["call.received", "attempt.started", "cost.recorded", "call.completed"])
async def test_take_over_with_an_unstorable_event_still_closes_the_call(database_url: str, broken: str) -> None:
    async with journals_at(database_url) as journals:
        log = begin(journals)
        log.append(events.ATTEMPT_STARTED, started(1))
        log.append(events.CALL_COMPLETED, ended(1))
        log.append(events.COST_RECORDED, cost(log, 1, final=True))
        await log.durable()
        journal_id = await die(journals)
    await _rewrite(database_url, broken, events.EVENT_UNSTORABLE, {"type": broken, "error": "no"})
    estimates = Estimates()
    await take_over(database_url, journal_id, estimates)
    called = (await read_book(database_url)).of_call(log.call_id)
    assert sum(event.type in events.TERMINALS for event in called) == 1
    assert [event.facts["attempt"] for event in called if event.type == "cost.recorded"] == [1]
    assert [event.version for event in called] == list(range(len(called)))
    assert len(estimates.asked) == (broken == "cost.recorded")


async def test_take_over_with_an_unreadable_request_does_not_estimate_but_says_unknown(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        log = begin(journals)
        log.append(events.ATTEMPT_STARTED, started(1))
        await log.durable()
        journal_id = await die(journals)
    await _rewrite(database_url, "call.received", events.EVENT_UNSTORABLE, {"type": "call.received", "error": "no"})
    estimates = Estimates()
    await take_over(database_url, journal_id, estimates)
    last = (await read_book(database_url)).of_call(log.call_id)[-1]
    assert estimates.asked == []
    assert (last.facts["state"], last.facts["unknown"], last.facts["dims"]["key"]) == ("unknown", 1, "")


async def test_take_over_with_facts_that_were_cut_still_closes_the_call(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        log = begin(journals)
        log.append(events.ATTEMPT_STARTED, started(1))
        await log.durable()
        journal_id = await die(journals)
    await _rewrite(database_url, "attempt.started", "attempt.started", {"altered": True, "cut": "all"})
    await take_over(database_url, journal_id, unknown)
    assert [event.type for event in (await read_book(database_url)).of_call(log.call_id)][-2:] == [
        "call.abandoned",
        "cost.recorded",
    ]


async def test_recover_at_start_takes_the_ended_of_this_machine_and_leaves_the_others(database_url: str) -> None:
    ids: list[UUID] = []
    for change in list[dict[str, Any]](({"started": "1"}, {"boot_id": "another machine"}, {})):
        async with journals_at(database_url, identity=change) as journals:
            await begin(journals).durable()
            ids.append(await die(journals))
    watch = Watch(database_url, unknown, lease_s=15)
    assert await watch.recover_at_start() == 1
    assert await watch.recover_at_start() == 0
    await watch.close()
    book = await read_book(database_url)
    assert [book.of(journal_id)[-1].type for journal_id in ids] == ["journal.sealed", "call.received", "call.received"]


async def test_look_with_one_journal_that_cannot_be_taken_over_takes_the_others(database_url: str) -> None:
    async with journals_at(database_url, identity={"started": "1"}) as first:
        log = begin(first)
        log.append(events.ATTEMPT_STARTED, started(1))
        await log.durable()
        await die(first)
    async with journals_at(database_url, identity={"started": "1"}) as second:
        await begin(second).durable()
        other = await die(second)

    def faulty(_call: OpenCall, _attempt: OpenAttempt) -> Charge:
        raise ValueError("somebody else's code")

    watch = Watch(database_url, faulty, lease_s=15)
    await watch.look()
    await watch.close()
    assert (await read_book(database_url)).of(other)[-1].type == "journal.sealed"


async def test_look_with_a_lease_that_ran_out_takes_over_and_seals_once(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        await begin(journals).durable()
        journal_id = await die(journals)
    watches = [Watch(database_url, unknown, lease_s=0) for _ in range(3)]
    await asyncio.gather(*(watch.look() for watch in watches))
    for watch in watches:
        await watch.close()
    book = await read_book(database_url)
    assert_sound(book)
    assert book.of(journal_id)[-1].type == "journal.sealed"


async def test_look_leaves_its_own_process_journals_however_still(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        own = journals.current.journal_id
        watch = Watch(database_url, unknown, lease_s=0, own=lambda: {own})
        await watch.look()
        await watch.look()
        await watch.close()
        await begin(journals).durable()


async def test_look_at_a_lost_tail_seals_it_with_that_reason_and_once(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        await begin(journals).durable()
        journal_id = await die(journals)
    lost = [journal_id]

    def take() -> list[UUID]:
        taken, lost[:] = list(lost), []
        return taken

    watch = Watch("postgresql://nobody@127.0.0.1:1/nothing", unknown, lease_s=15, lost=take)
    with pytest.raises(OSError):  # noqa: PT011 - the message is the system's
        await watch.look()
    watch._url = database_url
    await watch.look()
    assert watch._lost_tails == set()
    await watch.close()
    assert (await read_book(database_url)).of(journal_id)[-1].facts["reason"] == "lost_tail"


async def _rewrite(url: str, type_: str, into: str, facts: dict[str, Any]) -> None:
    """Falsify an event, as only a superuser without the triggers can."""
    connection = await asyncpg.connect(url)
    leaf = await connection.fetchval("SELECT tableoid::regclass FROM ledger.events LIMIT 1")
    await connection.execute(f"ALTER TABLE {leaf} DISABLE TRIGGER ALL; ALTER TABLE ledger.events DISABLE TRIGGER ALL")
    done = await connection.execute(
        "UPDATE ledger.events SET type = $2, facts = $3 WHERE type = $1", type_, into, json.dumps(facts)
    )
    await connection.close()
    assert done == "UPDATE 1"
