"""What goes in by binary COPY comes back equal: rows of every shape, facts of every kind."""

import dataclasses
import json
from datetime import datetime
from typing import Any
from uuid import UUID

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings

from ledger import chain
from ledger.encoding import canonical, encode_facts
from ledger.events import Event
from ledger.journal.outbox import Outbox
from ledger.journal.rows import COLUMNS, Entry
from tests.support.journal import CALL, NOW_US, read_book
from tests.support.values import FACTS, FORMS, WICKED

MEBIBYTE = 1024 * 1024

SHAPES: dict[str, tuple[bytes | None, int | None, str, dict[str, Any], bytes | None]] = {
    "a chunk": (CALL.bytes, 0, "chunk.received", {}, b"data: {}\n\n"),
    "an empty chunk": (CALL.bytes, 1, "chunk.received", {}, b""),
    "a chunk without a body": (CALL.bytes, 2, "chunk.received", {}, None),
    "a chunk with facts": (CALL.bytes, 3, "chunk.received", {"parts": 2}, b"data"),
    "no call": (None, None, "key.issued", {"actor": "ü €\U0001f600"}, None),
    "no call, with a body": (None, None, "config.loaded", {}, b"\x00\xff"),
    "an empty body": (CALL.bytes, 2**31 - 1, "call.received", {"a": [1, None, True, {"b": "c"}]}, b""),
    "a mebibyte": (CALL.bytes, 5, "body.part", {"of": 0, "part": 2}, bytes(range(256)) * (MEBIBYTE // 256)),
    "a type of other letters": (CALL.bytes, 6, "gemächt.ü", {"ключ": "значение"}, b"x"),
    "largest facts": (CALL.bytes, 7, "call.received", {"a": "x" * 16_000}, None),
}


async def copy(url: str, entries: list[Entry], journal_id: UUID) -> bytes:
    """Write entries in one flush; return its chain value."""
    outbox = Outbox(journal_id)
    outbox._queue.extend(entries)
    batch = outbox.take()
    assert batch is not None
    assert len(batch.entries) == len(entries)
    connection = await asyncpg.connect(url)
    try:
        await connection.copy_to_table(
            "events", schema_name="ledger", columns=COLUMNS, format="binary", source=memoryview(batch.data)
        )
    finally:
        await connection.close()
    return batch.chain


async def open_journal(url: str) -> UUID:
    """Open a journal without a writer."""
    connection = await asyncpg.connect(url)
    journal_id: UUID = await connection.fetchval("SELECT ledger.open_journal('{}'::jsonb, NULL, NULL)")
    await connection.close()
    return journal_id


@pytest.mark.parametrize("name", SHAPES)
async def test_row_of_every_shape_comes_back_equal(database_url: str, name: str) -> None:
    call_id, version, type_, facts, body = SHAPES[name]
    journal_id = await open_journal(database_url)
    entry = Entry(1, call_id, version, type_.encode(), encode_facts(facts), body, NOW_US, None)
    value = await copy(database_url, [entry], journal_id)
    (event,) = (await read_book(database_url)).events
    expected = Event(
        journal_id, 1, None if call_id is None else CALL, version, type_, 1, event.recorded_at, facts, body, value
    )
    assert event == expected
    assert event.recorded_at == datetime.fromisoformat("2026-11-22T09:30:00.123456+00:00")
    assert chain.link(chain.START, [chain.leaf_of(event)]) == value


async def test_rows_of_one_flush_carry_the_chain_on_the_last_only(database_url: str) -> None:
    journal_id = await open_journal(database_url)
    entries = [
        Entry(seq, call_id, version, type_.encode(), encode_facts(facts), body, NOW_US, None)
        for seq, (call_id, version, type_, facts, body) in enumerate(SHAPES.values(), 1)
        if body is None or len(body) < MEBIBYTE
    ]
    entries = [_numbered(entry, seq) for seq, entry in enumerate(entries, 1)]
    value = await copy(database_url, entries, journal_id)
    events = (await read_book(database_url)).events
    assert [event.chain for event in events] == [None] * (len(events) - 1) + [value]
    assert chain.link(chain.START, [chain.leaf_of(event) for event in events]) == value


async def test_facts_of_wicked_values_are_taken_by_jsonb_and_come_back_to_the_same_bytes(database_url: str) -> None:
    values = [*WICKED.values(), *(value for value, _ in FORMS), list(WICKED.values())]
    encoded = [encode_facts({"wicked": value, "kept": 1}) for value in values]
    await _roundtrip(database_url, encoded)


async def test_facts_of_anything_are_taken_in_one_copy_and_come_back_to_the_same_bytes(database_url: str) -> None:
    drawn: list[bytes] = []

    @settings(max_examples=200, database=None, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(FACTS)
    def draw(facts: dict[str, Any]) -> None:
        drawn.append(encode_facts(facts))

    draw()
    assert len(drawn) >= 200
    await _roundtrip(database_url, drawn)


async def _roundtrip(url: str, encoded: list[bytes]) -> None:
    journal_id = await open_journal(url)
    entries = [
        Entry(seq, CALL.bytes, seq, b"call.received", facts, None, NOW_US, None) for seq, facts in enumerate(encoded, 1)
    ]
    await copy(url, entries, journal_id)
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT facts::text AS facts FROM ledger.events ORDER BY seq")
    await connection.close()
    assert [canonical(json.loads(row["facts"])) for row in rows] == encoded


def _numbered(entry: Entry, seq: int) -> Entry:
    entry.seq = seq
    return entry


def test_shapes_cover_each_optional_column_with_and_without() -> None:
    fields = dataclasses.fields(Event)
    assert len(fields) == len(COLUMNS)
    assert {shape[0] is None for shape in SHAPES.values()} == {True, False}
    assert {shape[4] is None for shape in SHAPES.values()} == {True, False}
