"""One call: its events, and its answer's bytes as they were recorded."""

from collections.abc import AsyncIterator
from datetime import timedelta

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.postgres.connect import engine
from ledger.projections.projector import Projector
from ledger.reports.events import Place, answer, answer_bytes, corrections_of, events_of, find
from tests.support.book import Book, Call, open_journals, write


@pytest.fixture
async def writer(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[AsyncConnection]:
    reports = engine(database_url, purpose="test")
    async with reports.connect() as connection:
        yield connection
    await reports.dispose()


async def _call(writer: asyncpg.Connection, *steps: str) -> tuple[Book, Call, Place]:
    first, second = await open_journals(writer, 2)
    book = Book([first, second], 1)
    call = book.receive(first)
    call.steps = list(steps)
    while call.steps:
        book.advance(call)
    if call.states.get(call.attempt, "billed") != "billed":
        book.correct(call, second)
    await write(writer, book.all_events())
    return book, call, Place(first, call.call_id)


async def test_replay_of_a_stream_after_a_retry_is_the_last_attempts_chunks(
    writer: asyncpg.Connection, connection: AsyncConnection
) -> None:
    book, call, place = await _call(
        writer, "start", "answer", "chunk", "fail", "start", "answer", "chunk", "chunk", "chunk", "end:completed"
    )
    chunks = [event for event in book.events[place.journal_id] if event.type == "chunk.received"][1:]
    head = await answer(connection, place, scope=call.dims["key"])
    assert head is not None
    assert (head.status, head.headers) == (200, (("content-type", "text/event-stream"),))
    pieces = [piece async for piece in answer_bytes(connection, place, head)]
    assert [data for _, data in pieces] == [event.body for event in chunks]
    answered = [event for event in book.events[place.journal_id] if event.type == "attempt.answered"][-1].recorded_at
    assert [offset for offset, _ in pieces] == [
        (event.recorded_at - answered) // timedelta(microseconds=1) for event in chunks
    ]


async def test_replay_of_a_plain_answer_in_parts_is_its_bytes_and_none_of_the_requests(
    writer: asyncpg.Connection, connection: AsyncConnection
) -> None:
    first, _ = await open_journals(writer, 2)
    book = Book([first], 1)
    call = book.receive(first)
    book.add(first, "body.part", {"of": 0, "part": 2, "parts": 2}, call, b"the request's rest")
    call.steps = ["start", "answer", "body", "end:completed"]
    while call.steps:
        book.advance(call)
    await write(writer, book.all_events())
    place = Place(first, call.call_id)
    head = await answer(connection, place)
    assert head is not None
    assert b"".join([data async for _, data in answer_bytes(connection, place, head)]) == b'{"id":"x"}'


async def test_answer_of_a_rejected_call_is_the_proxys_refusal(
    writer: asyncpg.Connection, connection: AsyncConnection
) -> None:
    _, _, place = await _call(writer, "reject")
    head = await answer(connection, place)
    assert head is not None
    assert head.rejection is not None
    assert (head.status, head.rejection["code"]) == (404, "model_not_found")
    assert [piece async for piece in answer_bytes(connection, place, head)] == []


async def test_answer_that_has_not_come_is_none(writer: asyncpg.Connection, connection: AsyncConnection) -> None:
    _, _, place = await _call(writer, "start")
    assert await answer(connection, place) is None


async def test_call_is_found_before_it_is_folded_and_after(
    writer: asyncpg.Connection, connection: AsyncConnection, database_url: str
) -> None:
    _, call, place = await _call(writer, "start", "answer", "chunk", "end:truncated")
    other = "key-none"
    for _ in range(2):
        assert await find(connection, call.call_id) == place
        assert await find(connection, call.call_id, scope=call.dims["key"]) == place
        assert await find(connection, call.call_id, scope=other) is None
        await connection.rollback()
        projector = Projector(database_url)
        await projector.catch_up()
        await projector.close()


async def test_events_of_a_call_come_in_order_in_pages_and_only_to_its_own_key(
    writer: asyncpg.Connection, connection: AsyncConnection
) -> None:
    book, call, place = await _call(writer, "start", "answer", "chunk", "chunk", "end:truncated")
    expected = [event for event in book.events[place.journal_id] if event.call_id == call.call_id]
    first = await events_of(connection, place, limit=3)
    rest = await events_of(connection, place, after=2, scope=call.dims["key"])
    assert [(event.version, event.type, event.body) for event in [*first, *rest]] == [
        (event.version, event.type, event.body) for event in expected
    ]
    assert [event.facts for event in [*first, *rest]] == [event.facts for event in expected]
    assert {event.body for event in await events_of(connection, place, bodies=False)} == {None}
    (correction,) = await corrections_of(connection, place)
    assert (correction.type, correction.facts["revision"]) == ("cost.corrected", 2)
    other = "key-none"
    assert await events_of(connection, place, scope=other) == []
    assert await corrections_of(connection, place, scope=other) == []
    assert await answer(connection, place, scope=other) is None
    with pytest.raises(ValueError, match="From 1 to 10000 events"):
        await events_of(connection, place, limit=0)
