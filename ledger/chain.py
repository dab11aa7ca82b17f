"""The hash chain over a journal, so that a changed, removed or inserted event is found.

The last event of each flush carries SHA-256(previous chain || leaf || leaf ...). A leaf is SHA-256 over a fixed
encoding of the event's columns in which facts and body stand as their own SHA-256: a body may be dropped by retention
and the chain still checks. Pure; `verify` computes the same from what Postgres gives back.
"""

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from struct import Struct
from typing import Final
from uuid import UUID

from ledger.encoding import canonical
from ledger.events import Event

#: What the first flush of a journal hangs on.
START: Final = bytes(32)

# tag, journal_id, seq, call_id, version, schema, microseconds since 1970, SHA-256 of facts, of body, type length
_LEAF: Final = Struct("!4s16sq16siHq32s32sH")
_TAG: Final = b"rl/1"
_NO_CALL: Final = bytes(16)
_NO_BODY: Final = bytes(32)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


def leaf(
    journal_id: bytes,
    seq: int,
    call_id: bytes | None,
    version: int | None,
    type_: bytes,
    schema: int,
    recorded_us: int,
    facts_sha256: bytes,
    body: bytes | None,
) -> bytes:
    """Return the 32-byte leaf of one event; ids as their 16 bytes, the time in microseconds since 1970 UTC."""
    body_sha256 = None if body is None else sha256(body).digest()
    return leaf_of_hashes(journal_id, seq, call_id, version, type_, schema, recorded_us, facts_sha256, body_sha256)


def leaf_of_hashes(
    journal_id: bytes,
    seq: int,
    call_id: bytes | None,
    version: int | None,
    type_: bytes,
    schema: int,
    recorded_us: int,
    facts_sha256: bytes,
    body_sha256: bytes | None,
) -> bytes:
    """Return the same as `leaf` where only the body's SHA-256 is at hand."""
    return sha256(
        _LEAF.pack(
            _TAG,
            journal_id,
            seq,
            _NO_CALL if call_id is None else call_id,
            -1 if version is None else version,
            schema,
            recorded_us,
            facts_sha256,
            _NO_BODY if body_sha256 is None else body_sha256,
            len(type_),
        )
        + type_
    ).digest()


def link(previous: bytes, leaves: Iterable[bytes]) -> bytes:
    """Return the chain value of a flush from the one before it and the flush's leaves in order."""
    return sha256(previous + b"".join(leaves)).digest()


def leaf_of(event: Event) -> bytes:
    """Return the leaf of an event that was read back."""
    # In whole microseconds: a float of seconds is exact in our days, but not in every year that Postgres holds.
    recorded_us = (event.recorded_at - _EPOCH) // _MICROSECOND
    return leaf(
        event.journal_id.bytes,
        event.seq,
        _bytes(event.call_id),
        event.version,
        event.type.encode(),
        event.schema,
        recorded_us,
        sha256(canonical(event.facts)).digest(),
        event.body,
    )


def _bytes(identifier: UUID | None) -> bytes | None:
    return None if identifier is None else identifier.bytes
