"""The chain over any journal, however it was cut into flushes: changing anything anywhere breaks it."""

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.encoding import encode_facts
from ledger.events import Event
from ledger.journal.outbox import Outbox
from tests.support.journal import JOURNAL, NOW_US, assert_chained

#: Drawing may be slow on a busy machine, which says nothing about the chain.
UNHURRIED = settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
FACTS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 9) | st.text(max_size=3), max_size=2)
AT = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=NOW_US)


@st.composite
def journals(draw: st.DrawFn) -> list[Event]:
    """Draw a journal as it is read back after its flushes."""
    outbox = Outbox(JOURNAL)
    events: list[Event] = []
    for _ in range(draw(st.integers(1, 4))):
        for _ in range(draw(st.integers(1, 5))):
            written = encode_facts(draw(FACTS))
            # What was not storable as it was, such as a NUL, is read back as it was written.
            facts: dict[str, Any] = json.loads(written)
            call = draw(st.none() | st.uuids(version=4))
            body = draw(st.none() | st.binary(max_size=20))
            version = None if call is None else draw(st.integers(0, 9))
            entry = outbox.append(
                None if call is None else call.bytes, version, b"call.received", written, body, NOW_US, None
            )
            events.append(Event(JOURNAL, entry.seq, call, version, "call.received", 1, AT, facts, body, None))
        batch = outbox.take()
        assert batch is not None
        events[-1] = dataclasses.replace(events[-1], chain=outbox.acknowledge().chain)
    return events


CHANGES: list[dict[str, Any]] = [
    {"journal_id": UUID(int=9)},
    {"seq": 99},
    {"call_id": UUID(int=9), "version": 77},
    {"type": "call.rejected"},
    {"schema": 7},
    {"recorded_at": AT + timedelta(microseconds=1)},
    {"facts": {"changed": True}},
    {"body": b"changed, and longer than twenty bytes"},
]


@UNHURRIED
@given(journals())
def test_chain_of_what_was_written_checks(events: list[Event]) -> None:
    assert_chained(events)


@UNHURRIED
@given(journals(), st.data())
def test_chain_of_a_changed_event_breaks(events: list[Event], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(events) - 1))
    events[place] = dataclasses.replace(events[place], **data.draw(st.sampled_from(CHANGES)))
    with pytest.raises(AssertionError, match="the chain breaks"):
        assert_chained(events)


@UNHURRIED
@given(journals(), st.data())
def test_chain_without_one_event_or_with_one_twice_breaks(events: list[Event], data: st.DataObject) -> None:
    place = data.draw(st.integers(0, len(events) - 1))
    changed = events[:place] + (events[place + 1 :] if data.draw(st.booleans()) else [events[place], *events[place:]])
    if events[place].chain is not None and place == len(events) - 1 and changed == events[:place]:
        return  # a cut tail that ends with a chain value is found by comparing with what was kept elsewhere
    with pytest.raises(AssertionError):
        assert_chained(changed)


def test_chain_of_two_journals_with_the_same_events_differs() -> None:
    values: list[bytes] = []
    for journal_id in (JOURNAL, UUID(int=JOURNAL.int + 1)):
        outbox = Outbox(journal_id)
        outbox.append(None, None, b"config.loaded", b"{}", None, NOW_US, None)
        batch = outbox.take()
        assert batch is not None
        values.append(batch.chain)
    assert values[0] != values[1]
