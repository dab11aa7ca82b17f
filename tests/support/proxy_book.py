"""What the book says about a call, read with SQL of the tests' own: no line of the product's reports is used here."""

import asyncio
import json
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from types import TracebackType
from typing import Any, Self
from uuid import UUID

import asyncpg

from ledger.postgres.url import parse

TERMINALS = frozenset(
    f"call.{end}" for end in ("completed", "incomplete", "failed", "cancelled", "truncated", "abandoned")
)
_EVENTS = """
SELECT journal_id, seq, version, type, recorded_at, facts, body FROM ledger.events WHERE call_id = $1 ORDER BY version
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One event."""

    journal_id: UUID
    seq: int
    version: int
    type: str
    recorded_at: datetime
    facts: dict[str, Any]
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Story:
    """All events of a call, in order."""

    events: list[Row]

    @property
    def types(self) -> list[str]:
        """The types in order."""
        return [event.type for event in self.events]

    def all(self, type_: str) -> list[Row]:
        """The events of a type."""
        return [event for event in self.events if event.type == type_]

    def one(self, type_: str) -> Row:
        """The only event of a type."""
        found = self.all(type_)
        assert len(found) == 1, f"{len(found)} times {type_} in {self.types}"
        return found[0]

    @property
    def end(self) -> Row:
        """The terminal event, of which there is exactly one."""
        found = [event for event in self.events if event.type in TERMINALS]
        assert len(found) == 1, f"{len(found)} terminals in {self.types}"
        return found[0]

    @property
    def cost(self) -> dict[str, Any]:
        """The facts of the last attempt's charge."""
        return self.all("cost.recorded")[-1].facts

    @property
    def billed_usd(self) -> Decimal:
        """What all attempts were billed."""
        return sum((Decimal(event.facts["billed_usd"]) for event in self.all("cost.recorded")), Decimal(0))

    @property
    def request(self) -> bytes:
        """The request's bytes."""
        return self._whole(0)

    @property
    def answer(self) -> bytes:
        """The answer's bytes: of the last attempt, chunks and bodies with all their parts."""
        heads = [event for event in self.events if event.type in {"chunk.received", "body.received"}]
        last = self.all("attempt.started")[-1].version
        return b"".join(self._whole(head.version) for head in heads if head.version > last)

    def _whole(self, of: int) -> bytes:
        head = next(event for event in self.events if event.version == of)
        parts = [event.body or b"" for event in self.all("body.part") if event.facts["of"] == of]
        return b"".join([head.body or b"", *parts])

    def check(self) -> "Story":
        """Assert what holds for every call that has ended: gapless versions, one journal, one charge an attempt."""
        assert [event.version for event in self.events] == list(range(len(self.events))), self.types
        seqs = [event.seq for event in self.events]
        assert seqs == sorted(seqs)
        assert len({event.journal_id for event in self.events}) == 1
        started = [event.facts["attempt"] for event in self.all("attempt.started")]
        charged = [event.facts["attempt"] for event in self.all("cost.recorded")]
        assert started == list(range(1, len(started) + 1))
        assert charged == started, self.types
        assert all(event.facts["revision"] == 1 for event in self.all("cost.recorded"))
        if started and not self.all("call.rejected"):
            # The end and its cost are adjacent.
            assert self.types[self.types.index(self.end.type) + 1] == "cost.recorded", self.types
            assert self.cost["final"] is True
            assert self.end.facts["chunks"] == len(self.all("chunk.received"))
        return self


class Book:
    """Reads over a connection of its own, made at first use."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: asyncpg.Connection | None = None
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def fetch(self, query: str, *arguments: Any) -> list[Any]:
        """Run a query, on a new connection where the last one is gone."""
        async with self._turn:
            connection = self._connection
            if connection is None or connection.is_closed():
                connection = self._connection = await asyncpg.connect(**parse(self._url).asyncpg_kwargs())
            return await connection.fetch(query, *arguments)

    async def story(self, call_id: UUID) -> Story:
        """Return what is in the book of a call at this moment."""
        rows = await self.fetch(_EVENTS, call_id)
        return Story([Row(**{**dict(row), "facts": json.loads(row["facts"])}) for row in rows])

    async def ended(self, call_id: UUID, timeout_s: float = 10.0) -> Story:
        """Wait until a call has ended, and return its whole story, checked."""
        async with asyncio.timeout(timeout_s):
            while True:
                story = await self.story(call_id)
                if TERMINALS & set(story.types) or "call.rejected" in story.types:
                    return story.check()
                await asyncio.sleep(0.01)

    async def last_call(self) -> UUID:
        """Return the id of the call that was received last, of one that the client was not told."""
        rows = await self.fetch(
            "SELECT call_id FROM ledger.events WHERE type = 'call.received' ORDER BY recorded_at DESC LIMIT 1"
        )
        return rows[0]["call_id"]

    async def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.terminate()
