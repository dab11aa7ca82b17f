"""Reads the book from its tables and holds the rules of a journal: no gap, nothing after the seal, the chain, one end.

Incremental: each `read` goes on where the last one stopped, in one snapshot. Beside the chain's definition
(`ledger.chain`) it uses nothing of the product.
"""

import json
from collections import Counter
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg

from ledger import chain
from ledger.events import Event
from tests.support.rounds.stories import ENDINGS, CallStory, Row, Violation

_EVENTS = """
SELECT journal_id, seq, call_id, version, type, schema, recorded_at, facts::text AS facts, body, chain
FROM ledger.events WHERE journal_id = $1 AND seq > $2 ORDER BY seq
"""
_SPEND = """
SELECT end_user, sum(calls) AS calls, sum(attempts) AS attempts, sum(input_tokens) AS input_tokens,
       sum(output_tokens) AS output_tokens, sum(billed_usd) AS billed_usd, sum(estimated_usd) AS estimated_usd,
       sum(unknown_calls) AS unknown
FROM ledger.spend GROUP BY end_user
"""
_SUMMED = ("calls", "attempts", "input_tokens", "output_tokens", "billed_usd", "estimated_usd", "unknown")
Sums = dict[str, dict[str, Decimal]]


@dataclass(slots=True)
class _Journal:
    last_seq: int = 0
    value: bytes = chain.START
    leaves: list[bytes] = field(default_factory=list)
    seal: str = ""
    #: A terminal whose cost has to be the very next event, in the same flush.
    awaits_cost: UUID | None = None


class BookReader:
    """What the book holds so far: stories by call, sums by end user, and every rule of a journal that was broken."""

    def __init__(self) -> None:
        self.stories: dict[UUID, CallStory] = {}
        self.markers: dict[str, list[CallStory]] = {}
        self.sums: Sums = {}
        self.types: Counter[str] = Counter()
        self.violations: list[Violation] = []
        self._journals: dict[UUID, _Journal] = {}

    async def read(self, database_url: str) -> None:
        """Read what has been appended since the last time."""
        connection = await asyncpg.connect(database_url, timeout=10)
        try:
            async with connection.transaction(isolation="repeatable_read", readonly=True):
                for journal in await connection.fetch("SELECT journal_id FROM ledger.journals ORDER BY journal_id"):
                    state = self._journals.setdefault(journal["journal_id"], _Journal())
                    async for record in connection.cursor(_EVENTS, journal["journal_id"], state.last_seq):
                        self._take(state, record)
                    if state.leaves:
                        self._break(3, f"journal {journal['journal_id']} ends in the middle of a flush")
        finally:
            connection.terminate()

    @property
    def seals(self) -> dict[UUID, str]:
        """The reason of each journal's seal; "" while it is open."""
        return {journal_id: state.seal for journal_id, state in self._journals.items()}

    def _break(self, promise: int, text: str) -> None:
        self.violations.append(Violation(promise, text))

    def _take(self, state: _Journal, record: asyncpg.Record) -> None:
        row = Row(
            record["journal_id"], record["seq"], record["call_id"], record["version"], record["type"],
            json.loads(record["facts"]), record["body"], record["chain"],
        )  # fmt: skip
        place = f"journal {row.journal_id} seq {row.seq} ({row.type})"
        self.types[row.type] += 1
        if row.seq != state.last_seq + 1:
            self._break(3, f"{place}: follows seq {state.last_seq}")
        if state.seal:
            self._break(3, f"{place}: lies after the seal")
        state.last_seq = row.seq
        if row.type == "journal.sealed":
            state.seal = row.facts["reason"]
            if state.seal == "lost_tail":
                self._break(2, f"{place}: its writer had been told of more events than the database kept")
        self._follow_chain(state, record, row, place)
        self._await_cost(state, row, place)
        if row.call_id is not None:
            self._tell(row, place)

    def _follow_chain(self, state: _Journal, record: asyncpg.Record, row: Row, place: str) -> None:
        event = Event(
            row.journal_id, row.seq, row.call_id, row.version, row.type, record["schema"], record["recorded_at"],
            row.facts, row.body, row.chain,
        )  # fmt: skip
        state.leaves.append(chain.leaf_of(event))
        if row.chain is not None:
            state.value, state.leaves = chain.link(state.value, state.leaves), []
            if state.value != row.chain:
                self._break(5, f"{place}: the chain does not verify")

    def _await_cost(self, state: _Journal, row: Row, place: str) -> None:
        awaited, state.awaits_cost = state.awaits_cost, None
        if awaited is not None and (row.type != "cost.recorded" or row.call_id != awaited):
            self._break(2, f"{place}: stands where the cost of the ended call {awaited} belongs")
        if row.type in ENDINGS - {"call.rejected", "call.abandoned"}:
            state.awaits_cost = row.call_id
            if row.chain is not None:
                self._break(2, f"{place}: its flush ends before its cost")

    def _tell(self, row: Row, place: str) -> None:
        assert row.call_id is not None
        story = self.stories.get(row.call_id)
        if story is None:
            story = self.stories[row.call_id] = CallStory(row.call_id, row.journal_id)
            if row.type != "call.received":
                self._break(3, f"{place}: call {row.call_id} begins with it")
        elif row.journal_id != story.journal_id and row.type != "cost.corrected":
            self._break(3, f"{place}: call {row.call_id} lies in journal {story.journal_id}")
        if row.version != story.next_version:
            self._break(3, f"{place}: version {row.version} where {story.next_version} is due")
        if story.ending is not None and not row.type.startswith("cost."):
            self._break(4, f"{place}: call {row.call_id} had been ended by {story.kind_of_end} before")
        if row.type == "event.unstorable":
            self._break(3, f"{place}: {row.facts}")
        story.take(row)
        if row.type == "call.received":
            self.markers.setdefault(story.marker, []).append(story)
        elif row.type.startswith("cost."):
            self._sum(row)

    def _sum(self, row: Row) -> None:
        facts = row.facts
        usage: dict[str, Any] = facts["usage"] or {}
        given = {**facts, **usage, "attempts": 1 if row.type == "cost.recorded" else 0}
        sums = self.sums.setdefault(facts["dims"]["end_user"], dict.fromkeys(_SUMMED, Decimal(0)))
        for name in _SUMMED:
            sums[name] += Decimal(given.get(name) or 0)


async def read_spend(database_url: str) -> Sums:
    """Return what the projection says was spent, by end user."""
    connection = await asyncpg.connect(database_url, timeout=10)
    try:
        rows = await connection.fetch(_SPEND)
    finally:
        connection.terminate()
    return {row["end_user"]: {name: Decimal(row[name]) for name in _SUMMED} for row in rows}
