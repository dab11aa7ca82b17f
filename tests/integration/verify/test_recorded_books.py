"""Books that the product itself recorded are sound: rotated, recovered, corrected, with bodies in parts."""

import asyncio
import json
from typing import Any
from uuid import UUID

import asyncpg
import pytest
import uuid_utils.compat

from ledger import events
from ledger.errors import FencedError
from ledger.facts import cost_corrected
from ledger.journal.call_log import CallLog
from ledger.journal.journals import Journals, JournalSettings
from ledger.journal.recovery import take_over
from ledger.money.correction import correction
from ledger.money.cost import no_charge
from ledger.projections.projector import Projector
from ledger.verification.book import verify
from ledger.verification.findings import Report
from tests.support.journal import RECEIVED, cost, ended, journals_at, started, unknown


async def _verify(url: str) -> Report:
    projector = Projector(url)
    await projector.catch_up()
    await projector.close()
    return await verify(url)


def _begin(journals: Journals) -> CallLog:
    log = journals.begin_call(uuid_utils.compat.uuid7())
    log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
    log.append(events.ATTEMPT_STARTED, started(1))
    return log


async def _serve(journals: Journals, chunks: int, *, body: bytes | None = None) -> CallLog:
    log = _begin(journals)
    log.append(events.ATTEMPT_ANSWERED, {"attempt": 1, "status": 200, "headers": []})
    for number in range(chunks):
        log.chunk(b"data: %d\n\n" % number)
    if body is not None:
        await log.append_large(events.BODY_RECEIVED, {"attempt": 1}, body)
    log.append(events.CALL_COMPLETED, ended(1), with_next=True)
    log.append(events.COST_RECORDED, cost(log, 1, final=True))
    await log.durable()
    log.close()
    return log


async def _die(journals: Journals) -> UUID:
    """End as kill -9 does: nothing more is written."""
    journal_id = journals.current.journal_id
    for task in journals._tasks:
        task.cancel()
    await asyncio.gather(*journals._tasks, return_exceptions=True)
    await journals.current.stop()
    return journal_id


async def test_verify_of_calls_served_at_once_finds_nothing(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        await asyncio.gather(*(_serve(journals, number % 7) for number in range(60)))
        large = await _serve(journals, 0, body=bytes(range(256)) * 13_000)
        under_way = _begin(journals)
        await under_way.durable()
        report = await _verify(database_url)
        assert (report.findings, report.open_calls_total) == ([], 1)
        assert [call.call_id for call in report.open_calls] == [under_way.call_id]
    assert large.next_version > 6
    report = await _verify(database_url)
    # Closed with a call under way, the journal is left to recovery.
    assert (report.findings, report.open_calls_total) == ([], 1)
    assert report.counts["calls"] == 62


async def test_verify_of_rotated_journals_checks_their_links(database_url: str) -> None:
    settings = JournalSettings(journal_events_max=40)
    async with journals_at(database_url, settings) as journals:
        for _ in range(4):
            before = journals.current.journal_id
            while journals.current.journal_id == before:
                await _serve(journals, 5)
                journals.wake()
                await asyncio.sleep(0)
    report = await _verify(database_url)
    assert report.findings == []
    assert report.counts["journals"] >= 5
    assert report.counts["links"] >= 4 + 3 + 2 + 1


async def test_verify_of_a_journal_taken_over_at_every_stage_finds_nothing(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        await _serve(journals, 3)
        only_received = journals.begin_call(uuid_utils.compat.uuid7())
        only_received.append(events.CALL_RECEIVED, RECEIVED, b"{}")
        _begin(journals).chunk(b"data: 1\n\n")
        unpaid = _begin(journals)
        other = _begin(journals)
        unpaid.append(events.CALL_COMPLETED, ended(1))
        other.chunk(b"data: 1\n\n")
        between = _begin(journals)
        between.append(events.ATTEMPT_FAILED, {"attempt": 1, "reason": "cut"})
        between.append(events.COST_RECORDED, cost(between, 1, final=False))
        cut = _begin(journals)
        cut.append(events.BODY_RECEIVED, {"attempt": 1, "body_bytes": 30, "parts": 3}, b"0123456789")
        await cut.durable()
        journal_id = await _die(journals)
    done = await take_over(database_url, journal_id, unknown)
    assert done.won
    report = await _verify(database_url)
    assert report.findings == []
    assert report.counts["endings"] == 7


@pytest.mark.parametrize("in_same_journal", [True, False])
async def test_verify_of_a_corrected_cost_finds_nothing(database_url: str, *, in_same_journal: bool) -> None:
    async with journals_at(database_url) as journals:
        log = await _serve(journals, 2)
        if in_same_journal:
            await _correct(database_url, journals, log)
    async with journals_at(database_url) as journals:
        if not in_same_journal:
            await _correct(database_url, journals, log)
        report = await _verify(database_url)
    assert (report.findings, report.counts["corrections"]) == ([], 1)


async def _correct(url: str, journals: Journals, log: CallLog) -> None:
    connection = await asyncpg.connect(url)
    text = await connection.fetchval("SELECT facts FROM ledger.events WHERE type = 'cost.recorded'")
    await connection.close()
    old: dict[str, Any] = json.loads(text)
    money = correction(old, no_charge("looked at again"))
    facts = cost_corrected(money, attempt=1, revision=2, dims=old["dims"], actor="a test")
    with journals.held() as held:
        await held.record_of_call(log.call_id, log.next_version, events.COST_CORRECTED, facts)


async def test_verify_while_a_proxy_appends_finds_nothing(database_url: str) -> None:
    over = asyncio.Event()

    async def load(journals: Journals) -> None:
        while not over.is_set():
            await _serve(journals, 5)

    async with journals_at(database_url, JournalSettings(journal_events_max=400)) as journals:
        await _serve(journals, 1)  # the first verification may be faster than the first calls of the loads
        projector = Projector(database_url, poll_s=0.01)
        folding = asyncio.create_task(projector.run())
        loads = [asyncio.create_task(load(journals)) for _ in range(2)]
        try:
            for _ in range(2):
                report = await verify(database_url)
                assert report.findings == []
                assert report.counts["calls"] > 0
        finally:
            over.set()
            await asyncio.gather(*loads)
            folding.cancel()
            await asyncio.gather(folding, return_exceptions=True)


async def test_verify_of_a_fenced_writer_finds_nothing(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        log = _begin(journals)
        await log.durable()
        journal_id = journals.current.journal_id
        await take_over(database_url, journal_id, unknown)
        with pytest.raises(FencedError):  # noqa: PT012 - the fence may be noticed by either
            log.chunk(b"data: 1\n\n")
            await log.durable()
        log.close()
    report = await _verify(database_url)
    assert report.findings == []
