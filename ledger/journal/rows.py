"""Events on their way to Postgres: an entry of the buffer, and its row in the binary format of COPY.

Written by hand because it is the hottest code of the project: a chunk's row is one `Struct.pack` and one hash. The
format is described under "Binary Format" of COPY in Postgres' documentation.
"""

from hashlib import sha256
from struct import Struct
from typing import Final, Protocol

from ledger import chain
from ledger.events import CHUNK_RECEIVED, SCHEMA

COLUMNS: Final = (
    "journal_id",
    "seq",
    "call_id",
    "version",
    "type",
    "schema",
    "recorded_at",
    "facts",
    "body",
    "chain",
)
HEADER: Final = b"PGCOPY\n\xff\r\n\0" + bytes(8)
TRAILER: Final = b"\xff\xff"

#: Bytes of a row beside its facts and body, as the buffer's bounds count it.
ROW_OVERHEAD_BYTES: Final = 160

_POSTGRES_EPOCH_US: Final = 946_684_800_000_000  # 2000-01-01 in microseconds since 1970
_CALL_HEAD: Final = Struct("!hi16siqi16siii")  # field count, journal_id, seq, call_id, version, length of the type
_HEAD: Final = Struct("!hi16siqiii")  # the same without a call: two NULLs
_MIDDLE: Final = Struct("!ihiqib")  # schema, recorded_at, length of the facts, jsonb's version byte
_LENGTH: Final = Struct("!i")
_NULL: Final = b"\xff\xff\xff\xff"
_CHAIN_LENGTH: Final = _LENGTH.pack(32)

EMPTY_FACTS: Final = b"{}"
_EMPTY_FACTS_SHA256: Final = sha256(EMPTY_FACTS).digest()
_CHUNK_TYPE: Final = CHUNK_RECEIVED.encode()
_CHUNK: Final = Struct("!hi16siqi16siii14sihiqi3si")


class Owner(Protocol):
    """Whoever appended an entry and is told when it is durable; a call's log."""

    def acknowledged(self, size: int) -> None:
        """Note that `size` bytes of the owner's are durable."""
        ...


class Entry:
    """One event in the buffer: everything but its journal, its chain and its row."""

    __slots__ = ("body", "call_id", "facts", "is_glued", "owner", "recorded_us", "seq", "size", "type", "version")

    def __init__(
        self,
        seq: int,
        call_id: bytes | None,
        version: int | None,
        type_: bytes,
        facts: bytes,
        body: bytes | None,
        recorded_us: int,
        owner: Owner | None,
    ) -> None:
        self.seq = seq
        self.call_id = call_id
        self.version = version
        self.type = type_
        self.facts = facts
        self.body = body
        self.recorded_us = recorded_us
        self.owner = owner
        #: It shares a flush with the entry after it: a terminal event and its cost are durable together.
        self.is_glued = False
        self.size = ROW_OVERHEAD_BYTES + len(facts) + (0 if body is None else len(body))


def leaf(journal_id: bytes, entry: Entry) -> bytes:
    """Return the entry's leaf in the hash chain."""
    facts = entry.facts
    return chain.leaf(
        journal_id,
        entry.seq,
        entry.call_id,
        entry.version,
        entry.type,
        SCHEMA,
        entry.recorded_us,
        _EMPTY_FACTS_SHA256 if facts is EMPTY_FACTS else sha256(facts).digest(),
        entry.body,
    )


def row(journal_id: bytes, entry: Entry) -> bytes:
    """Return the entry's row up to and without its last field, the chain."""
    call_id, body, facts = entry.call_id, entry.body, entry.facts
    recorded_at = entry.recorded_us - _POSTGRES_EPOCH_US
    if entry.type is _CHUNK_TYPE and body is not None and facts is EMPTY_FACTS:
        return (
            _CHUNK.pack(
                10, 16, journal_id, 8, entry.seq, 16, call_id, 4, entry.version, 14, _CHUNK_TYPE,
                2, SCHEMA, 8, recorded_at, 3, b"\x01{}", len(body),
            )
            + body
        )  # fmt: skip
    if call_id is None:
        head = _HEAD.pack(10, 16, journal_id, 8, entry.seq, -1, -1, len(entry.type))
    else:
        head = _CALL_HEAD.pack(10, 16, journal_id, 8, entry.seq, 16, call_id, 4, entry.version, len(entry.type))
    middle = _MIDDLE.pack(2, SCHEMA, 8, recorded_at, len(facts) + 1, 1)
    tail = _NULL if body is None else _LENGTH.pack(len(body)) + body
    return b"".join((head, entry.type, middle, facts, tail))


def chunk_type() -> bytes:
    """Return the very object by which `row` knows a chunk."""
    return _CHUNK_TYPE


def copy_data(rows: list[bytes], chain_value: bytes) -> bytes:
    """Return the data of one COPY: the rows, of which the last carries the chain."""
    return b"".join((HEADER, _NULL.join(rows), _CHAIN_LENGTH, chain_value, TRAILER))
