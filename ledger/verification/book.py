"""Goes through the whole book, or some journals of it, and returns what it found.

Reads only, in small pages and short transactions: a proxy may run meanwhile. What the checks mean is said where they
are; `findings.NOT_CHECKED` is what none of them can tell.
"""

from collections.abc import Callable, Iterable
from contextlib import aclosing
from datetime import datetime
from typing import Final
from uuid import UUID

import asyncpg

from ledger.postgres.connect import connect
from ledger.verification.calls import CallsCheck
from ledger.verification.findings import Report
from ledger.verification.journal import JournalCheck
from ledger.verification.links import check_links
from ledger.verification.money import PricesCheck, check_corrections
from ledger.verification.projected import check_rebuilt, check_stopped, check_totals, names
from ledger.verification.stream import pages

#: Called with what is being done, how much of it is done and how much it is in all (events; 0: not known).
Progress = Callable[[str, int, int], None]

_CORRECTED_AT_ONCE: Final = 500
_SESSION: Final = {"plan_cache_mode": "force_custom_plan", "jit": "off", "work_mem": "64MB"}

#: Journals by their rows, and by their events: each distinct id found by one step of the primary key.
_JOURNALS = """
WITH RECURSIVE there (journal_id) AS (
    (SELECT journal_id FROM ledger.events ORDER BY journal_id LIMIT 1)
    UNION ALL
    SELECT (SELECT e.journal_id FROM ledger.events e WHERE e.journal_id > t.journal_id ORDER BY e.journal_id LIMIT 1)
    FROM there t WHERE t.journal_id IS NOT NULL
), ids AS (
    SELECT journal_id FROM there WHERE journal_id IS NOT NULL UNION SELECT journal_id FROM ledger.journals
)
SELECT i.journal_id, coalesce(head.seq, 0) AS last_seq,
    j.sealed_at IS NULL OR j.sealed_at >= $1 OR i.journal_id >= ledger.journal_floor($1) AS is_since
FROM ids i LEFT JOIN ledger.journals j USING (journal_id)
LEFT JOIN LATERAL (
    SELECT seq FROM ledger.events e WHERE e.journal_id = i.journal_id ORDER BY seq DESC LIMIT 1
) head ON true
ORDER BY i.journal_id
"""
_ROW = "SELECT journal_id, sealed_at, sealed_seq FROM ledger.journals WHERE journal_id = $1"


class NoSuchJournalError(ValueError):
    """The book holds no journal of that id."""


def _say_nothing(_what: str, _done: int, _total: int) -> None:
    return


async def verify(
    url: str, *, journal_id: UUID | None = None, since: datetime | None = None, progress: Progress | None = None
) -> Report:
    """Check the book at `url`; with `journal_id` or `since` only that journal, or those that may hold later events.

    Projections and totals are of the whole book, so a run over some journals leaves them out, and says so.

    Raises:
        NoSuchJournalError: `journal_id` is not in the book.
        OSError, asyncpg.PostgresError: the database is out of reach or refuses.
    """
    report = Report()
    tell = progress or _say_nothing
    connection = await connect(url, purpose="verify", **_SESSION)
    try:
        everything = await connection.fetch(_JOURNALS, since)
        chosen = _chosen(everything, journal_id, since)
        prices = PricesCheck()
        total, done = sum(row["last_seq"] for row in chosen), 0
        for row in chosen:
            done = await _check_journal(connection, row["journal_id"], prices, report, done, total, tell)
        tell("links", 0, 0)
        await check_links(connection, [row["journal_id"] for row in everything], report)
        await prices.close(connection, report)
        await check_stopped(connection, report)
        if journal_id is not None or since is not None:
            report.skipped.append("projections against a rebuild, and totals: they are of the whole book")
            return report
        tell("totals", 0, 0)
        await check_totals(connection, report)
    finally:
        await connection.close()
    for name in names():
        tell(f"rebuild of {name}", 0, 0)
        await check_rebuilt(url, name, report)
    return report


def _chosen(
    everything: Iterable[asyncpg.Record], journal_id: UUID | None, since: datetime | None
) -> list[asyncpg.Record]:
    if journal_id is not None:
        chosen = [row for row in everything if row["journal_id"] == journal_id]
        if not chosen:
            raise NoSuchJournalError(
                f"The book holds no journal {journal_id}; `llm ledger status` lists the open ones."
            )
        return chosen
    return [row for row in everything if since is None or row["is_since"]]


async def _check_journal(
    connection: asyncpg.Connection,
    journal_id: UUID,
    prices: PricesCheck,
    report: Report,
    done: int,
    total: int,
    tell: Progress,
) -> int:
    """Check one journal; return how many events have been read in all."""
    journal, calls = JournalCheck(journal_id, report), CallsCheck(journal_id, report)
    corrected: set[UUID] = set()
    # Read before the events: what the row says of a seal is then among them.
    row = await connection.fetchrow(_ROW, journal_id)
    async with aclosing(pages(connection, journal_id)) as several:
        async for page in several:
            for event in page:
                journal.take(event)
                if event.call_id is not None:
                    calls.take(event)
                prices.take(event)
            done += len(page)
            report.counts["events"] += len(page)
            tell("journals", done, max(total, done))
            corrected |= calls.take_corrected()
            if len(corrected) >= _CORRECTED_AT_ONCE:
                await check_corrections(connection, corrected, report)
                corrected = set()
    await check_corrections(connection, corrected, report)
    calls.close(journal.seal, journal.flush_from)
    journal.close(row)
    report.counts["journals"] += 1
    return done
