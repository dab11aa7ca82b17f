"""Rivals take over the journal of a writer that still writes: one wins, every call is closed once, nothing is lost.

LEDGER_ROUNDS says how many rounds (200). Two tests break the recovery on purpose and must see it.
"""

import asyncio
import os
from typing import Any
from uuid import UUID

import asyncpg
import pytest

from ledger.journal import recovery
from ledger.journal.open_calls import OpenCall, open_call_ids
from tests.support.journal import journals_at, read_book, unknown
from tests.support.zombie import count_of, play

ROUNDS = int(os.environ.get("LEDGER_ROUNDS", "200"))


@pytest.mark.slow
async def test_rivals_against_a_living_writer_close_every_call_once(database_url: str) -> None:
    await play(database_url, ROUNDS)
    interrupted = await count_of(database_url, "SELECT count(*) FROM ledger.events WHERE type = 'call.abandoned'")
    completed = await count_of(database_url, "SELECT count(*) FROM ledger.events WHERE type = 'call.completed'")
    assert interrupted >= ROUNDS / 5
    assert completed >= ROUNDS / 5


async def test_recovery_that_reads_in_the_wrong_order_is_noticed(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    one_round = recovery._one_round

    async def wrong(connection: asyncpg.Connection, url: str, journal_id: UUID, *rest: Any) -> Any:
        """Read what is open, then, after a moment, where the journal ends."""
        early = await open_call_ids(connection, journal_id, 2**62)
        await asyncio.sleep(0.002)
        opened[journal_id] = early
        return await one_round(connection, url, journal_id, *rest)

    opened: dict[UUID, list[tuple[UUID, bool]]] = {}

    async def as_read_early(_connection: asyncpg.Connection, journal_id: UUID, _last: int) -> list[tuple[UUID, bool]]:
        return opened[journal_id]

    monkeypatch.setattr(recovery, "_one_round", wrong)
    monkeypatch.setattr(recovery, "open_call_ids", as_read_early)
    with pytest.raises(AssertionError, match=r"terminals? of|charged twice|costs of"):
        await play(database_url, 100)


async def test_recovery_that_closes_twice_is_noticed(database_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    append_call = recovery._Closing.append_call

    def twice(self: Any, call: OpenCall, ending: list[tuple[str, dict[str, Any]]]) -> None:
        append_call(self, call, ending + ending)

    monkeypatch.setattr(recovery._Closing, "append_call", twice)
    with pytest.raises(AssertionError, match="two terminals of"):
        await play(database_url, 100)


async def test_fenced_process_opens_a_new_journal_that_links_to_the_old_one(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        former = journals.current
        taken = await recovery.take_over(database_url, former.journal_id, unknown)
        former.notice_sealed()
        assert former.fenced is not None
        journals.wake()
        while journals.current is former:  # noqa: ASYNC110 - the journals announce nothing
            await asyncio.sleep(0.005)
        successor = journals.current.journal_id
        await journals.administer("config.loaded", {})
    book = await read_book(database_url)
    sealed = book.of(former.journal_id)[-1]
    assert sealed.chain is not None
    assert book.of(successor)[0].facts["links"] == [[str(former.journal_id), taken.sealed_seq, sealed.chain.hex()]]
    assert successor > former.journal_id
