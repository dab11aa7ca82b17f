"""One event that Postgres would refuse, among a thousand calls: it harms itself and nobody else."""

import asyncio
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
import uuid_utils.compat

from ledger import events
from ledger.errors import FencedError
from ledger.journal.call_log import CallLog
from ledger.journal.journals import Journals
from tests.support.journal import RECEIVED, assert_sound, cost, ended, eventually, journals_at, read_book, started

POISONS: dict[str, Any] = {
    "nul": "\x00",
    "surrogate": "\ud800",
    "endless number": Decimal("1e200000"),
    "nan": float("nan"),
    "float": 1e300,
    "huge integer": 1 << 20_000,
    "a megabyte": "x" * 1_000_000,
    "bytes": b"\x00\xff",
}


async def call(journals: Journals, received: dict[str, Any], body: bytes = b"{}") -> CallLog:
    """Make a whole call, and return when it is durable."""
    log = journals.begin_call(uuid_utils.compat.uuid7())
    log.append(events.CALL_RECEIVED, received, body)
    log.append(events.ATTEMPT_STARTED, started(1))
    await log.durable()
    log.chunk(b"data: 1\n\n")
    log.append(events.CALL_COMPLETED, ended(1), with_next=True)
    log.append(events.COST_RECORDED, cost(log, 1, final=True))
    await log.durable()
    log.close()
    return log


@pytest.mark.parametrize("name", POISONS)
async def test_poison_in_every_field_among_a_thousand_calls_harms_only_itself(database_url: str, name: str) -> None:
    poisoned = dict.fromkeys(RECEIVED, POISONS[name]) | {"tags": [POISONS[name]], "\x00": {"\ud800": POISONS[name]}}
    async with journals_at(database_url) as journals:
        logs = [call(journals, poisoned if number == 500 else RECEIVED) for number in range(1_000)]
        done = await asyncio.gather(*logs)
    book = await read_book(database_url)
    assert len(book.journals()) == 1
    _assert_each_whole(book.events, 1_000)
    assert_sound(book)
    (altered,) = [event for event in book.events if event.facts.get("altered")]
    assert altered.call_id == done[500].call_id
    assert altered.type == "call.received"


async def test_data_that_postgres_refuses_among_a_thousand_calls_becomes_a_note(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        await _refuse(database_url, "body IS DISTINCT FROM '\\x706f69736f6e'")
        poisoned = {3, 500, 501, 999}
        logs = [call(journals, RECEIVED, b"poison" if number in poisoned else b"{}") for number in range(1_000)]
        done = await asyncio.gather(*logs)
        assert journals.current.fenced is None
    book = await read_book(database_url)
    assert_sound(book)
    _assert_each_whole(book.events, 1_000)
    notes = [event for event in book.events if event.type == "event.unstorable"]
    assert {event.call_id for event in notes} == {done[number].call_id for number in poisoned}
    assert all(note.facts["type"] == "call.received" and note.facts["body_bytes"] == 6 for note in notes)
    assert "refused_in_a_test" in notes[0].facts["error"]


async def test_journal_in_which_nothing_can_be_stored_is_replaced_and_its_callers_hear_of_it(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        former = journals.current.journal_id
        await _refuse(database_url, f"journal_id <> '{former}'")
        log = journals.begin_call(uuid_utils.compat.uuid7())
        log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
        with pytest.raises(FencedError, match="UnstorableError"):
            await log.durable()
        with pytest.raises(FencedError):
            log.chunk(b"data: 1\n\n")
        log.close()
        await eventually(lambda: journals.current.journal_id != former)
        await call(journals, RECEIVED)
    assert_sound(await read_book(database_url))


async def test_partition_that_is_gone_fences_the_journal_instead_of_blocking_it(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    async with journals_at(database_url, close_s=0.5) as journals:
        leaf = await connection.fetchval("SELECT tableoid::regclass::text FROM ledger.events LIMIT 1")
        await connection.execute(f"ALTER TABLE ledger.events DETACH PARTITION {leaf}")
        log = journals.begin_call(uuid_utils.compat.uuid7())
        log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
        with pytest.raises(FencedError):
            await log.durable()
    await connection.close()


async def _refuse(url: str, condition: str) -> None:
    connection = await asyncpg.connect(url)
    leaf = await connection.fetchval("SELECT tableoid::regclass::text FROM ledger.events LIMIT 1")
    await connection.execute(f"ALTER TABLE {leaf} ADD CONSTRAINT refused_in_a_test CHECK ({condition}) NOT VALID")
    await connection.close()


def _assert_each_whole(found: list[events.Event], calls: int) -> None:
    by_call: dict[Any, int] = {}
    for event in found:
        if event.call_id is not None:
            by_call[event.call_id] = by_call.get(event.call_id, 0) + 1
    assert len(by_call) == calls
    assert set(by_call.values()) == {5}
