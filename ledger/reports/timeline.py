"""What happened to one call and when, without its chunks; and how much of its answer the book holds.

`events.py` finds a call and checks whose it is; every event is in `pages.py`.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.events import ENDINGS
from ledger.reports.events import Place

#: A call has some ten events beside its chunks; corrections and attempts could make it more.
STEPS_MAX = 1_000

_STEPS = text("""
    SELECT version, seq, type, recorded_at, facts FROM ledger.events
    WHERE journal_id = :journal_id AND call_id = :call_id AND type NOT IN ('chunk.received', 'body.part')
    ORDER BY version LIMIT :limit
""").columns(facts=JSONB())
_CHUNKS = text("""
    SELECT count(*) AS chunks,
        coalesce(sum(coalesce(octet_length(body), (facts->>'bytes')::bigint)), 0)::bigint AS bytes,
        min(recorded_at) AS first_at, max(recorded_at) AS last_at
    FROM ledger.events WHERE journal_id = :journal_id AND call_id = :call_id AND type = 'chunk.received'
""")
_HOLDINGS = text("""
    SELECT coalesce(sum(octet_length(body)), 0)::bigint AS bytes,
        coalesce(bool_or(facts ? 'masked' OR facts ? 'withheld_bytes'), false) AS is_altered,
        coalesce(bool_or(coalesce((facts->>'decoded')::boolean, false)), false) AS is_decoded
    FROM ledger.events
    WHERE journal_id = :journal_id AND call_id = :call_id AND version > :head
      AND (type IN ('chunk.received', 'body.received') OR (type = 'body.part' AND (facts->>'of')::integer > :head))
""")


@dataclass(frozen=True, slots=True)
class Step:
    """An event of a call, but for chunks and parts of bodies."""

    version: int
    seq: int
    type: str
    recorded_at: datetime
    facts: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Chunks:
    """The chunks of a call; times None where there are none."""

    chunks: int
    bytes: int
    first_at: datetime | None
    last_at: datetime | None


@dataclass(frozen=True, slots=True)
class Holdings:
    """What the book holds of an answer. `is_altered`: secrets in it are masked, or bytes that may hold one left out.

    `is_decoded`: it is kept without the content coding that it came in.
    """

    bytes: int
    is_altered: bool
    is_decoded: bool


async def steps_of(connection: AsyncConnection, place: Place) -> list[Step]:
    """Return what happened to a call, in order; at most STEPS_MAX events."""
    rows = await connection.execute(_STEPS, {**_of(place), "limit": STEPS_MAX})
    return [Step(**{**row, "recorded_at": row["recorded_at"].astimezone(UTC)}) for row in rows.mappings()]


def ending_of(steps: list[Step]) -> Step | None:
    """Return the event that ended the call; None while it runs."""
    return next((step for step in steps if step.type in ENDINGS), None)


async def chunks_of(connection: AsyncConnection, place: Place) -> Chunks:
    """Return how many chunks a call has, of how many bytes, and when they came."""
    row = (await connection.execute(_CHUNKS, _of(place))).mappings().one()
    return Chunks(**row)


async def holdings_of(connection: AsyncConnection, place: Place, *, head: int) -> Holdings:
    """Return what the book holds of the answer whose head is the event of version `head`."""
    row = (await connection.execute(_HOLDINGS, {**_of(place), "head": head})).mappings().one()
    return Holdings(**row)


def _of(place: Place) -> dict[str, Any]:
    return {"journal_id": place.journal_id, "call_id": place.call_id}
