"""A process's journals: the current one, and older ones whose calls have not ended yet.

Opens, rotates, replaces a fenced one, beats the heart, seals at the end. Calls and administrative events enter the book
here.
"""

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import asyncpg

from ledger.encoding import encode_facts
from ledger.errors import FencedError, LedgerUnavailableError
from ledger.events import JOURNAL_OPENED, Position
from ledger.journal.backend import connect_writer
from ledger.journal.call_log import CallLog
from ledger.journal.tally import Tally
from ledger.journal.writer import Writer
from ledger.loops import Loops
from ledger.postgres.connect import CONNECTION_LOST, connect

logger = logging.getLogger(__name__)

HEARTBEAT_S: Final = 2.0
_TEND_S: Final = 0.25
#: A new journal's first event is durable within this time, or it is tried again with another journal.
_OPEN_TIMEOUT_S: Final = 15.0
_SEAL_TIMEOUT_S: Final = 10.0
_RETRY_S: Final = 1.0
_LINKS_MAX: Final = 16
_OPEN = "SELECT ledger.open_journal($1::jsonb, $2, $3)"
_BEAT = """
UPDATE ledger.journals SET heartbeat = heartbeat + 1 WHERE journal_id = ANY($1::uuid[]) RETURNING journal_id, sealed_at
"""
#: The heads of the latest journals before this one: where each ended, or stood, when this one began.
_HEADS = """
SELECT j.journal_id, e.seq, encode(e.chain, 'hex') AS chain
FROM (SELECT journal_id FROM ledger.journals WHERE journal_id < $1 ORDER BY journal_id DESC LIMIT $2) AS j
CROSS JOIN LATERAL (
    SELECT seq, chain FROM ledger.events WHERE events.journal_id = j.journal_id ORDER BY seq DESC LIMIT 1
) AS e
ORDER BY j.journal_id
"""


@dataclass(frozen=True, slots=True)
class JournalSettings:
    """The bounds of the append path."""

    buffer_bytes: int = 64 * 1024 * 1024
    call_buffer_bytes: int = 8 * 1024 * 1024
    journal_events_max: int = 5_000_000
    journal_age_s: float = 6 * 3600.0
    #: Calls are refused once the database has been out of reach for this long; shorter absences are waited out.
    refuse_after_s: float = 1.0


class Journals:
    """What this process appends to. `open` before use, `close` at the end."""

    def __init__(
        self,
        url: str,
        writer: Mapping[str, Any],
        settings: JournalSettings | None = None,
        on_flush: Callable[[], None] = lambda: None,
        loops: Loops | None = None,
    ) -> None:
        """`loops`: those of the process, if it has others beside these."""
        self._loops = loops or Loops()
        self.settings = settings or JournalSettings()
        self._url = url
        self._identity = dict(writer)
        self._on_flush = on_flush
        self._current: Writer | None = None
        self._older: list[Writer] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._closing = False
        self._wake = asyncio.Event()
        self.lost_tails: list[UUID] = []
        #: What all journals of this process have done so far.
        self.tally = Tally()

    async def open(self) -> None:
        """Open the first journal and begin to beat the heart.

        Raises:
            OSError, asyncpg.PostgresError: the database cannot be reached or refuses.
        """
        self._current = await self._open_one()
        self._tasks = [
            self._loops.start("journal heartbeat", self._beat),
            self._loops.start("journal rotation", self._tend),
        ]

    @property
    def current(self) -> Writer:
        """The journal that new calls go to."""
        if self._current is None:
            raise LedgerUnavailableError("the journal is not open")
        return self._current

    def begin_call(self, call_id: UUID) -> CallLog:
        """Give a call its log in the current journal.

        Raises:
            LedgerUnavailableError: the database is out of reach, the buffer is full, or the process is ending.
        """
        self.require_available()
        writer = self.current
        return CallLog(writer, call_id, self.settings.call_buffer_bytes, self.settings.buffer_bytes)

    def require_available(self) -> None:
        """Refuse when what comes in could not be recorded.

        Raises:
            LedgerUnavailableError: with the reason.
        """
        writer = self.current
        if self._closing:
            raise LedgerUnavailableError("the proxy is shutting down")
        if writer.fenced is not None:
            self._wake.set()
            raise LedgerUnavailableError("the journal is being replaced")
        away_s = writer.disconnected_s
        if away_s is not None and away_s > self.settings.refuse_after_s:
            raise LedgerUnavailableError("the ledger's database cannot be reached")
        if self.pending_bytes >= self.settings.buffer_bytes:
            raise LedgerUnavailableError("the ledger's buffer is full")

    @property
    def pending_bytes(self) -> int:
        """Bytes of all journals of this process that are not yet durable."""
        return sum(writer.pending_bytes for writer in self._writers())

    @property
    def queued_events(self) -> int:
        """Events of all journals of this process that are not yet durable."""
        return sum(writer.queued_events for writer in self._writers())

    @property
    def open_calls(self) -> int:
        """Calls that this process has begun to record and that have not ended."""
        return sum(writer.open_calls for writer in self._writers())

    @property
    def is_stalled(self) -> bool:
        """Whether nothing of the current journal becomes durable."""
        return self._current is not None and self._current.is_stalled

    @property
    def count(self) -> int:
        """How many journals this process writes."""
        return len(self._writers())

    def _writers(self) -> list[Writer]:
        return [*self._older, *([] if self._current is None else [self._current])]

    async def administer(self, type_: str, facts: Mapping[str, Any], timeout_s: float = 10.0) -> Position:
        """Append an event of administration and return its place once it is durable.

        Raises:
            LedgerUnavailableError: it could not be made durable within `timeout_s`; it may become so later.
        """
        self.require_available()
        writer = self.current
        try:
            entry = writer.append(None, None, type_.encode(), encode_facts(facts))
            async with asyncio.timeout(timeout_s):
                await writer.durable(entry.seq)
        except (TimeoutError, FencedError) as error:
            raise LedgerUnavailableError("the event could not be made durable") from error
        return Position(writer.journal_id, entry.seq)

    @contextlib.contextmanager
    def held(self) -> Generator["HeldJournal"]:
        """Give the current journal for a later event of a call that has ended; it is not sealed within the block.

        Raises:
            LedgerUnavailableError: nothing can be recorded now.
        """
        self.require_available()
        writer = self.current
        writer.open_calls += 1
        try:
            yield HeldJournal(writer)
        finally:
            writer.open_calls -= 1

    def refuse_calls(self) -> None:
        """Take no new calls from now on; those that run go on to their end."""
        self._closing = True

    @property
    def is_closing(self) -> bool:
        """Whether new calls are refused because the process ends."""
        return self._closing

    def own_ids(self) -> set[UUID]:
        """Return the ids of the journals that this process still writes."""
        return {writer.journal_id for writer in self._writers() if writer.fenced is None}

    def take_lost_tails(self) -> list[UUID]:
        """Return, once, the journals whose acknowledged tail the database has lost."""
        lost, self.lost_tails = self.lost_tails, []
        return lost

    async def publish(self, type_: str, many: list[dict[str, Any]], timeout_s: float = 60.0) -> Position | None:
        """Append many events of administration of one type; return the last one's place once all are durable.

        Raises:
            LedgerUnavailableError: they were not durable within `timeout_s`; some, or all, may become so later.
        """
        writer = self.current
        seq = None
        try:
            async with asyncio.timeout(timeout_s):
                for facts in many:
                    while writer.pending_bytes >= self.settings.buffer_bytes:
                        await writer.progress()
                    seq = writer.append(None, None, type_.encode(), encode_facts(facts)).seq
                if seq is None:
                    return None
                await writer.durable(seq)
        except (TimeoutError, FencedError) as error:
            raise LedgerUnavailableError(f"{len(many)} events could not be made durable") from error
        return Position(writer.journal_id, seq)

    async def _open_one(self) -> Writer:
        connection, backend = await connect_writer(self._url)
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                identity = json.dumps(self._identity)
                journal_id: UUID = await connection.fetchval(_OPEN, identity, backend.pid, backend.started_at)  # pyright: ignore[reportAssignmentType] the function returns one
                heads = await connection.fetch(_HEADS, journal_id, _LINKS_MAX)
        except BaseException:
            connection.terminate()
            raise
        writer = Writer(self._url, journal_id, connection, backend, self._on_flush, self.tally)
        links = [[str(head["journal_id"]), head["seq"], head["chain"]] for head in heads]
        entry = writer.append(None, None, JOURNAL_OPENED.encode(), encode_facts({**self._identity, "links": links}))
        writer.start()
        try:
            async with asyncio.timeout(_OPEN_TIMEOUT_S):
                await writer.durable(entry.seq)
        except BaseException:
            # Nobody will write there; it is sealed as dead when its lease has run out.
            await writer.stop()
            raise
        return writer

    def _is_due(self, writer: Writer) -> bool:
        return (
            writer.fenced is not None
            or writer.last_seq >= self.settings.journal_events_max
            or time.monotonic() - writer.opened_at >= self.settings.journal_age_s
        )

    def wake(self) -> None:
        """Have the journals looked after now rather than at the next turn."""
        self._wake.set()

    async def _tend(self) -> None:
        """Replace a fenced or full journal, and seal older ones whose calls have ended."""
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_TEND_S):
                    await self._wake.wait()
            self._wake.clear()
            try:
                await self._tend_once()
            except (*CONNECTION_LOST, asyncpg.PostgresError, FencedError) as error:
                logger.warning("journals: opening or sealing failed, trying again: %s: %s", type(error).__name__, error)
                await asyncio.sleep(_RETRY_S)

    async def _tend_once(self) -> None:
        if self._is_due(self.current) and not self._closing:
            successor = await self._open_one()
            former, self._current = self.current, successor
            self._older.append(former)
            logger.info("journal %s follows %s", successor.journal_id, former.journal_id)
        for writer in [older for older in self._older if older.fenced is not None or older.open_calls == 0]:
            if writer.lost_tail:
                self.lost_tails.append(writer.journal_id)
            if writer.fenced is None:
                await writer.seal("clean", _SEAL_TIMEOUT_S)
            else:
                await writer.stop()
            self._older.remove(writer)

    async def _beat(self) -> None:
        """Raise the counters of this process's journals, over a connection of its own."""
        connection: asyncpg.Connection | None = None
        try:
            while True:
                try:
                    async with asyncio.timeout(HEARTBEAT_S * 2):
                        if connection is None or connection.is_closed():
                            connection = await connect(self._url, purpose="heartbeat", lock_timeout="2s")
                        await self._beat_once(connection)
                except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
                    logger.debug("heartbeat missed: %s: %s", type(error).__name__, error)
                    if connection is not None:
                        connection.terminate()
                    connection = None
                await asyncio.sleep(HEARTBEAT_S)
        finally:
            if connection is not None:
                connection.terminate()

    async def _beat_once(self, connection: asyncpg.Connection) -> None:
        writers = {writer.journal_id: writer for writer in self._writers() if writer.fenced is None}
        for row in await connection.fetch(_BEAT, list(writers)):
            if row["sealed_at"] is not None:
                writers[row["journal_id"]].notice_sealed()
                self._wake.set()

    async def close(self, timeout_s: float) -> None:
        """Seal every journal, within `timeout_s` in all; what cannot be sealed is left to recovery."""
        self._closing = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        writers = self._writers()
        self._older, self._current = [], None
        await asyncio.gather(*(self._finish(writer, timeout_s) for writer in writers))

    async def _finish(self, writer: Writer, timeout_s: float) -> None:
        if writer.fenced is not None or writer.open_calls > 0:
            # A journal with open calls is not sealed as clean: recovery closes the calls, then the journal.
            with contextlib.suppress(TimeoutError, FencedError):
                async with asyncio.timeout(timeout_s):
                    await writer.durable(writer.last_seq)
            await writer.stop()
        else:
            await writer.seal("clean", timeout_s)

    def status(self) -> dict[str, Any]:
        """Return the state of this process's journals."""
        return {
            "journals": [writer.status() for writer in self._writers()],
            "pending_bytes": self.pending_bytes,
            "lost_tails": [str(journal_id) for journal_id in self.lost_tails],
        }


class HeldJournal:
    """The journal that is current at a moment, kept from being sealed while something is appended to it."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    @property
    def journal_id(self) -> UUID:
        """The journal."""
        return self._writer.journal_id

    async def record_of_call(self, call_id: UUID, version: int, type_: str, facts: Mapping[str, Any]) -> Position:
        """Append a later event of a call that has ended, such as a correction, and return once it is durable.

        Raises:
            FencedError: the journal was taken over meanwhile.
        """
        entry = self._writer.append(call_id.bytes, version, type_.encode(), encode_facts(facts))
        await self._writer.durable(entry.seq)
        return Position(self._writer.journal_id, entry.seq)
