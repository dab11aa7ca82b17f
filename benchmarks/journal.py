"""Journal append against raw COPY of the same rows, in one run: the ratio tells what the append path costs.

Raw COPY sends batches whose bytes were made beforehand, of the sizes that the journal flushes, over one connection.
Both write to `ledger.events` with its indexes. Rounds alternate, and the median counts.
"""

import asyncio
import json
import statistics
import time
from dataclasses import dataclass
from uuid import UUID

import asyncpg
import uuid_utils.compat

from benchmarks.answers import stream_blocks
from ledger.events import CHUNK_RECEIVED
from ledger.journal.call_log import CallLog
from ledger.journal.journals import Journals
from ledger.journal.outbox import Outbox
from ledger.journal.rows import COLUMNS
from ledger.postgres.connect import connect

CALLS = 32
_EMPTY = b"{}"


@dataclass(frozen=True)
class Figures:
    """Events a second of both, the journal's share pair by pair, and milliseconds until a single event is durable."""

    journal_events_per_s: float
    copy_events_per_s: float
    share: float
    commit_p50_ms: float
    commit_p99_ms: float


async def measure(url: str, *, events: int, rounds: int) -> Figures:
    """Write `events` chunks of recorded size in each round, each way."""
    body = stream_blocks(100)[50]
    journals = Journals(url, {"host": "bench", "pid": 0, "version": "bench"})
    await journals.open()
    connection = await connect(url, purpose="benchmark", role=None)
    appended: list[float] = []
    copied: list[float] = []
    try:
        for _ in range(rounds):
            copied.append(await _copy(connection, body, events))
            appended.append(await _append(journals, body, events))
        commits = await _commits(journals, 300)
    finally:
        await connection.close()
        await journals.close(10)
    return Figures(
        statistics.median(appended),
        statistics.median(copied),
        statistics.median(mine / raw for mine, raw in zip(appended, copied, strict=True)),
        statistics.median(commits),
        statistics.quantiles(commits, n=100)[98],
    )


async def _append(journals: Journals, body: bytes, events: int) -> float:
    """Events a second through the journal: calls take turns, and each waits when there is no room."""
    logs = [journals.begin_call(uuid_utils.compat.uuid7()) for _ in range(CALLS)]
    started = time.perf_counter()
    await asyncio.gather(*(_chunks(log, body, events // CALLS) for log in logs))
    taken = time.perf_counter() - started
    for log in logs:
        log.close()
    return (events // CALLS) * CALLS / taken


async def _chunks(log: CallLog, body: bytes, count: int) -> None:
    for number in range(count):
        log.chunk(body)
        if not log.has_room:
            await log.wait_for_room(60.0)
        elif number % 16 == 0:
            await asyncio.sleep(0)  # other calls' turn, as between two reads from an upstream
    await log.durable()


async def _copy(connection: asyncpg.Connection, body: bytes, events: int) -> float:
    """Events a second of COPY alone, into a journal of its own."""
    identity = json.dumps({"host": "bench copy", "pid": 0, "version": "bench"})
    pid = connection.get_server_pid()
    opened = await connection.fetchval(
        "SELECT ledger.open_journal($1::jsonb, $2, (SELECT backend_start FROM pg_stat_activity WHERE pid = $2))",
        identity,
        pid,
    )
    batches = _batches(UUID(str(opened)), body, events)
    started = time.perf_counter()
    for data in batches:
        await connection.copy_to_table(
            "events", schema_name="ledger", columns=COLUMNS, format="binary", source=memoryview(data)
        )
    return events / (time.perf_counter() - started)


def _batches(journal_id: UUID, body: bytes, events: int) -> list[bytes]:
    """The COPY data of that many chunks, batched as the journal batches them."""
    outbox = Outbox(journal_id)
    ids = [uuid_utils.compat.uuid7().bytes for _ in range(CALLS)]
    kind = CHUNK_RECEIVED.encode()
    now_us = time.time_ns() // 1000
    for number in range(events):
        outbox.append(ids[number % CALLS], number // CALLS, kind, _EMPTY, body, now_us, None)
    batches: list[bytes] = []
    while (batch := outbox.take()) is not None:
        batches.append(batch.data)
        outbox.acknowledge()
    return batches


async def _commits(journals: Journals, count: int) -> list[float]:
    """Milliseconds until a lone event is durable, one after another."""
    log = journals.begin_call(uuid_utils.compat.uuid7())
    taken: list[float] = []
    for _ in range(count):
        started = time.perf_counter()
        log.chunk(b"x")
        await log.durable()
        taken.append((time.perf_counter() - started) * 1000)
    log.close()
    return taken
