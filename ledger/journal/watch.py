"""Watches the other journals' heartbeats and has the dead taken over; runs in every process that serves calls.

An observer trusts only what it has seen itself: a counter unmoved for the lease, on its own clock, over one unbroken
connection, looking all the while. So an outage of the database, in which no counter moves, kills nobody, nor does a
pause of the machine.
"""

import asyncio
import json
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import UUID

import asyncpg

from ledger.journal.identity import is_certainly_dead
from ledger.journal.recovery import Estimate, TakeoverError, take_over
from ledger.postgres.connect import CONNECTION_LOST, connect

logger = logging.getLogger(__name__)

#: A death is seen at most two looks after the lease: one until the last heartbeat is noticed, one after it has run out.
LOOK_S: Final = 0.7
_OPEN = "SELECT journal_id, heartbeat, writer::text AS writer FROM ledger.journals WHERE sealed_at IS NULL"


@dataclass(slots=True)
class Observations:
    """What one observer has seen of each journal's counter, and since when unmoved; pure but for the times given in."""

    lease_s: float
    _seen: dict[UUID, tuple[int, float]] = field(default_factory=dict)
    _looked_at_s: float | None = None

    def note(self, counters: Mapping[UUID, int], now_s: float) -> list[UUID]:
        """Take in the counters of all open journals at a monotonic time; return those presumed dead."""
        if self._looked_at_s is not None and now_s - self._looked_at_s > self.lease_s / 2:
            # Whoever did not look for so long may have stood still together with those that it watches.
            self._seen = {}
        self._looked_at_s = now_s
        dead: list[UUID] = []
        seen: dict[UUID, tuple[int, float]] = {}
        for journal_id, counter in counters.items():
            before = self._seen.get(journal_id)
            since = before[1] if before is not None and before[0] == counter else now_s
            seen[journal_id] = (counter, since)
            if now_s - since >= self.lease_s:
                dead.append(journal_id)
        self._seen = seen
        return dead

    def forget(self) -> None:
        """Begin anew: the connection broke, so nobody knows what moved meanwhile."""
        self._seen = {}


class Watch:
    """The loop that finds dead journals; `own` are those that this process writes, `lost` those it had to give up."""

    def __init__(
        self,
        url: str,
        estimate: Estimate,
        *,
        lease_s: float,
        own: Callable[[], set[UUID]] = set,
        lost: Callable[[], list[UUID]] = list,
    ) -> None:
        self._url = url
        self._estimate = estimate
        self._own = own
        self._lost = lost
        self._observations = Observations(lease_s)
        self._connection: asyncpg.Connection | None = None
        self._lost_tails: set[UUID] = set()
        #: Journals that this process has taken over so far, and calls that it has closed as abandoned.
        self.takeovers = 0
        self.abandoned_calls = 0

    async def recover_at_start(self) -> int:
        """Take over the journals of this machine's ended processes at once; return how many. Others wait for the lease.

        Raises:
            OSError, asyncpg.PostgresError: the database is out of reach or refuses.
        """
        dead = [row["journal_id"] for row in await self._open_journals() if is_certainly_dead(_writer(row))]
        return len([journal_id for journal_id in dead if await self._take_over(journal_id, "dead")])

    async def run(self) -> None:
        """Look every LOOK_S or so, for ever."""
        while True:
            try:
                await self.look()
            except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
                logger.warning("recovery: %s: %s", type(error).__name__, error)
                self._disconnect()
            await asyncio.sleep(LOOK_S * random.uniform(0.8, 1.2))  # noqa: S311 - spreads rivals, guards nothing

    async def look(self) -> None:
        """Look once: take over what this process lost, what certainly died here, what the lease says is dead."""
        self._lost_tails.update(self._lost())
        for journal_id in sorted(self._lost_tails):
            if await self._take_over(journal_id, "lost_tail") is not None:
                self._lost_tails.discard(journal_id)
        rows = await self._open_journals()
        own = self._own()
        others = {row["journal_id"]: row for row in rows if row["journal_id"] not in own}
        counters = {journal_id: row["heartbeat"] for journal_id, row in others.items()}
        dead = set(self._observations.note(counters, time.monotonic()))
        dead |= {journal_id for journal_id, row in others.items() if is_certainly_dead(_writer(row))}
        for journal_id in sorted(dead - self._lost_tails):
            await self._take_over(journal_id, "dead")

    async def _take_over(self, journal_id: UUID, reason: str) -> bool | None:
        """Take one journal over; return whether it was this call that did it, None when it could not be done.

        One that cannot be taken over keeps nobody from the others; the next look tries again.
        """
        try:
            takeover = await take_over(self._url, journal_id, self._estimate, reason)
        except (*CONNECTION_LOST, asyncpg.PostgresError, TakeoverError) as error:
            logger.warning("journal %s: not taken over: %s: %s", journal_id, type(error).__name__, error)
        except Exception:  # an estimate is others' code, and a fault in it must not end the watch over all journals
            logger.exception("journal %s: not taken over", journal_id)
        else:
            self.takeovers += takeover.won
            self.abandoned_calls += takeover.abandoned
            return takeover.won
        return None

    async def _open_journals(self) -> list[asyncpg.Record]:
        if self._connection is None or self._connection.is_closed():
            self._observations.forget()
            self._connection = await connect(self._url, purpose="watch", statement_timeout="10s")
        return await self._connection.fetch(_OPEN, timeout=10)

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def close(self) -> None:
        """Close the connection."""
        self._disconnect()


def _writer(row: asyncpg.Record) -> dict[str, Any]:
    return json.loads(row["writer"])
