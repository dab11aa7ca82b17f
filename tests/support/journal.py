"""What the tests of the journal share: entries by the handful, journals opened and looked into."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import asyncpg

from ledger import chain
from ledger.encoding import encode_facts
from ledger.events import JOURNAL_SEALED, TERMINALS, Event
from ledger.facts import cost_recorded, dimensions
from ledger.journal.call_log import CallLog
from ledger.journal.identity import writer_identity
from ledger.journal.journals import Journals, JournalSettings
from ledger.journal.open_calls import OpenAttempt, OpenCall
from ledger.journal.outbox import Outbox
from ledger.journal.rows import Entry
from ledger.money.cost import Charge, no_charge, unknown_cost

JOURNAL = UUID("0193a5b2-0000-7000-8000-00000000000a")
CALL = UUID("0193a5b2-0000-7000-8000-00000000000b")
NOW_US = 1_795_339_800_123_456

RECEIVED: dict[str, Any] = {
    "method": "POST", "path": "/v1/responses", "query": "", "headers": [["content-type", "application/json"]],
    "key_id": "key-1", "key_alias": "", "org": "", "team": "red", "user": "", "end_user": "alice", "tags": ["a"],
    "model": "gpt-5", "stream": True, "client_address": "10.0.0.1", "client_retry": None, "body_bytes": 2,
    "content_encoding": "", "parts": 1,
}  # fmt: skip


class Purse:
    """An owner of entries that counts what it has been given back."""

    def __init__(self) -> None:
        self.given_back = 0

    def acknowledged(self, size: int) -> None:
        """Count."""
        self.given_back += size


def put(
    outbox: Outbox, count: int = 1, *, body: bytes | None = b"data: x\n\n", owner: Purse | None = None
) -> list[Entry]:
    """Append `count` chunks of one call."""
    first = outbox.last_seq
    return [
        outbox.append(CALL.bytes, first + number, b"chunk.received", b"{}", body, NOW_US + first + number, owner)
        for number in range(count)
    ]


def started(attempt: int) -> dict[str, Any]:
    """Return the facts of an attempt's start."""
    return {
        "attempt": attempt, "kind": "first" if attempt == 1 else "retry", "deployment": "eu", "model": "gpt-5",
        "upstream_model": "gpt-5", "url": "http://upstream/v1/responses", "sent_sha256": "00" * 32, "sent_bytes": 2,
        "settles": "answer", "held": [],
    }  # fmt: skip


def ended(attempt: int) -> dict[str, Any]:
    """Return the facts of a terminal event, as far as recovery looks at them."""
    return {"attempt": attempt, "http_status": 200, "attempts": attempt, "error": None}


def cost(log: CallLog, attempt: int, *, final: bool) -> dict[str, Any]:
    """Return the facts of an attempt's cost."""
    at = datetime.fromtimestamp(log.began_us / 1e6, UTC)
    dims = dimensions(RECEIVED, journal_id=log.journal_id, received_at=at, deployment="eu")
    return cost_recorded(no_charge("a test"), attempt=attempt, final=final, dims=dims)


def unknown(_call: OpenCall, _attempt: OpenAttempt) -> Charge:
    """Estimate nothing."""
    return unknown_cost("its writer died")


@asynccontextmanager
async def journals_at(
    url: str, settings: JournalSettings | None = None, *, close_s: float = 10.0, identity: dict[str, Any] | None = None
) -> AsyncGenerator[Journals]:
    """Open a process's journals for a test, and close them."""
    journals = Journals(url, {**writer_identity("test"), **(identity or {})}, settings)
    await journals.open()
    try:
        yield journals
    finally:
        await journals.close(close_s)


@dataclass(frozen=True)
class Book:
    """All events of a database, in order of journal and seq."""

    events: list[Event]

    def of(self, journal_id: UUID) -> list[Event]:
        """Return one journal's events."""
        return [event for event in self.events if event.journal_id == journal_id]

    def of_call(self, call_id: UUID) -> list[Event]:
        """Return one call's events, in order of version."""
        return sorted(
            (event for event in self.events if event.call_id == call_id), key=lambda event: event.version or 0
        )

    def journals(self) -> list[UUID]:
        """Return the journals that hold an event, in order."""
        return sorted({event.journal_id for event in self.events})


async def read_book(url: str, journal_id: UUID | None = None) -> Book:
    """Read every event, or those of one journal."""
    connection = await asyncpg.connect(url)
    try:
        rows = await connection.fetch(
            "SELECT * FROM ledger.events WHERE $1::uuid IS NULL OR journal_id = $1 ORDER BY journal_id, seq", journal_id
        )
    finally:
        await connection.close()
    return Book([Event(**{**dict(row), "facts": json.loads(row["facts"])}) for row in rows])


def assert_sound(book: Book) -> None:
    """Assert what holds of every book at all times: no gap, an unbroken chain, nothing twice or after a seal."""
    for journal_id in book.journals():
        events = book.of(journal_id)
        assert [event.seq for event in events] == list(range(1, len(events) + 1)), f"a gap in {journal_id}"
        assert_chained(events)
        kinds = [event.type for event in events]
        assert JOURNAL_SEALED not in kinds[:-1], f"events after the seal of {journal_id}"
    for call_id in {event.call_id for event in book.events if event.call_id is not None}:
        assert_call_sound(book.of_call(call_id))


def assert_call_sound(events: list[Event]) -> None:
    """Assert one journal, versions from 0, one terminal at most, one cost at most for each attempt."""
    own = [event for event in events if event.type != "cost.corrected"]
    assert [event.version for event in own] == list(range(len(own))), f"versions of {own[0].call_id}"
    assert len({event.journal_id for event in own}) == 1
    assert sum(event.type in TERMINALS for event in own) <= 1, f"two terminals of {own[0].call_id}"
    costs = [event.facts["attempt"] for event in own if event.type == "cost.recorded"]
    assert len(costs) == len(set(costs)), f"an attempt of {own[0].call_id} was charged twice"


def assert_closed(events: list[Event]) -> None:
    """Assert that a call has its one terminal and a cost for each attempt, of which one at most is the final one."""
    attempts = [event.facts["attempt"] for event in events if event.type == "attempt.started"]
    costs = [event.facts for event in events if event.type == "cost.recorded"]
    assert sum(event.type in TERMINALS for event in events) == 1, f"terminals of {events[0].call_id}"
    assert sorted(attempts) == sorted(cost["attempt"] for cost in costs), f"costs of {events[0].call_id}"
    assert sum(cost["final"] for cost in costs) <= 1


def assert_chained(events: list[Event]) -> None:
    """Assert that each chain value follows from the one before it and the leaves between; the last event has one."""
    value, leaves = chain.START, list[bytes]()
    for event in events:
        leaves.append(chain.leaf_of(event))
        if event.chain is not None:
            value = chain.link(value, leaves)
            assert event.chain == value, f"the chain breaks at {event.journal_id} {event.seq}"
            leaves.clear()
    assert not leaves, "events behind the last chain value"


def split_copy(data: bytes) -> Iterator[list[bytes | None]]:
    """Read the binary format of COPY, written from its documentation: yield each row's fields."""
    assert data.startswith(b"PGCOPY\n\xff\r\n\0" + bytes(8))
    at = 19
    while True:
        count = int.from_bytes(data[at : at + 2], "big", signed=True)
        at += 2
        if count == -1:
            assert at == len(data)
            return
        fields: list[bytes | None] = []
        for _ in range(count):
            length = int.from_bytes(data[at : at + 4], "big", signed=True)
            at += 4
            fields.append(None if length == -1 else data[at : at + length])
            at += max(0, length)
        yield fields


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something holds that nobody announces; the test's own timeout bounds it."""
    while not condition():  # noqa: ASYNC110 - there is no event to wait for: that is why this exists
        await asyncio.sleep(0.005)


def facts_of(value: Any) -> bytes:
    """Return encoded facts with one value."""
    return encode_facts({"value": value})
