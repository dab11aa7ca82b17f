"""Reads a journal's events in order, a page at a time, without their bodies.

Postgres hashes the bodies where they lie: what a leaf of the chain needs of a body is its SHA-256. So memory stays
small whatever the book holds. A journal is read in one snapshot, since its writer may be appending.
"""

import json
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, cast
from uuid import UUID

import asyncpg

#: Facts are at most 16 KiB, so a page is at most some 16 MiB.
PAGE_EVENTS: Final = 1_000

_EVENTS = """
SELECT seq, call_id, version, type, schema, recorded_at, facts::text AS facts, sha256(body) AS body_sha256,
    octet_length(body) AS body_bytes, chain
FROM ledger.events WHERE journal_id = $1 ORDER BY seq
"""
_NO_FACTS: Final = "{}"


@dataclass(frozen=True, slots=True)
class Stored:
    """An event as it is stored; `facts` is None where they are no JSON object that can be read."""

    journal_id: UUID
    seq: int
    call_id: UUID | None
    version: int | None
    type: str
    schema: int
    recorded_at: datetime
    facts: dict[str, Any] | None
    body_sha256: bytes | None
    body_bytes: int | None
    chain: bytes | None

    def number(self, name: str) -> int | None:
        """Return a fact that is an integer; None where it is absent or something else."""
        value = None if self.facts is None else self.facts.get(name)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def texts(self, name: str, member: str) -> list[str]:
        """Return the texts named `member` of the objects in the list that is fact `name`."""
        values = None if self.facts is None else self.facts.get(name)
        objects = cast("list[Any]", values) if isinstance(values, list) else []
        texts = [cast("dict[str, Any]", each).get(member) for each in objects if isinstance(each, dict)]
        return [text for text in texts if isinstance(text, str)]

    def text(self, name: str) -> str | None:
        """Return a fact that is a text; None where it is absent or something else."""
        value = None if self.facts is None else self.facts.get(name)
        return value if isinstance(value, str) else None


async def pages(connection: asyncpg.Connection, journal_id: UUID) -> AsyncGenerator[list[Stored]]:
    """Yield a journal's events in order of `seq`, at most PAGE_EVENTS at a time, as of one moment."""
    async with connection.transaction(readonly=True):
        cursor = await connection.cursor(_EVENTS, journal_id)
        while rows := await cursor.fetch(PAGE_EVENTS):
            yield [_stored(journal_id, row) for row in rows]


def _stored(journal_id: UUID, row: asyncpg.Record) -> Stored:
    seq, call_id, version, type_, schema, recorded_at, facts, body_sha256, body_bytes, chain = row
    return Stored(
        journal_id,
        seq,
        call_id,
        version,
        type_,
        schema,
        recorded_at,
        {} if facts == _NO_FACTS else _facts(facts),
        body_sha256,
        body_bytes,
        chain,
    )


def _facts(text: str) -> dict[str, Any] | None:
    try:
        facts = json.loads(text)
    except (ValueError, RecursionError):
        # Postgres holds numbers of any length, and any depth; what was recorded here has neither.
        return None
    return facts if isinstance(facts, dict) else None
