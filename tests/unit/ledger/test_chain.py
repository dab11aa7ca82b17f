"""The hash chain, against a second implementation written from docs/EVENTS.md alone."""

import dataclasses
from datetime import UTC, datetime
from hashlib import sha256
from typing import Any
from uuid import UUID

import pytest

from ledger import chain
from ledger.encoding import canonical
from ledger.events import Event

EVENT = Event(
    journal_id=UUID("0193a5b2-0000-7000-8000-000000000001"),
    seq=7,
    call_id=UUID("0193a5b2-0000-7000-8000-000000000002"),
    version=3,
    type="chunk.received",
    schema=1,
    recorded_at=datetime(2026, 11, 22, 9, 30, 0, 123456, tzinfo=UTC),
    facts={},
    body=b"data: {}\n\n",
    chain=None,
)


def leaf_by_the_book(event: Event) -> bytes:
    """Concatenate the fields as the table in docs/EVENTS.md lists them."""
    since = event.recorded_at - datetime(1970, 1, 1, tzinfo=UTC)
    recorded_us = (since.days * 86_400 + since.seconds) * 1_000_000 + since.microseconds
    name = event.type.encode()
    return sha256(
        b"rl/1"
        + event.journal_id.bytes
        + event.seq.to_bytes(8, "big", signed=True)
        + (bytes(16) if event.call_id is None else event.call_id.bytes)
        + (-1 if event.version is None else event.version).to_bytes(4, "big", signed=True)
        + event.schema.to_bytes(2, "big")
        + recorded_us.to_bytes(8, "big", signed=True)
        + sha256(canonical(event.facts)).digest()
        + (bytes(32) if event.body is None else sha256(event.body).digest())
        + len(name).to_bytes(2, "big")
        + name
    ).digest()


CHANGES: list[dict[str, Any]] = [
    {},
    {"call_id": None, "version": None},
    {"body": None},
    {"body": b""},
    {"facts": {"b": 1, "a": "ü"}},
    {"recorded_at": datetime(1969, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)},
    {"recorded_at": datetime(9999, 12, 31, 23, 59, 59, 999_999, tzinfo=UTC)},
    {"type": "key.issued"},
    {"schema": 2},
    {"seq": 8},
    {"version": 4},
]


@pytest.mark.parametrize("change", CHANGES)
def test_leaf_of_an_event_is_what_the_documentation_says(change: dict[str, Any]) -> None:
    event = dataclasses.replace(EVENT, **change)
    assert chain.leaf_of(event) == leaf_by_the_book(event)


def test_leaf_of_events_that_differ_in_one_column_differs() -> None:
    leaves = {chain.leaf_of(dataclasses.replace(EVENT, **change)) for change in CHANGES}
    assert len(leaves) == len(CHANGES)


def test_leaf_of_an_event_does_not_depend_on_its_chain() -> None:
    assert chain.leaf_of(dataclasses.replace(EVENT, chain=bytes(32))) == chain.leaf_of(EVENT)


def test_link_of_leaves_hashes_them_behind_the_value_before() -> None:
    assert chain.link(chain.START, [b"a" * 32, b"b" * 32]) == sha256(bytes(32) + b"a" * 32 + b"b" * 32).digest()
