"""The book of a running process: its journals, its projector, its watch over others, its prices.

The one place in `api` that puts the ledger's parts together. Routes ask it for administrative changes; the engine for a
call's log, the prices in force, and the correction of a cost that recovery had to guess.
"""

import asyncio
import json
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from ledger.encoding import rfc3339
from ledger.errors import FencedError, LedgerUnavailableError
from ledger.events import COST_CORRECTED, Position
from ledger.facts import cost_corrected
from ledger.journal.call_log import CallLog
from ledger.journal.identity import writer_identity
from ledger.journal.journals import Journals, JournalSettings
from ledger.journal.open_calls import OpenAttempt, OpenCall
from ledger.journal.watch import Watch
from ledger.money.book import PriceBook
from ledger.money.correction import accumulate, correction
from ledger.money.cost import Charge
from ledger.postgres.connect import CONNECTION_LOST, connect
from ledger.projections.projector import ProjectionLagError, ProjectionStoppedError, Projector
from llm.estimates import estimate_open_attempt
from llm.record import Record

logger = logging.getLogger(__name__)

_COSTS = """
SELECT type, facts FROM ledger.events
WHERE call_id = $1 AND type IN ('cost.recorded', 'cost.corrected') AND (facts->>'attempt')::int = $2
ORDER BY (facts->>'revision')::int
"""
_LAST_VERSION = "SELECT max(version) FROM ledger.events WHERE call_id = $1"
_NEXT_REVISION = """
INSERT INTO ledger.subjects (kind, id, revision) VALUES ($1, $2, $3)
ON CONFLICT (kind, id) DO UPDATE SET revision = subjects.revision + 1
WHERE subjects.revision = $3 - 1
RETURNING revision
"""
_SETTLE_TRIES: Final = 60


class Book:
    """Open before use, close at the end."""

    def __init__(self, url: str, settings: JournalSettings, *, lease_s: float, version: str) -> None:
        self.url = url
        self._wake = asyncio.Event()
        self.journals = Journals(url, writer_identity(version), settings, self._wake.set)
        self.projector = Projector(url, self._wake)
        self.watch = Watch(url, self.estimate, lease_s=lease_s, own=self._own, lost=self._lost)
        self.prices = PriceBook()
        #: Corrections of a cost that recovery had to guess, booked by this process so far.
        self.corrections = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Take over what ended processes of this machine left behind, and start to fold and to watch.

        Raises:
            OSError, asyncpg.PostgresError: the database cannot be reached or refuses.
        """
        await self.watch.recover_at_start()
        self._start(self.projector.run(), "projections")
        self._start(self.watch.run(), "watch")

    def _start(self, coroutine: Any, name: str) -> None:
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _own(self) -> set[UUID]:
        return self.journals.own_ids()

    def _lost(self) -> list[UUID]:
        return self.journals.take_lost_tails()

    def estimate(self, call: OpenCall, attempt: OpenAttempt) -> Charge:
        """Price an attempt whose writer died; see `llm.estimates`. Blocks."""
        return estimate_open_attempt(call, attempt, self.prices)

    def begin_call(self, call_id: UUID) -> CallLog:
        """Give a call its log.

        Raises:
            LedgerUnavailableError: nothing can be recorded now.
        """
        return self.journals.begin_call(call_id)

    async def administer(
        self, kind: str, subject: str, revision: int, type_: str, facts: Mapping[str, Any], projection: str
    ) -> Position:
        """Record an administrative event and return once its projection has passed it.

        `revision` is the one that this change makes, obtained by compare-and-set: of two rivals one fails.

        Raises:
            ConflictError: somebody else changed the subject first.
            LedgerUnavailableError: it could not be made durable, or not folded in time.
        """
        async with asyncio.timeout(10):
            connection = await connect(self.url, purpose="administration", statement_timeout="5s")
            try:
                if await connection.fetchval(_NEXT_REVISION, kind, subject, revision) is None:
                    raise ConflictError(
                        f"{kind} {subject} was changed by somebody else meanwhile; read it and try again"
                    )
            finally:
                connection.terminate()
        position = await self.journals.administer(type_, {**facts, "revision": revision})
        try:
            await self.projector.passed(projection, position.journal_id, position.seq)
        except (ProjectionLagError, ProjectionStoppedError) as error:
            raise LedgerUnavailableError(f"recorded, but not yet in force: {error}") from error
        return position

    def settle_fenced(self, record: Record, attempt: int, charge: Charge) -> None:
        """Book the real cost of an attempt, after recovery has closed its call with a guess; in the background."""
        self._start(self._settle(record, attempt, charge), f"settle {record.call_id}")

    async def _settle(self, record: Record, attempt: int, charge: Charge) -> None:
        for _ in range(_SETTLE_TRIES):
            try:
                if await self._correct(record.call_id, attempt, charge):
                    return
            except (*CONNECTION_LOST, asyncpg.PostgresError, LedgerUnavailableError, FencedError) as error:
                logger.warning("call %s: cost not corrected yet: %s: %s", record.call_id, type(error).__name__, error)
            await asyncio.sleep(1.0)
        logger.error("call %s: its real cost could not be booked: %s", record.call_id, json.dumps(charge.to_facts()))

    async def _correct(self, call_id: UUID, attempt: int, charge: Charge) -> bool:
        """Append the correction; return False while recovery has not booked its guess yet."""
        connection = await connect(self.url, purpose="settle", statement_timeout="10s")
        try:
            rows = await connection.fetch(_COSTS, call_id, attempt)
            if not rows:
                return False
            costs = [json.loads(row["facts"]) for row in rows]
            revision = costs[-1]["revision"] + 1
            if await connection.fetchval(_NEXT_REVISION, "cost", f"{call_id}/{attempt}", revision - 1) is None:
                return False
            version = int(await connection.fetchval(_LAST_VERSION, call_id) or 0)
        finally:
            connection.terminate()
        money = correction(accumulate(costs[0], costs[1:]), charge)
        facts = cost_corrected(money, attempt=attempt, revision=revision, dims=costs[0]["dims"], actor="proxy")
        await self.journals.record_of_call(call_id, version + 1, COST_CORRECTED, facts)
        self.corrections += 1
        return True

    async def close(self, timeout_s: float) -> None:
        """Stop folding and watching, and seal the journals, within `timeout_s`."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.watch.close()
        await self.journals.close(timeout_s)

    def status(self) -> dict[str, Any]:
        """Return the state of this process's journals."""
        return self.journals.status()


class ConflictError(Exception):
    """Two changes of one subject met; this one was not recorded."""


def now() -> str:
    """Return the present time as facts hold it."""
    return rfc3339(datetime.now(UTC))
