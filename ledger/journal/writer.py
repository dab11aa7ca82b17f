"""One journal's writer: group commit by COPY, and what to do when Postgres says no or says nothing.

`outbox.py` holds what is not yet durable and decides; this moves it. A process's several writers (one current, older
ones whose calls still run) are kept by `journals.py`.
"""

import asyncio
import logging
import time
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import asyncpg

from ledger.encoding import encode_facts
from ledger.errors import FencedError
from ledger.events import JOURNAL_SEALED
from ledger.journal.backend import Backend, connect_writer
from ledger.journal.outbox import Outbox, Verdict
from ledger.journal.rows import COLUMNS, Entry, Owner
from ledger.journal.tally import Tally
from ledger.postgres.connect import CONNECTION_LOST

logger = logging.getLogger(__name__)

#: A flush that takes longer is taken for lost; the reconnect protocol then finds out whether it was.
FLUSH_TIMEOUT_S: Final = 10.0
#: A flush of this age holds the streams back: what is not recorded now is not relayed either.
STALL_S: Final = 1.0
_BACKOFF_S: Final = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)

#: Errors that lie in the data of a flush: class 22 and the limits of a row. Everything else is the server's state.
_DATA_ERRORS: Final = (
    asyncpg.DataError,
    asyncpg.exceptions.ProgramLimitExceededError,
    asyncpg.CheckViolationError,
    asyncpg.NotNullViolationError,
)

_LAST = "SELECT seq, chain FROM ledger.events WHERE journal_id = $1 ORDER BY seq DESC LIMIT 1"
_ATTACH = "UPDATE ledger.journals SET backend_pid = $2, backend_start = $3 WHERE journal_id = $1"
_SEALED = "UPDATE ledger.journals SET sealed_at = clock_timestamp(), sealed_seq = $2 WHERE journal_id = $1"


class Writer:
    """The only writer of one journal, in the process that opened it."""

    def __init__(
        self,
        url: str,
        journal_id: UUID,
        connection: asyncpg.Connection,
        backend: Backend,
        on_flush: Callable[[], None],
        tally: Tally | None = None,
    ) -> None:
        self.journal_id = journal_id
        self.opened_at = time.monotonic()
        self.open_calls = 0
        #: Shared with the process's other writers.
        self.tally = tally or Tally()
        #: Why the journal takes nothing more; None while it does.
        self.fenced: str | None = None
        #: Whether that is because acknowledged events are no longer in the database.
        self.lost_tail = False
        self._url = url
        self._connection: asyncpg.Connection | None = connection
        self._backend = backend
        self._on_flush = on_flush
        self._outbox = Outbox(journal_id)
        self._work = asyncio.Event()
        #: Who waits for which seq, and who for any progress at all; whoever gives up takes himself out.
        self._waiters: dict[asyncio.Future[bool], int] = {}
        self._space: set[asyncio.Future[None]] = set()
        self._disconnected_at: float | None = None
        self._failures = 0
        self._flush_began: float | None = None
        self._closing = False
        self._sealing = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to flush, in a task of the running loop."""
        self._task = asyncio.create_task(self._run(), name=f"journal {self.journal_id}")

    @property
    def pending_bytes(self) -> int:
        """Bytes appended and not yet durable."""
        return self._outbox.pending_bytes

    @property
    def queued_events(self) -> int:
        """Events appended and not yet durable."""
        return self._outbox.last_seq - self._outbox.acknowledged_seq

    @property
    def last_seq(self) -> int:
        """The seq given out last."""
        return self._outbox.last_seq

    @property
    def acknowledged_seq(self) -> int:
        """The seq up to which everything is durable."""
        return self._outbox.acknowledged_seq

    @property
    def disconnected_s(self) -> float | None:
        """For how long the database has been out of reach; None while it is in reach."""
        return None if self._disconnected_at is None else time.monotonic() - self._disconnected_at

    @property
    def is_stalled(self) -> bool:
        """Whether nothing becomes durable: the database is out of reach, or a flush takes longer than STALL_S."""
        if self._disconnected_at is not None:
            return True
        return self._flush_began is not None and time.monotonic() - self._flush_began > STALL_S

    def append(
        self,
        call_id: bytes | None,
        version: int | None,
        type_: bytes,
        facts: bytes,
        body: bytes | None = None,
        owner: Owner | None = None,
    ) -> Entry:
        """Put an event into the buffer and return its entry; it is durable once `durable(entry.seq)` returns.

        Raises:
            FencedError: the journal takes nothing more.
        """
        if self.fenced is not None:
            raise FencedError(self.fenced)
        if self._sealing:
            raise FencedError(f"journal {self.journal_id} is being sealed")
        entry = self._outbox.append(call_id, version, type_, facts, body, time.time_ns() // 1_000, owner)
        self._work.set()
        return entry

    async def durable(self, seq: int) -> None:
        """Wait until everything up to `seq` is committed.

        Raises:
            FencedError: it never will be.
        """
        await self.durable_within(seq, None)

    async def durable_within(self, seq: int, seconds: float | None) -> bool:
        """The same, but at most `seconds`; return whether it is committed.

        A timer on the future rather than `asyncio.timeout` around it: two waits a call, and a fifth of the cost.

        Raises:
            FencedError: it never will be.
        """
        if seq <= self._outbox.acknowledged_seq:
            return True
        if self.fenced is not None:
            raise FencedError(self.fenced)
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[bool] = loop.create_future()
        self._waiters[waiter] = seq
        timer = None if seconds is None else loop.call_later(seconds, _give_up, waiter)
        try:
            return await waiter
        finally:
            self._waiters.pop(waiter, None)
            if timer is not None:
                timer.cancel()

    async def progress(self) -> None:
        """Wait until a flush has been acknowledged, or the journal has been fenced."""
        if self.fenced is not None or not self._outbox.pending_bytes:
            return
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._space.add(waiter)
        try:
            await waiter
        finally:
            self._space.discard(waiter)

    async def _run(self) -> None:
        while self.fenced is None:
            try:
                batch = self._outbox.take()
                if batch is not None:
                    await self._flush(batch.data)
                    continue
            except Exception as error:  # the loop's edge: a dead flusher would leave every caller waiting for ever
                logger.exception("journal %s: the flush failed in a way that nobody foresaw", self.journal_id)
                self._fence(f"journal {self.journal_id} failed: {type(error).__name__}: {error}")
                return
            if self._closing:
                return
            self._work.clear()
            await self._work.wait()

    async def _flush(self, data: bytes) -> None:
        if self._connection is None:
            await self._reconnect()
            return
        self._flush_began = time.monotonic()
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                # A memoryview, since asyncpg would take bytes for the path of a file.
                await self._connection.copy_to_table(
                    "events", schema_name="ledger", columns=COLUMNS, format="binary", source=memoryview(data)
                )
        except asyncpg.UniqueViolationError as error:
            if await self._reconcile() is Verdict.RESEND:
                # The key was taken, yet nothing is there: not to be asked again and again without a pause.
                self._lost(error)
        except _DATA_ERRORS as error:
            logger.error("journal %s: Postgres refused the data of a flush: %s", self.journal_id, error)  # noqa: TRY400 - the trace says nothing more
            self._outbox.narrow(f"{type(error).__name__}: {error}")
        except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
            self._lost(error)
        else:
            self._acknowledge()
        finally:
            self._flush_began = None

    def _acknowledge(self) -> None:
        batch = self._outbox.acknowledge()
        # One that was found to be committed after a reconnect has no duration of its own.
        began_s = self._flush_began or time.monotonic()
        self.tally.flushed(len(batch.entries), batch.size, int((time.monotonic() - began_s) * 1_000_000))
        self._failures = 0
        if self._disconnected_at is not None:
            logger.warning("journal %s: the database is back after %.1f s", self.journal_id, self.disconnected_s)
            self._disconnected_at = None
        for waiter in [waiter for waiter, seq in self._waiters.items() if seq <= batch.last_seq]:
            del self._waiters[waiter]
            if not waiter.done():
                waiter.set_result(True)
        self._release_space()
        self._on_flush()

    def _release_space(self) -> None:
        waiting, self._space = self._space, set()
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)

    def _lost(self, error: BaseException) -> None:
        """Give up the connection. Whether the flush under way was committed is found out by the next one."""
        self._failures += 1
        if self._disconnected_at is None:
            self._disconnected_at = time.monotonic()
            logger.error("journal %s: lost the database: %s: %s", self.journal_id, type(error).__name__, error)
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _reconnect(self) -> None:
        """Try once to get a connection and to find out where the journal ends, the later the more often it failed."""
        await asyncio.sleep(_BACKOFF_S[min(self._failures, len(_BACKOFF_S)) - 1] if self._failures else 0)
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                # The former backend may still hold the key of the flush under way, and so keep everybody out.
                self._connection, self._backend = await connect_writer(self._url, self._backend)
                await self._connection.execute(_ATTACH, self.journal_id, self._backend.pid, self._backend.started_at)
        except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
            self._lost(error)
            return
        self.tally.reconnects += 1
        await self._reconcile()

    async def _reconcile(self) -> Verdict | None:
        """Read where the journal ends and act on it: go on, acknowledge, or stop for good; None when out of reach."""
        connection = self._connection
        if connection is None:
            return None
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT_S):
                last = await connection.fetchrow(_LAST, self.journal_id)
        except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
            self._lost(error)
            return None
        last_seq, last_chain = (0, None) if last is None else (last["seq"], last["chain"])
        verdict = self._outbox.judge(last_seq, last_chain)
        if verdict is Verdict.ACKNOWLEDGE:
            self._acknowledge()
        elif verdict is Verdict.FENCED:
            self._fence(f"journal {self.journal_id} was taken over at seq {last_seq}")
        elif verdict is Verdict.LOST_TAIL:
            self.lost_tail = True
            self._fence(
                f"the database went back in time: journal {self.journal_id} ends at seq {last_seq}, "
                f"but seq {self._outbox.acknowledged_seq} had been acknowledged"
            )
        return verdict

    def notice_sealed(self) -> None:
        """Take note that somebody else has sealed this journal, so that an idle one is replaced before it is needed.

        With something to write it finds out by itself.
        """
        if self.fenced is None and not self._sealing and not self._outbox.pending_bytes:
            self._fence(f"journal {self.journal_id} was taken over while it was idle")
            self._work.set()

    def _fence(self, reason: str) -> None:
        self.tally.fenced += 1
        logger.error("%s; a new journal will be opened, the calls of this one are cut", reason)
        self._refuse(reason)
        self._on_flush()

    def _refuse(self, reason: str) -> None:
        """Take nothing more, and tell all who wait."""
        self.fenced = reason
        self._outbox.rest()
        waiters, self._waiters = self._waiters, {}
        for waiter in waiters:
            if not waiter.done():
                waiter.set_exception(FencedError(reason))
        self._release_space()

    async def seal(self, reason: str, timeout_s: float) -> bool:
        """Append `journal.sealed`, write what is left and close; return whether that was done within `timeout_s`.

        A journal that could not be sealed is taken over by the next process that sees it dead.
        """
        try:
            async with asyncio.timeout(timeout_s):
                facts = {"reason": reason, "last_seq": self.last_seq + 1}
                entry = self.append(None, None, JOURNAL_SEALED.encode(), encode_facts(facts))
                self._sealing = True
                await self.durable(entry.seq)
                if self._connection is not None:
                    await self._connection.execute(_SEALED, self.journal_id, entry.seq)
        except (TimeoutError, FencedError, *CONNECTION_LOST, asyncpg.PostgresError) as error:
            logger.error("journal %s: not sealed: %s: %s", self.journal_id, type(error).__name__, error)  # noqa: TRY400 - expected in an outage
            return False
        finally:
            await self.stop()
        return True

    async def stop(self) -> None:
        """End the flushing task and close the connection; whoever still waits is told that it was in vain."""
        self._closing = True
        self._work.set()
        if self._task is not None:
            self._task.cancel()
            # Not `await self._task`: whoever cancels this very wait must not be mistaken for the task's own end.
            await asyncio.wait([self._task])
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()
        if self.fenced is None:
            self._refuse(f"journal {self.journal_id} was closed")

    def status(self) -> dict[str, Any]:
        """Return what `llm ledger status` and /health tell of this journal."""
        return {
            "journal_id": str(self.journal_id),
            "last_seq": self.last_seq,
            "acknowledged_seq": self.acknowledged_seq,
            "pending_bytes": self.pending_bytes,
            "open_calls": self.open_calls,
            "disconnected_s": self.disconnected_s,
            "fenced": self.fenced,
        }


def _give_up(waiter: asyncio.Future[bool]) -> None:
    if not waiter.done():
        waiter.set_result(False)
