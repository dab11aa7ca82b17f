"""One call's log: large bodies in parts, its share of the buffer, what it says when it is too late."""

import asyncio
import random

import pytest
import uuid_utils.compat

from ledger import events
from ledger.errors import FencedError
from ledger.events import PART_BYTES_MAX
from ledger.journal.journals import JournalSettings
from ledger.journal.recovery import take_over
from tests.support.journal import RECEIVED, assert_sound, eventually, journals_at, read_book, unknown
from tests.support.journal_proxy import line_to

MEBIBYTE = 1024 * 1024


async def test_append_large_of_sixty_megabytes_lets_others_in_between_its_parts(database_url: str) -> None:
    large = random.Random(1).randbytes(60_000_000)
    async with journals_at(database_url) as journals:
        log, other = journals.begin_call(uuid_utils.compat.uuid7()), journals.begin_call(uuid_utils.compat.uuid7())
        upload = asyncio.create_task(log.append_large(events.CALL_RECEIVED, RECEIVED, large))
        other.append(events.CALL_RECEIVED, RECEIVED, b"{}")
        while not upload.done():
            other.chunk(b"data: 1\n\n")
            await other.durable()
        await log.durable()
        assert (log.pending_bytes, journals.pending_bytes) == (0, 0)
        log.close()
        other.close()
    book = await read_book(database_url)
    assert_sound(book)
    head, *parts = book.of_call(log.call_id)
    assert (head.facts["parts"], head.facts["body_bytes"]) == (1 + len(parts), 60_000_000)
    assert [part.facts for part in parts] == [{"of": 0, "part": number} for number in range(2, len(parts) + 2)]
    assert b"".join(part.body or b"" for part in [head, *parts]) == large
    # Between any two parts there is room for at least one flush of others'.
    own = [event.seq for event in [head, *parts]]
    between = [event.seq for event in book.of_call(other.call_id)]
    assert all(any(before < seq < after for seq in between) for before, after in zip(own, own[2:], strict=False))


@pytest.mark.parametrize("size", [0, 1, PART_BYTES_MAX - 1, PART_BYTES_MAX, PART_BYTES_MAX + 1, 3 * PART_BYTES_MAX])
async def test_append_large_at_the_edges_of_a_part_comes_back_whole(database_url: str, size: int) -> None:
    body = random.Random(size).randbytes(size)
    async with journals_at(database_url) as journals:
        log = journals.begin_call(uuid_utils.compat.uuid7())
        log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
        await log.append_large(events.BODY_RECEIVED, {"attempt": 1}, body)
        await log.durable()
        log.close()
    _, head, *parts = (await read_book(database_url)).of_call(log.call_id)
    assert b"".join(event.body or b"" for event in [head, *parts]) == body
    assert head.facts["parts"] == len(parts) + 1 == max(1, -(-size // PART_BYTES_MAX))
    assert all(part.facts["of"] == head.version for part in parts)


async def test_call_beyond_its_share_waits_for_room_and_gets_it(database_url: str) -> None:
    settings = JournalSettings(call_buffer_bytes=10_000)
    async with line_to(database_url) as (line, url), journals_at(url, settings) as journals:
        log = journals.begin_call(uuid_utils.compat.uuid7())
        log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
        await log.durable()
        line.is_frozen_in_copy = True
        log.chunk(bytes(5_000))
        await line.frozen.wait()
        log.chunk(bytes(6_000))
        assert not log.has_room
        assert not await log.wait_for_room(0.05)
        line.is_down = False
        line.close()
        assert await log.wait_for_room(10)
        assert log.has_room
        await log.durable()
        assert log.pending_bytes == 0
        log.close()
    assert_sound(await read_book(database_url))


async def test_waiters_that_gave_up_leave_nothing_behind(database_url: str) -> None:
    async with line_to(database_url) as (line, url), journals_at(url, JournalSettings(call_buffer_bytes=1)) as journals:
        log = journals.begin_call(uuid_utils.compat.uuid7())
        line.is_frozen_in_copy = True
        log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
        await line.frozen.wait()
        for _ in range(50):
            assert not await log.wait_for(0.001)
            assert not await log.wait_for_room(0.001)
        writer = journals.current
        assert (len(writer._waiters), len(writer._space)) == (0, 0)
        line.is_down = False
        line.close()
        await log.durable()
        log.close()


async def test_call_whose_journal_was_taken_over_is_told_and_freed(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        former = journals.current.journal_id
        log = journals.begin_call(uuid_utils.compat.uuid7())
        log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
        await log.durable()
        await take_over(database_url, former, unknown)
        log.chunk(b"data: 1\n\n")
        with pytest.raises(FencedError, match="was taken over at seq 4"):
            await log.durable()
        with pytest.raises(FencedError):
            log.chunk(b"data: 2\n\n")
        assert await log.wait_for_room(1)
        assert log.pending_bytes == 0
        assert not log.is_durable
        log.close()
        await eventually(lambda: journals.current.journal_id != former)
        again = journals.begin_call(uuid_utils.compat.uuid7())
        again.append(events.CALL_RECEIVED, RECEIVED, b"{}")
        await again.durable()
        again.close()
    assert_sound(await read_book(database_url))


async def test_call_that_was_closed_twice_counts_once(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        first, second = journals.begin_call(uuid_utils.compat.uuid7()), journals.begin_call(uuid_utils.compat.uuid7())
        first.close()
        first.close()
        assert journals.current.open_calls == 1
        second.close()
