"""A correction happens once: among rivals, and past a claim whose journal died before its event."""

import asyncio
from typing import Any
from uuid import UUID

import asyncpg
import uuid_utils.compat

from ledger import events
from ledger.journal.journals import Journals
from ledger.journal.recovery import take_over
from ledger.journal.settlement import correct_cost
from ledger.money.cost import Charge, no_charge, unknown_cost
from ledger.postgres.connect import connect
from tests.support.journal import RECEIVED, journals_at, unknown

DIMS: dict[str, Any] = {"journal_id": "x", "tags": []}


async def _unknown_call(journals: Journals) -> UUID:
    """A call that has ended, with a cost that is not known."""
    log = journals.begin_call(uuid_utils.compat.uuid7())
    log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
    cost = {**unknown_cost("not yet").to_facts(), "attempt": 1, "revision": 1, "dims": DIMS}
    log.append(events.COST_RECORDED, cost)
    await log.durable()
    log.close()
    return log.call_id


def _known(in_force: Any) -> Charge | None:
    return None if in_force["state"] == "billed" else no_charge("known now")


async def _revisions(url: str, call_id: UUID) -> list[int]:
    connection = await connect(url, purpose="test")
    try:
        query = (
            "SELECT (facts->>'revision')::int AS r FROM ledger.events WHERE call_id = $1 AND type ^@ 'cost.' ORDER BY 1"
        )
        return [row["r"] for row in await connection.fetch(query, call_id)]
    finally:
        connection.terminate()


async def _correct(url: str, journals: Journals, call_id: UUID, timeout_s: float = 5.0) -> bool:
    connection: asyncpg.Connection = await connect(url, purpose="test")
    try:
        outcome = await correct_cost(connection, journals, call_id, 1, _known, actor="test", timeout_s=timeout_s)
        return outcome != "later"
    finally:
        connection.terminate()


async def test_settlement_of_rivals_in_two_processes_books_one_correction(database_url: str) -> None:
    async with journals_at(database_url) as one, journals_at(database_url) as other:
        for _ in range(5):
            call_id = await _unknown_call(one)
            settled = await asyncio.gather(
                *(_correct(database_url, journals, call_id) for journals in (one, other) * 4)
            )
            assert all(settled)
            assert await _revisions(database_url, call_id) == [1, 2]


async def _claim(url: str, call_id: UUID, journal_id: UUID) -> None:
    connection = await connect(url, purpose="test")
    try:
        query = "INSERT INTO ledger.cost_claims (call_id, attempt, revision, journal_id) VALUES ($1, 1, 2, $2)"
        await connection.execute(query, call_id, journal_id)
    finally:
        connection.terminate()


async def test_settlement_waits_for_a_claim_that_may_still_be_used(database_url: str) -> None:
    async with journals_at(database_url) as journals, journals_at(database_url) as rival:
        call_id = await _unknown_call(journals)
        await _claim(database_url, call_id, rival.current.journal_id)
        assert not await _correct(database_url, journals, call_id, timeout_s=0.2)
        assert await _revisions(database_url, call_id) == [1]


async def test_settlement_passes_over_a_claim_whose_journal_is_sealed(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        async with journals_at(database_url) as dead:
            call_id = await _unknown_call(journals)
            await _claim(database_url, call_id, dead.current.journal_id)
            await take_over(database_url, dead.current.journal_id, unknown)
            assert await _correct(database_url, journals, call_id)
        assert await _revisions(database_url, call_id) == [1, 2]


async def test_settlement_of_a_cost_that_is_known_changes_nothing(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        call_id = await _unknown_call(journals)
        assert await _correct(database_url, journals, call_id)
        assert await _correct(database_url, journals, call_id)
        assert await _revisions(database_url, call_id) == [1, 2]
        assert not await _correct(database_url, journals, uuid_utils.compat.uuid7())
