"""What the book tells of a call, put together from its events: attempts, pieces of the answer, end, costs.

Plain data and a fold; the rules of a journal are `reader.py`'s, the promises `checks.py`'s.
"""

import json
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any
from uuid import UUID

TERMINALS = frozenset(
    {"call.completed", "call.incomplete", "call.failed", "call.cancelled", "call.truncated", "call.abandoned"}
)
ENDINGS = TERMINALS | {"call.rejected"}


@dataclass(frozen=True, slots=True)
class Row:
    """One event as it lies in the table."""

    journal_id: UUID
    seq: int
    call_id: UUID | None
    version: int | None
    type: str
    facts: dict[str, Any]
    body: bytes | None
    chain: bytes | None


@dataclass(frozen=True, slots=True)
class Violation:
    """A promise of DESIGN.md section 3 that was not kept."""

    promise: int
    text: str

    def __str__(self) -> str:
        return f"promise {self.promise}: {self.text}"


@dataclass(slots=True)
class AttemptStory:
    """One attempt: what was sent, what came, and its costs in order of revision."""

    sent_sha256: str
    chunks: list[int] = field(default_factory=list)
    body: int | None = None
    costs: list[dict[str, Any]] = field(default_factory=list)

    @property
    def usd(self) -> Decimal:
        """What is booked in money, billed and estimated, after all corrections."""
        return sum((Decimal(c["billed_usd"]) + Decimal(c["estimated_usd"]) for c in self.costs), Decimal(0))

    @property
    def billed_usd(self) -> Decimal:
        """What is booked as billed."""
        return sum((Decimal(c["billed_usd"]) for c in self.costs), Decimal(0))

    @property
    def unknown(self) -> int:
        """Whether part of it is booked as unknown."""
        return sum(int(c["unknown"]) for c in self.costs)


@dataclass(slots=True)
class CallStory:
    """One call, from its first event on."""

    call_id: UUID
    journal_id: UUID
    marker: str = ""
    next_version: int = 0
    ending: Row | None = None
    attempts: list[AttemptStory] = field(default_factory=list)
    events: int = 0
    pieces: dict[int, bytearray] = field(default_factory=dict)

    def take(self, row: Row) -> None:
        """Add an event; in order of version."""
        version = row.version or 0
        self.events += 1
        self.next_version = version + 1
        if row.body is not None and row.type != "body.part":
            self.pieces[version] = bytearray(row.body)
        if row.type == "call.received":
            self.marker = _marker(row.body)
        elif row.type == "attempt.started":
            self.attempts.append(AttemptStory(row.facts["sent_sha256"]))
        elif row.type == "chunk.received":
            self.attempts[-1].chunks.append(version)
        elif row.type == "body.received":
            self.attempts[-1].body = version
        elif row.type == "body.part":
            self.pieces[row.facts["of"]] += row.body or b""
        elif row.type in {"cost.recorded", "cost.corrected"}:
            self.attempts[row.facts["attempt"] - 1].costs.append(row.facts)
        elif row.type in ENDINGS:
            self.ending = row

    @property
    def kind_of_end(self) -> str:
        """The type of the event that ended it; "" while it is open."""
        return "" if self.ending is None else self.ending.type

    def answer(self) -> bytes:
        """Return the bytes of the answer as the book holds them: the proxy's own, or the last attempt's.

        An end with a body is an answer that the proxy gave itself; what came of the upstream's is evidence then.
        """
        if self.ending is not None and self.ending.body:
            return self.ending.body
        last = self.attempts[-1] if self.attempts else AttemptStory("")
        if last.body is not None:
            return bytes(self.pieces[last.body])
        if last.chunks:
            return b"".join(self.pieces.get(version, b"") for version in last.chunks)
        return b""

    def forget_bytes(self) -> None:
        """Keep what happened, drop the answer's bytes: they have been compared."""
        self.pieces.clear()


def _marker(body: bytes | None) -> str:
    """Return the marker that the client put into its request; "" where there is none."""
    try:
        return str(json.loads(body or b"")["metadata"]["call"])
    except (ValueError, KeyError, TypeError):
        return ""
