"""The book of a running process: its journals, its projector, its watch over others, its prices.

The one place in `api` that puts the ledger's parts together. Routes ask it for administrative changes; the engine for a
call's log, the prices in force, and the correction of a cost that recovery had to guess.
"""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Coroutine, Iterable, Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from api.administration import Administration
from api.prices import PriceFollower
from api.settling import Settler
from ledger.encoding import rfc3339
from ledger.events import Position
from ledger.journal.call_log import CallLog
from ledger.journal.identity import writer_identity
from ledger.journal.journals import Journals, JournalSettings
from ledger.journal.open_calls import OpenAttempt, OpenCall
from ledger.journal.watch import Watch
from ledger.loops import Loops
from ledger.money.book import PriceBook
from ledger.money.cost import Charge
from ledger.postgres.connect import CONNECTION_LOST
from ledger.projections.projector import Projector
from ledger.projections.roller import Roller
from llm.deployment import Deployment
from llm.estimates import estimate_open_attempt, response_id_of
from llm.record import Record

logger = logging.getLogger(__name__)


class Book:
    """Open before use, close at the end."""

    def __init__(self, url: str, settings: JournalSettings, *, lease_s: float, version: str) -> None:
        self.url = url
        self._wake = asyncio.Event()
        #: All that runs in the background of this process for as long as it lives.
        self.loops = Loops()
        self.journals = Journals(url, writer_identity(version), settings, self._wake.set, self.loops)
        self.projector = Projector(url, self._wake)
        self.roller = Roller(url)
        self._administration = Administration(url, self.journals, self.projector)
        self.watch = Watch(url, self.estimate, lease_s=lease_s, own=self._own, lost=self._lost)
        self.prices = PriceBook()
        self._follower: PriceFollower | None = None
        self.settler = Settler(url, self.journals, lambda: self.prices)
        self._tasks: set[asyncio.Task[None]] = set()

    async def open(self) -> None:
        """Take over what ended processes of this machine left behind, and start to fold and to watch.

        Raises:
            OSError, asyncpg.PostgresError: the database cannot be reached or refuses.
        """
        await self.watch.recover_at_start()
        self._start("projections", self.projector.run)
        self._start("rollups", self.roller.run)
        self._start("watch", self.watch.run)

    def _start(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        self._tasks.add(self.loops.start(name, run))

    def _settling_ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and task.exception() is not None:
            logger.error("%s failed: the cost stays as it was guessed", task.get_name(), exc_info=task.exception())

    def _own(self) -> set[UUID]:
        return self.journals.own_ids()

    def _lost(self) -> list[UUID]:
        return self.journals.take_lost_tails()

    def estimate(self, call: OpenCall, attempt: OpenAttempt) -> Charge:
        """Price an attempt whose writer died; see `llm.estimates`. Blocks."""
        attempt.response_id = response_id_of(attempt.chunks)
        return estimate_open_attempt(call, attempt, self.prices)

    def follow_prices(self, deployments: Iterable[Deployment]) -> None:
        """Follow the prices of the book from now on, as they hold for these deployments."""
        self._follower = PriceFollower(self.url, deployments, self._use_prices)
        self._start("prices", self._follower.run)

    def _use_prices(self, prices: PriceBook) -> None:
        self.prices = prices

    async def refresh_prices(self) -> None:
        """Take up a change of prices now rather than at the next look."""
        if self._follower is not None:
            with contextlib.suppress(*CONNECTION_LOST, asyncpg.PostgresError):  # then the next look finds it
                await self._follower.refresh()

    def begin_call(self, call_id: UUID) -> CallLog:
        """Give a call its log.

        Raises:
            LedgerUnavailableError: nothing can be recorded now.
        """
        return self.journals.begin_call(call_id)

    async def claim(self, kind: str, subject: str, revision: int) -> None:
        """Obtain a revision of a subject; as `Administration.claim`."""
        await self._administration.claim(kind, subject, revision)

    async def administer(
        self, kind: str, subject: str, revision: int, type_: str, facts: Mapping[str, Any], projection: str
    ) -> Position:
        """Record an administrative event; as `Administration.administer`."""
        return await self._administration.administer(kind, subject, revision, type_, facts, projection)

    @property
    def unreadable_prices(self) -> int:
        """Prices of the book that this version cannot read; while there are any, changes of prices do not hold."""
        return 0 if self._follower is None else self._follower.unreadable

    def failing(self) -> list[str]:
        """Return what runs in the background and fails, by name, while calls are served all the same."""
        return [*self.loops.failing(), *(["unreadable prices"] if self.unreadable_prices else [])]

    @property
    def corrections(self) -> int:
        """Corrections of costs that this process has booked so far."""
        return self.settler.corrections

    def settle_fenced(self, record: Record, attempt: int, charge: Charge) -> None:
        """Book the real cost of an attempt, after recovery has closed its call with a guess; in the background."""
        settling = self.settler.settle_guess(record.call_id, attempt, charge)
        task = asyncio.create_task(settling, name=f"settling of call {record.call_id}")
        self._tasks.add(task)
        task.add_done_callback(self._settling_ended)

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


def now() -> str:
    """Return the present time as facts hold it."""
    return rfc3339(datetime.now(UTC))
