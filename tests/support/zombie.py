"""A writer that goes on after it was declared dead, and rivals that take its journal over meanwhile."""

import asyncio
import random
from contextlib import suppress
from uuid import UUID

import asyncpg
import uuid_utils.compat

from ledger import events
from ledger.errors import FencedError
from ledger.journal.backend import connect_writer
from ledger.journal.call_log import CallLog
from ledger.journal.recovery import Takeover, TakeoverError, take_over
from ledger.journal.writer import Writer
from tests.support.journal import RECEIVED, assert_closed, assert_sound, cost, ended, read_book, started, unknown

MEBIBYTE = 1024 * 1024
CALLS_MAX = 25
#: A rival comes when the writer has been told so many times, at most, that events of its are durable.
RIVAL_AFTER_MAX = 12


class Zombie:
    """Serves calls until it is fenced or has served enough. `told`: how many events of each call are surely kept."""

    def __init__(self, writer: Writer, rng: random.Random) -> None:
        self.journal_id = writer.journal_id
        self.told: dict[UUID, int] = {}
        self._writer = writer
        self._rng = rng
        self._commits = 0
        self._finished = False
        self._moved = asyncio.Condition()

    async def has_committed(self, commits: int) -> None:
        """Wait until it was told so many times that its events are durable, or has ended."""
        async with self._moved:
            await self._moved.wait_for(lambda: self._finished or self._commits >= commits)

    async def run(self, calls: int) -> None:
        """Serve `calls` at a time, one after another."""
        await asyncio.gather(*(self._serve() for _ in range(calls)))
        await self._writer.stop()
        async with self._moved:
            self._finished = True
            self._moved.notify_all()

    async def _serve(self) -> None:
        try:
            for _ in range(CALLS_MAX):
                await self._call(CallLog(self._writer, uuid_utils.compat.uuid7(), MEBIBYTE, MEBIBYTE))
        except FencedError:
            return

    async def _call(self, log: CallLog) -> None:
        log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
        attempts = self._rng.choice([1, 1, 2])
        for attempt in range(1, attempts + 1):
            log.append(events.ATTEMPT_STARTED, started(attempt))
            await self._durable(log)
            for _ in range(self._rng.randrange(4)):
                log.chunk(b"data: 1\n\n")
                await self._pause()
            if attempt < attempts:
                log.append(events.ATTEMPT_FAILED, {"attempt": attempt, "reason": "cut"}, with_next=True)
                log.append(events.COST_RECORDED, cost(log, attempt, final=False))
        log.append(events.CALL_COMPLETED, ended(attempts), with_next=True)
        log.append(events.COST_RECORDED, cost(log, attempts, final=True))
        await self._durable(log)
        log.close()

    async def _durable(self, log: CallLog) -> None:
        await log.durable()
        self.told[log.call_id] = log.next_version
        async with self._moved:
            self._commits += 1
            self._moved.notify_all()
        await self._pause()

    async def _pause(self) -> None:
        await asyncio.sleep(self._rng.choice([0, 0.002, 0.02, 0.15]))


async def open_zombie(url: str, rng: random.Random) -> Zombie:
    """Open a journal and its writer."""
    connection, backend = await connect_writer(url)
    opened = "SELECT ledger.open_journal('{}'::jsonb, $1, $2)"
    journal_id: UUID = await connection.fetchval(opened, backend.pid, backend.started_at)  # pyright: ignore[reportAssignmentType] - the function returns one
    writer = Writer(url, journal_id, connection, backend, lambda: None)
    writer.start()
    return Zombie(writer, rng)


async def play_round(url: str, seed: int, rivals: int = 2) -> UUID:
    """Let rivals take a living writer's journal over; assert that the book is sound; return the journal."""
    rng = random.Random(seed)
    zombie = await open_zombie(url, rng)

    async def rival() -> Takeover:
        # After so many commits, not after a time: how fast the machine is must not decide who meets whom.
        await zombie.has_committed(rng.randrange(RIVAL_AFTER_MAX))
        while True:
            # A writer that is busy enough keeps its journal: rivals give up after a while, and come again.
            with suppress(TakeoverError):
                return await take_over(url, zombie.journal_id, unknown)

    takeovers, _ = await asyncio.gather(asyncio.gather(*(rival() for _ in range(rivals))), zombie.run(2))
    assert sum(takeover.won for takeover in takeovers) == 1
    await assert_taken_over(url, zombie)
    return zombie.journal_id


async def assert_taken_over(url: str, zombie: Zombie) -> None:
    """Assert that all that the zombie was told is there, and every call of its journal closed, once."""
    book = await read_book(url, zombie.journal_id)
    assert_sound(book)
    assert book.events[-1].type == events.JOURNAL_SEALED
    calls = {event.call_id for event in book.events if event.call_id is not None}
    assert zombie.told.keys() <= calls
    for call_id in calls:
        called = book.of_call(call_id)
        assert_closed(called)
        assert len(called) >= zombie.told.get(call_id, 0)


async def play(url: str, rounds: int, *, at_once: int = 8, seed: int = 0) -> None:
    """Play that many rounds, several at once; raise the first assertion that failed, when nobody plays any more."""
    seeds = iter(range(seed, seed + rounds))
    failures: list[AssertionError] = []

    async def player() -> None:
        for one in seeds:
            if failures:
                return
            try:
                await play_round(url, one)
            except AssertionError as failure:
                failures.append(failure)

    await asyncio.gather(*(player() for _ in range(at_once)))
    if failures:
        raise failures[0]


async def count_of(url: str, query: str) -> int:
    """Return the one number that a query yields."""
    connection = await asyncpg.connect(url)
    try:
        return int(await connection.fetchval(query))
    finally:
        await connection.close()
