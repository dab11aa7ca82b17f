"""The calls of a journal that have not ended, as recovery finds them: what is known of each, read from its events."""

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
)

#: Bodies of one call beyond this are not read for an estimate; its cost is then unknown, and says why.
BODY_BYTES_MAX: Final = 16 * 1024 * 1024

_OPEN = """
SELECT call_id, bool_or(type = ANY($3::text[])) AS ended
FROM ledger.events
WHERE journal_id = $1 AND seq <= $2 AND type <> 'chunk.received' AND call_id IS NOT NULL
GROUP BY call_id
HAVING NOT bool_or(type = ANY($3::text[]))
    OR count(*) FILTER (WHERE type = 'attempt.started') > count(*) FILTER (WHERE type = 'cost.recorded')
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


@dataclass(slots=True)
class OpenAttempt:
    """An attempt without a cost: what it was, and what of its answer is in the book."""

    started_at: datetime
    facts: dict[str, Any]
    http_status: int | None = None
    chunks: list[bytes] = field(default_factory=list)
    body: bytes | None = None

    @property
    def number(self) -> int:
        """The attempt's number, from 1."""
        return int(self.facts["attempt"])


@dataclass(slots=True)
class OpenCall:
    """A call that its writer did not end. `request` is None when the bodies were too large to read."""

    call_id: UUID
    ended: bool
    last_version: int
    chunk_count: int
    received_at: datetime
    received: dict[str, Any]
    request: bytes | None
    attempts: int
    open_attempts: list[OpenAttempt]


async def read_open_calls(connection: asyncpg.Connection, journal_id: UUID, last_seq: int) -> list[OpenCall]:
    """Return the calls open up to `last_seq`, in the order in which they were received."""
    rows = await connection.fetch(_OPEN, journal_id, last_seq, sorted(ENDINGS))
    return [await _read_one(connection, journal_id, last_seq, row["call_id"], ended=row["ended"]) for row in rows]


async def _read_one(
    connection: asyncpg.Connection, journal_id: UUID, last_seq: int, call_id: UUID, *, ended: bool
) -> OpenCall:
    extent = await connection.fetchrow(_EXTENT, journal_id, call_id, last_seq)
    assert extent is not None  # noqa: S101 - an aggregate without GROUP BY has one row
    with_bodies = extent["body_bytes"] <= BODY_BYTES_MAX
    events = await connection.fetch(_EVENTS, journal_id, call_id, last_seq, with_bodies)
    return _fold(call_id, events, extent, ended=ended, with_bodies=with_bodies)


def _fold(
    call_id: UUID, events: list[asyncpg.Record], extent: asyncpg.Record, *, ended: bool, with_bodies: bool
) -> OpenCall:
    first = events[0]
    received = json.loads(first["facts"]) if first["type"] == CALL_RECEIVED else {}
    attempts: dict[int, OpenAttempt] = {}
    paid: set[int] = set()
    pieces: list[bytes] = [first["body"] or b""]
    for event in events[1:]:
        kind, latest = event["type"], attempts[max(attempts)] if attempts else None
        if kind == ATTEMPT_STARTED:
            attempt = OpenAttempt(event["recorded_at"], json.loads(event["facts"]))
            attempts[attempt.number] = attempt
        elif kind == COST_RECORDED:
            paid.add(int(json.loads(event["facts"])["attempt"]))
        elif latest is None:
            if kind == BODY_PART:
                pieces.append(event["body"] or b"")
        elif kind == ATTEMPT_ANSWERED:
            latest.http_status = json.loads(event["facts"])["status"]
        elif kind == CHUNK_RECEIVED:
            latest.chunks.append(event["body"])
        elif kind == BODY_RECEIVED:
            latest.body = event["body"]
    return OpenCall(
        call_id=call_id,
        ended=ended,
        last_version=extent["version"],
        chunk_count=extent["chunks"],
        received_at=first["recorded_at"],
        received=received,
        request=b"".join(pieces) if with_bodies else None,
        attempts=len(attempts),
        open_attempts=[attempt for number, attempt in sorted(attempts.items()) if number not in paid],
    )
