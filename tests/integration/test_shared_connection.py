"""A connection that many ask in turns: bounded waits, and nobody's failure is another's."""

import asyncio

import asyncpg
import pytest

from ledger.postgres.shared import SharedConnection

PID = "SELECT pg_backend_pid()"


async def _asked(shared: SharedConnection, query: str = PID) -> object:
    async with shared.turn() as connection:
        return await connection.fetchval(query)


async def test_turns_share_a_connection_until_one_fails(database_url: str) -> None:
    shared = SharedConnection(database_url, purpose="test", timeout_s=30.0, statement_timeout="30s")
    pid = await _asked(shared)
    assert await asyncio.gather(*[_asked(shared) for _ in range(5)]) == [pid] * 5
    with pytest.raises(asyncpg.DivisionByZeroError):
        await _asked(shared, "SELECT 1 / 0")
    assert await _asked(shared) != pid
    shared.close()


async def test_wait_for_a_turn_is_bounded_and_leaves_the_connection_to_who_has_it(database_url: str) -> None:
    shared = SharedConnection(database_url, purpose="test", timeout_s=0.3, statement_timeout="30s")
    async with shared._turn:
        with pytest.raises(TimeoutError):
            await _asked(shared)
    slow = SharedConnection(database_url, purpose="test", timeout_s=30.0, statement_timeout="30s")
    async with slow.turn() as connection:
        waiting = asyncio.create_task(_asked(slow))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await connection.fetchval("SELECT 1") == 1
    shared.close()
    slow.close()


async def test_turn_that_takes_too_long_is_given_up_with_its_connection(database_url: str) -> None:
    shared = SharedConnection(database_url, purpose="test", timeout_s=5.0, statement_timeout="30s")
    pid = await _asked(shared)
    shared._timeout_s = 0.2
    with pytest.raises(TimeoutError):
        await _asked(shared, "SELECT pg_sleep(30)")
    shared._timeout_s = 30.0
    assert await _asked(shared) != pid
    shared.close()
