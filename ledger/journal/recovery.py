"""Takes over the journals of writers that have died, so that every call is closed and every attempt has a cost.

Safe under rivals and wrong verdicts: the primary key decides who writes `last + 1`. The order of the two reads
matters: first where the journal ends, then what is open up to there; the other way round, a call that its writer ended
in between would be ended twice.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg

from ledger import chain
from ledger.encoding import encode_facts
from ledger.events import CALL_ABANDONED, COST_RECORDED, JOURNAL_SEALED
from ledger.facts import abandoned, cost_recorded, dimensions
from ledger.journal.backend import Backend, end_backend
from ledger.journal.open_calls import OpenAttempt, OpenCall, open_call_ids, read_open_call
from ledger.journal.rows import COLUMNS, Entry, copy_data, leaf, row
from ledger.money.cost import Charge, unknown_cost
from ledger.postgres.connect import connect

logger = logging.getLogger(__name__)

#: What an attempt costs whose writer died: estimated from what the book holds of it, or unknown. May block.
Estimate = Callable[[OpenCall, OpenAttempt], Charge]

_LOCK_TIMEOUT: Final = "1s"
_ROUNDS_MAX: Final = 50
#: A takeover that takes longer, for example since a backend hangs, is given up; the next look tries again.
TAKEOVER_TIMEOUT_S: Final = 300.0
_LAST = "SELECT seq, type, chain FROM ledger.events WHERE journal_id = $1 ORDER BY seq DESC LIMIT 1"
_SEALED = """
UPDATE ledger.journals SET sealed_at = clock_timestamp(), sealed_seq = $2 WHERE journal_id = $1 AND sealed_at IS NULL
"""
_BACKEND = "SELECT backend_pid, backend_start FROM ledger.journals WHERE journal_id = $1"


class TakeoverError(Exception):
    """A journal could not be taken over; another process, or a later round, will try again."""


@dataclass(frozen=True, slots=True)
class Takeover:
    """What a takeover did. `sealed_seq` 0: the journal held nothing; `won` False: somebody else had sealed it."""

    journal_id: UUID
    won: bool
    sealed_seq: int
    abandoned: int


async def take_over(url: str, journal_id: UUID, estimate: Estimate, reason: str = "dead") -> Takeover:
    """Close the open calls of a journal and seal it; whoever else tries at the same time, it happens once.

    Raises:
        TakeoverError: the writer kept getting in first, or a lock could not be had.
        OSError, TimeoutError, asyncpg.PostgresError: the database is out of reach, hangs or refuses.
    """
    async with asyncio.timeout(TAKEOVER_TIMEOUT_S):
        connection = await connect(url, purpose="recovery", lock_timeout=_LOCK_TIMEOUT, statement_timeout="5min")
        try:
            for _ in range(_ROUNDS_MAX):
                result = await _one_round(connection, url, journal_id, estimate, reason)
                if result is not None:
                    return result
        finally:
            connection.terminate()
    raise TakeoverError(f"journal {journal_id}: its writer still appends, after {_ROUNDS_MAX} rounds")


async def _one_round(
    connection: asyncpg.Connection, url: str, journal_id: UUID, estimate: Estimate, reason: str
) -> Takeover | None:
    last = await connection.fetchrow(_LAST, journal_id)
    if last is not None and last["type"] == JOURNAL_SEALED:
        await connection.execute(_SEALED, journal_id, last["seq"])
        return Takeover(journal_id, won=False, sealed_seq=last["seq"], abandoned=0)
    last_seq, last_chain = (0, chain.START) if last is None else (last["seq"], last["chain"])
    closing = _Closing(journal_id, last_seq)
    closed = 0
    for call_id, ended in await open_call_ids(connection, journal_id, last_seq):
        # One at a time: the bodies of all open calls together would not fit into the memory.
        call = await read_open_call(connection, journal_id, last_seq, call_id, ended=ended)
        closing.append_call(call, await asyncio.to_thread(_end_of, call, journal_id, estimate, reason))
        closed += not ended
    entries = closing.sealed(reason)
    identity = journal_id.bytes
    value = chain.link(last_chain, [leaf(identity, entry) for entry in entries])
    data = copy_data([row(identity, entry) for entry in entries], value)
    try:
        await connection.copy_to_table(
            "events", schema_name="ledger", columns=COLUMNS, format="binary", source=memoryview(data)
        )
    except asyncpg.UniqueViolationError:
        return None
    except asyncpg.exceptions.LockNotAvailableError:
        await _terminate_writer(url, journal_id)
        return None
    sealed_seq = entries[-1].seq
    await connection.execute(_SEALED, journal_id, sealed_seq)
    logger.warning("journal %s: taken over (%s) at seq %d, %d calls abandoned", journal_id, reason, sealed_seq, closed)
    return Takeover(journal_id, won=True, sealed_seq=sealed_seq, abandoned=closed)


async def _terminate_writer(url: str, journal_id: UUID) -> None:
    """End the backend of a writer that holds its lock while it does nothing: frozen inside a COPY.

    As the login rather than the application's role, because only the same login may end it.
    """
    connection = await connect(url, purpose="recovery", role=None, statement_timeout="10s")
    try:
        row = await connection.fetchrow(_BACKEND, journal_id)
        if row is not None and row["backend_pid"] is not None:
            ended = await end_backend(connection, Backend(row["backend_pid"], row["backend_start"]))
            logger.warning(
                "journal %s: its lock is held; its writer's backend %d %s",
                journal_id, row["backend_pid"], "was ended" if ended else "is not there, or does not end",
            )  # fmt: skip
    finally:
        connection.terminate()


class _Closing:
    """The entries that close a journal: for each open call its end and its costs, then the seal."""

    def __init__(self, journal_id: UUID, last_seq: int) -> None:
        self._journal_id = journal_id
        self._last_seq = last_seq
        self._now_us = time.time_ns() // 1_000
        self._entries: list[Entry] = []

    def append_call(self, call: OpenCall, ending: list[tuple[str, dict[str, Any]]]) -> None:
        for version, (type_, facts) in enumerate(ending, call.last_version + 1):
            self._append(call.call_id.bytes, version, type_, facts)

    def sealed(self, reason: str) -> list[Entry]:
        self._append(None, None, JOURNAL_SEALED, {"reason": reason, "last_seq": self._next_seq})
        return self._entries

    @property
    def _next_seq(self) -> int:
        return self._last_seq + len(self._entries) + 1

    def _append(self, call_id: bytes | None, version: int | None, type_: str, facts: Mapping[str, Any]) -> None:
        entry = Entry(self._next_seq, call_id, version, type_.encode(), encode_facts(facts), None, self._now_us, None)
        self._entries.append(entry)


def _end_of(call: OpenCall, journal_id: UUID, estimate: Estimate, reason: str) -> list[tuple[str, dict[str, Any]]]:
    latest = call.open_attempts[-1] if call.open_attempts else None
    unreadable = unknown_cost("what was asked is not in the book")
    charges = [estimate(call, attempt) if call.is_readable else unreadable for attempt in call.open_attempts]
    events: list[tuple[str, dict[str, Any]]] = []
    if not call.ended:
        facts = abandoned(
            attempt=None if latest is None else latest.number,
            attempts=call.attempts,
            http_status=None if latest is None else latest.http_status,
            chunks=call.chunk_count,
            model=None if latest is None else latest.facts["model"],
            message=f"the process that served this call ended ({reason})",
            response_id=None if latest is None else latest.response_id,
        )
        events.append((CALL_ABANDONED, facts))
    for attempt, charge in zip(call.open_attempts, charges, strict=True):
        dims = dimensions(
            call.received,
            journal_id=journal_id,
            received_at=call.received_at,
            deployment=attempt.facts["deployment"],
        )
        final = attempt is latest and attempt.number == call.attempts
        events.append((COST_RECORDED, cost_recorded(charge, attempt=attempt.number, final=final, dims=dims)))
    return events
