"""Asks upstreams for background responses whose cost is not known, so that it gets known without a client's read.

Only where `settle_background_s` says so. Of all processes on a book one does it, whoever holds the lock. Each question
is a call in the book, of the key `proxy`; what an answer means for the cost is `settling.py`'s.
"""

import asyncio
import logging
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, Final

import asyncpg
from uuid_utils.compat import uuid7

from api.auth import Caller
from api.book import Book
from api.call_reading import path_of_call
from api.call_recording import received_facts
from ledger.errors import FencedError, LedgerUnavailableError
from ledger.events import CALL_RECEIVED
from ledger.postgres.connect import CONNECTION_LOST, connect
from llm.attempt import Call
from llm.client import Head
from llm.deployment import Deployment
from llm.encodings import EncodingError, decode
from llm.engine import Engine
from llm.headers import find
from llm.record import Record
from llm.request import ClientRequest, read_client_request, read_mapping
from llm.without_bodies import RecordWithoutBodies

logger = logging.getLogger(__name__)

#: Whom its calls are booked to.
PROXY: Final = Caller("proxy", key_alias="proxy")
#: An upstream keeps a response for some time only; what is older stays unknown.
_AGE_MAX: Final = timedelta(days=3)
#: A look goes back beyond the one before by this much: a call is folded a moment after its end.
_OVERLAP: Final = timedelta(hours=1)
_WAITING_MAX: Final = 10_000
_DUE_MAX: Final = 200
_AT_ONCE: Final = 4
_PAUSE_MAX_S: Final = 3_600.0
_ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
_NOT_ENDED: Final = frozenset({"queued", "in_progress"})
_NOT_FOUND: Final = 404
_OK: Final = 200

_ELECT: Final = "SELECT pg_try_advisory_lock(hashtextextended('responses-ledger settle background', 0))"
#: The first conditions are those of the index `calls_unsettled`: a call that was priced or has usage is not in it. Each
#: of the few that are is looked up in its own journal, one by one, so that no plan reads the events of everybody.
_FIND: Final = """
SELECT c.response_id, c.deployment, c.bodies_stored, extract(epoch FROM now() - c.received_at)::float8 AS age_s
FROM ledger.calls AS c
CROSS JOIN LATERAL (
    SELECT FROM ledger.events AS e
    WHERE e.journal_id = c.journal_id AND e.call_id = c.call_id AND e.type = 'call.completed'
      AND e.facts->>'response_status' IN ('queued', 'in_progress')
    LIMIT 1
) AS accepted
WHERE c.status = 'completed' AND c.method = 'POST' AND c.unknown > 0 AND c.input_tokens IS NULL
  AND c.response_id IS NOT NULL AND c.received_at > now() - $1::interval AND c.path = '/responses'
ORDER BY c.received_at LIMIT $2
"""
_STILL: Final = """
SELECT response_id FROM ledger.calls WHERE response_id = ANY($1::text[]) AND method = 'POST' AND unknown > 0
"""


@dataclass(slots=True)
class _Waiting:
    """A response that is asked for again at `due_s`, and is forgotten at `until_s`; monotonic seconds."""

    response_id: str
    deployment_id: str
    keeps_bodies: bool
    until_s: float
    pause_s: float
    due_s: float = field(default_factory=time.monotonic)

    def postpone(self) -> None:
        """Ask again, later each time."""
        self.due_s = time.monotonic() + self.pause_s
        self.pause_s = min(self.pause_s * 2, _PAUSE_MAX_S)

    def leave(self) -> None:
        """Ask no more; it is remembered, so that the next look does not find it anew."""
        self.due_s = math.inf


class BackgroundSettler:
    """Looks every `every_s` seconds, for as long as `run` runs. `keeps_bodies`: whether the config stores any."""

    def __init__(self, book: Book, engine: Engine, *, every_s: float, keeps_bodies: bool) -> None:
        self._book = book
        self._engine = engine
        self._every_s = every_s
        self._keeps_bodies = keeps_bodies
        self._connection: asyncpg.Connection | None = None
        self._looked_s: float | None = None
        self._waiting: dict[str, _Waiting] = {}
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def run(self) -> None:
        """Settle until cancelled; a lost database is waited for, and the lock is lost with it."""
        try:
            while True:
                try:
                    await self._look()
                except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
                    logger.warning("background responses: %s: %s", type(error).__name__, error)
                    self._disconnect()
                await asyncio.sleep(self._every_s)
        finally:
            self._disconnect()

    async def _look(self) -> None:
        connection = await self._elected()
        if connection is None:
            return
        now_s = time.monotonic()
        back = _AGE_MAX if self._looked_s is None else timedelta(seconds=now_s - self._looked_s) + _OVERLAP
        rows = await connection.fetch(_FIND, min(back, _AGE_MAX), _WAITING_MAX)
        self._looked_s = now_s
        self._waiting = {name: waiting for name, waiting in self._waiting.items() if waiting.until_s > now_s}
        for row in rows:
            if row["response_id"] not in self._waiting and len(self._waiting) < _WAITING_MAX:
                self._waiting[row["response_id"]] = _Waiting(
                    row["response_id"],
                    row["deployment"],
                    self._keeps_bodies and row["bodies_stored"],
                    now_s + _AGE_MAX.total_seconds() - row["age_s"],
                    self._every_s,
                )
        due = [waiting for waiting in self._waiting.values() if waiting.due_s <= now_s][:_DUE_MAX]
        # A client may have read it meanwhile.
        still = {row["response_id"] for row in await connection.fetch(_STILL, [each.response_id for each in due])}
        await asyncio.gather(*(self._ask(waiting, is_unknown=waiting.response_id in still) for waiting in due))

    async def _elected(self) -> asyncpg.Connection | None:
        """Return the connection that holds the lock; None while another process does it."""
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._book.url, purpose="background", statement_timeout="60s")
            self._looked_s = None
            if not await self._connection.fetchval(_ELECT):
                self._disconnect()
        return self._connection

    async def _ask(self, waiting: _Waiting, *, is_unknown: bool) -> None:
        deployment = self._engine.router.deployment(waiting.deployment_id)
        path = path_of_call(f"/responses/{waiting.response_id}")
        if not is_unknown or deployment is None or path is None or "/" in waiting.response_id:
            waiting.leave()
            return
        async with self._turns:
            try:
                reader = await self._call(path, deployment, keeps_bodies=waiting.keeps_bodies)
            except (LedgerUnavailableError, FencedError):
                waiting.postpone()
                return
        if reader.status == _NOT_FOUND or reader.has_ended():
            waiting.leave()
        else:
            waiting.postpone()

    async def _call(self, path: str, deployment: Deployment, *, keeps_bodies: bool) -> "_Reader":
        """Make the call; the engine settles by its answer, as by everybody's."""
        call_id = uuid7()
        record: Record = self._book.begin_call(call_id)
        if not keeps_bodies:
            record = RecordWithoutBodies(record)
        request: ClientRequest = read_client_request("GET", path, "", [], b"", limit_bytes=0, needs_json=False)
        facts: dict[str, Any] = received_facts({"method": "GET"}, path, [], PROXY, b"")
        reader = _Reader()
        await record.append_large(CALL_RECEIVED, facts, b"")
        await self._engine.serve(Call(record, request, reader, facts, is_billable=False, pinned=deployment))
        return reader

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


class _Reader:
    """Takes the answer on the proxy's own behalf. Implements `llm.client.Client`."""

    def __init__(self) -> None:
        self.is_gone = False
        self.has_begun = False
        self.on_gone: Callable[[], None] = lambda: None
        self.status = 0
        self._coding = ""
        self._body = b""

    def has_ended(self) -> bool:
        """Tell whether the answer is a response that has ended, so that nothing more can be learnt of it."""
        if self.status != _OK:
            return False
        try:
            response = read_mapping(decode(self._body, self._coding, _ANSWER_BYTES_MAX))
        except EncodingError:
            return False
        return response is not None and response.get("status") not in _NOT_ENDED

    async def answer(self, head: Head, body: bytes) -> None:
        """Keep a whole answer."""
        self.has_begun = True
        self.status, self._body = head.status, body
        self._coding = find(head.headers, "content-encoding")

    async def start(self, head: Head) -> None:
        """Note that a stream came, which was not asked for."""
        self.has_begun = True
        self.status = head.status

    async def send(self, piece: bytes) -> None:
        """Drop it: it is in the book."""

    async def end(self) -> None:
        """Do nothing."""
