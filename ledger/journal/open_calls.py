"""The calls of a journal that have not ended, as recovery finds them: what is known of each, read from its events.

Bears whatever the book holds: a head that was unstorable, facts that were cut, parts of a body that never came. A
journal that cannot be read is a journal whose calls are never closed.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from ledger.events import (
    ATTEMPT_ANSWERED,
    ATTEMPT_STARTED,
    BODY_PART,
    BODY_RECEIVED,
    CALL_RECEIVED,
    CHUNK_RECEIVED,
    COST_RECORDED,
    ENDINGS,
    EVENT_UNSTORABLE,
)

#: Bodies of one call beyond this are not read for an estimate; its cost is then unknown, and says why.
BODY_BYTES_MAX: Final = 16 * 1024 * 1024

#: What began here: an event of a call that lies elsewhere, such as a later correction of its cost, opens nothing.
_OPEN = """
SELECT call_id, bool_or(type = ANY($3::text[])) AS ended
FROM ledger.events
WHERE journal_id = $1 AND seq <= $2 AND type <> 'chunk.received' AND call_id IS NOT NULL
GROUP BY call_id
HAVING bool_or(version = 0) AND (
    NOT bool_or(type = ANY($3::text[]))
    OR count(*) FILTER (
        WHERE type = 'attempt.started' OR type = 'event.unstorable' AND facts->>'type' = 'attempt.started'
    ) > count(*) FILTER (WHERE type = 'cost.recorded')
)
ORDER BY min(seq)
"""
_EXTENT = """
SELECT max(version) AS version, count(*) FILTER (WHERE type = 'chunk.received') AS chunks,
       coalesce(sum(octet_length(body)), 0) AS body_bytes
FROM ledger.events WHERE journal_id = $1 AND call_id = $2 AND seq <= $3
"""
_EVENTS = """
SELECT version, type, recorded_at, facts, CASE WHEN $4 THEN body END AS body
FROM ledger.events
WHERE journal_id = $1 AND call_id = $2 AND seq <= $3 AND (type <> 'chunk.received' OR $4)
ORDER BY version
"""
#: What stands for facts that are not there, so that the dimensions of a cost can always be said.
_RECEIVED_NOTHING: Final[dict[str, Any]] = {
    "method": "", "path": "", "key_id": "", "org": "", "team": "", "user": "", "end_user": "", "model": "", "tags": [],
    "content_encoding": "",
}  # fmt: skip
_STARTED_NOTHING: Final[dict[str, Any]] = {"deployment": "", "model": "", "upstream_model": ""}


@dataclass(slots=True)
class OpenAttempt:
    """An attempt without a cost: what it was, and what of its answer is in the book."""

    started_at: datetime
    facts: dict[str, Any]
    http_status: int | None = None
    chunks: list[bytes] = field(default_factory=list)
    body: bytes | None = None
    #: The response that it made, where the estimate finds one in what came: a later read of it settles the cost.
    response_id: str | None = None

    @property
    def number(self) -> int:
        """The attempt's number, from 1."""
        return int(self.facts["attempt"])


@dataclass(slots=True)
class OpenCall:
    """A call that its writer did not end.

    `request` is None when the bodies were too large to read; `is_readable` is False when the book does not hold what
    was asked, since that event was unstorable.
    """

    call_id: UUID
    ended: bool
    last_version: int
    chunk_count: int
    received_at: datetime
    received: dict[str, Any]
    request: bytes | None
    attempts: int
    open_attempts: list[OpenAttempt]
    is_readable: bool = True


async def open_call_ids(connection: asyncpg.Connection, journal_id: UUID, last_seq: int) -> list[tuple[UUID, bool]]:
    """Return the calls open up to `last_seq`, in the order in which they were received, and whether they have ended.

    One that has ended is open when an attempt of it has no cost.
    """
    rows = await connection.fetch(_OPEN, journal_id, last_seq, sorted(ENDINGS))
    return [(row["call_id"], row["ended"]) for row in rows]


async def read_open_call(
    connection: asyncpg.Connection, journal_id: UUID, last_seq: int, call_id: UUID, *, ended: bool
) -> OpenCall:
    """Return what the book knows of one open call up to `last_seq`, bodies of at most BODY_BYTES_MAX in all."""
    extent = await connection.fetchrow(_EXTENT, journal_id, call_id, last_seq)
    assert extent is not None  # noqa: S101 - an aggregate without GROUP BY has one row
    with_bodies = extent["body_bytes"] <= BODY_BYTES_MAX
    events = await connection.fetch(_EVENTS, journal_id, call_id, last_seq, with_bodies)
    reading = _Reading()
    for event in events:
        reading.take(event)
    return OpenCall(
        call_id=call_id,
        ended=ended,
        last_version=extent["version"],
        chunk_count=extent["chunks"],
        received_at=events[0]["recorded_at"],
        received={**_RECEIVED_NOTHING, **reading.received},
        request=reading.body(0) if with_bodies else None,
        attempts=len(reading.attempts),
        open_attempts=reading.open_attempts(),
        is_readable=bool(reading.received),
    )


class _Reading:
    """Takes in the events of one call in order of version."""

    def __init__(self) -> None:
        self.received: dict[str, Any] = {}
        self.attempts: dict[int, OpenAttempt] = {}
        self._paid: set[int] = set()
        #: The pieces of each body, by the version of the event that it began with.
        self._pieces: dict[int, list[bytes]] = {}
        #: Where the chunks and the body of each attempt began.
        self._chunks: dict[int, list[int]] = {}
        self._bodies: dict[int, int] = {}

    def take(self, event: asyncpg.Record) -> None:
        kind, version = event["type"], event["version"]
        if event["body"] is not None and kind != BODY_PART:
            self._pieces[version] = [event["body"]]
        if kind == CHUNK_RECEIVED:
            self._chunks.setdefault(len(self.attempts), []).append(version)
            return
        facts = json.loads(event["facts"])
        if kind == BODY_PART:
            self._pieces.setdefault(facts.get("of", version), []).append(event["body"] or b"")
        elif kind == CALL_RECEIVED:
            self.received = facts
        elif kind == ATTEMPT_STARTED or (kind == EVENT_UNSTORABLE and facts.get("type") == ATTEMPT_STARTED):
            # Attempts of a call are numbered from 1 without a gap, so the place tells what cut facts may not.
            number = len(self.attempts) + 1
            self.attempts[number] = OpenAttempt(event["recorded_at"], {**_STARTED_NOTHING, **facts, "attempt": number})
        elif kind == COST_RECORDED:
            self._paid.add(facts.get("attempt", len(self.attempts)))
        elif kind == ATTEMPT_ANSWERED and self.attempts:
            self.attempts[len(self.attempts)].http_status = facts.get("status")
        elif kind == BODY_RECEIVED:
            self._bodies[len(self.attempts)] = version

    def body(self, version: int) -> bytes:
        """Return the body that began with the event of that version, as far as it came."""
        return b"".join(self._pieces.get(version, []))

    def open_attempts(self) -> list[OpenAttempt]:
        """Return the attempts without a cost, in order."""
        unpaid: list[OpenAttempt] = []
        for number, attempt in self.attempts.items():
            if number not in self._paid:
                attempt.chunks = [
                    self.body(version) for version in self._chunks.get(number, []) if version in self._pieces
                ]
                attempt.body = self.body(self._bodies[number]) if number in self._bodies else None
                unpaid.append(attempt)
        return unpaid
