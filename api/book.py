"""The book of a running process: its journals, its projector, its watch over others, its prices.

The one place in `api` that puts the ledger's parts together. Routes ask it for administrative changes; the engine for a
call's log, the prices in force, and the correction of a cost that recovery had to guess.
"""

import asyncio
import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from api.settling import Settler
from ledger.encoding import rfc3339
from ledger.errors import LedgerUnavailableError
from ledger.events import Position
from ledger.journal.call_log import CallLog
from ledger.journal.identity import writer_identity
from ledger.journal.journals import Journals, JournalSettings
from ledger.journal.open_calls import OpenAttempt, OpenCall
from ledger.journal.watch import Watch
from ledger.money.book import PriceBook
from ledger.money.cost import Charge
from ledger.postgres.connect import connect
from ledger.projections.projector import ProjectionLagError, ProjectionStoppedError, Projector
from llm.estimates import estimate_open_attempt, response_id_of
from llm.record import Record

logger = logging.getLogger(__name__)

_NEXT_REVISION = """
INSERT INTO ledger.subjects (kind, id, revision) VALUES ($1, $2, $3)
ON CONFLICT (kind, id) DO UPDATE SET revision = subjects.revision + 1
WHERE subjects.revision = $3 - 1
RETURNING revision
"""


class Book:
    """Open before use, close at the end."""

    def __init__(self, url: str, settings: JournalSettings, *, lease_s: float, version: str) -> None:
        self.url = url
        self._wake = asyncio.Event()
        self.journals = Journals(url, writer_identity(version), settings, self._wake.set)
        self.projector = Projector(url, self._wake)
        self.watch = Watch(url, self.estimate, lease_s=lease_s, own=self._own, lost=self._lost)
        self.prices = PriceBook()
        self.settler = Settler(url, self.journals, lambda: self.prices)
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
        attempt.response_id = response_id_of(attempt.chunks)
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

    @property
    def corrections(self) -> int:
        """Corrections of costs that this process has booked so far."""
        return self.settler.corrections

    def settle_fenced(self, record: Record, attempt: int, charge: Charge) -> None:
        """Book the real cost of an attempt, after recovery has closed its call with a guess; in the background."""
        self._start(self.settler.settle_guess(record.call_id, attempt, charge), f"settle {record.call_id}")

    async def settle_response(self, response: Mapping[str, Any]) -> None:
        """Settle the attempt that made a response which somebody read, where its cost is not known yet."""
        await self.settler.settle_response(response)

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
