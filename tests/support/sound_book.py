"""A book that `verify` must find sound: `book.py`'s random events with chain values, links, published prices, seals.

The chain is computed here from its description (ledger/chain.py's docstring), and not by the product.
"""

import hashlib
import json
import random
import struct
from typing import Any
from uuid import UUID

import asyncpg

from tests.support.book import COLUMNS, START, Book, Call, Event, open_journals, spell

_ROWS_OF_A_FLUSH = 7


def _leaf(event: Event) -> bytes:
    facts = json.dumps(event.facts, sort_keys=True, ensure_ascii=False, separators=(",", ":")).encode()
    us = round((event.recorded_at.timestamp()) * 1_000_000)
    head = struct.pack(
        "!4s16sq16siHq32s32sH",
        b"rl/1",
        event.journal_id.bytes,
        event.seq,
        bytes(16) if event.call_id is None else event.call_id.bytes,
        -1 if event.version is None else event.version,
        1,
        us,
        hashlib.sha256(facts).digest(),
        bytes(32) if event.body is None else hashlib.sha256(event.body).digest(),
        len(event.type),
    )
    return hashlib.sha256(head + event.type.encode()).digest()


def chained_rows(events: list[Event], rng: random.Random) -> list[tuple[object, ...]]:
    """Return one journal's rows for COPY, cut into flushes at random, each with its chain value."""
    rows: list[tuple[object, ...]] = []
    value, leaves, left = bytes(32), b"", 0
    for number, event in enumerate(events):
        left = left or rng.randrange(1, _ROWS_OF_A_FLUSH)
        left -= 1
        leaves += _leaf(event)
        chain = None
        if left == 0 or number == len(events) - 1:
            chain = value = hashlib.sha256(value + leaves).digest()
            leaves, left = b"", 0
        rows.append((*event.row()[:-1], chain))
    return rows


class SoundBook(Book):
    """As `Book`, but an attempt that was charged is not charged again when its journal is sealed."""

    def charge(self, call: Call, journal: UUID, state: str, usage: dict[str, int] | None, *, ends: bool = True) -> None:
        """Record revision 1 of an attempt's cost, once."""
        if call.attempt not in call.states:
            super().charge(call, journal, state, usage, ends=ends)


def draw(journals: list[UUID], seed: int, steps: int) -> SoundBook:
    """Draw a book whose costs name a published price, whose first journal is sealed with calls abandoned in it."""
    book = SoundBook(journals, seed)
    price: dict[str, Any] = {"price_id": "sha256:00", "model": "gpt-5", "tier": "default", "valid_from": spell(START)}
    price |= {"valid_to": None, "rates": {}, "source": "a test"}
    book.add(journals[0], "price.published", {"actor": "master", "revision": 1, "price": price})
    for _ in range(steps):
        book.step()
    if journals[0] not in book.sealed:
        book.receive(journals[0])
        book.seal(journals[0])
    for event in book.all_events():
        if event.type == "call.received":
            event.facts["body_bytes"] = len(event.body or b"")
    return book


async def write_sound(connection: asyncpg.Connection, book: Book) -> None:
    """Append a drawn book: each journal's opening links to places where those before it stood."""
    rng = random.Random(1)
    heads: dict[UUID, list[tuple[int, bytes]]] = {}
    for journal, events in sorted(book.events.items()):
        links = [(before, *rng.choice(places)) for before, places in sorted(heads.items())]
        events[0].facts["links"] = [[str(before), seq, chain.hex()] for before, seq, chain in links]
        rows = chained_rows(events, rng)
        heads[journal] = [(number, row[-1]) for number, row in enumerate(rows, 1) if isinstance(row[-1], bytes)]
        await connection.copy_records_to_table("events", schema_name="ledger", records=rows, columns=COLUMNS)
        if journal in book.sealed:
            await connection.execute(
                "UPDATE ledger.journals SET sealed_at = now(), sealed_seq = $2 WHERE journal_id = $1",
                journal,
                len(events),
            )


async def make_sound_book(connection: asyncpg.Connection, seed: int, steps: int = 300, journals: int = 3) -> Book:
    """Open journals, draw a book for them and append it; the projections are not folded yet."""
    book = draw(await open_journals(connection, journals), seed, steps)
    await write_sound(connection, book)
    return book


async def tamper(connection: asyncpg.Connection, statement: str, *arguments: object) -> None:
    """Change events as who holds the superuser's URL could: without the guards, which stand again afterwards."""
    tables = await connection.fetch(
        "SELECT c.oid::regclass::text AS name FROM pg_class c LEFT JOIN pg_inherits i ON i.inhrelid = c.oid"
        " WHERE c.oid = 'ledger.events'::regclass OR i.inhparent = 'ledger.events'::regclass"
    )
    for table in tables:
        await connection.execute(f"ALTER TABLE {table['name']} DISABLE TRIGGER ALL")
    done = await connection.execute(statement, *arguments)
    assert not done.endswith(" 0"), f"nothing was tampered with: {done}"
    for table in tables:
        await connection.execute(f"ALTER TABLE {table['name']} ENABLE ALWAYS TRIGGER events_append_only")
