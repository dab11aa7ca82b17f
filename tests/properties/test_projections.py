"""Whatever the book, the order of flushes, the size of batches and the places of crashes: the folds agree."""

import asyncio
import random
from datetime import timedelta

import asyncpg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ledger.projections.catalogue import ALL
from ledger.projections.compare import compare
from ledger.projections.projector import Projector
from ledger.projections.rebuild import rebuild
from ledger.projections.roller import Roller
from tests.support import projected
from tests.support.book import START, Event, open_journals, random_book, write


async def _one_book(url: str, seed: int, batch_events: int, journals: int, events: list[Event]) -> None:
    """Append a random book to what is there, folding now and then; then everything so far must agree."""
    rng = random.Random(seed)
    connection = await asyncpg.connect(url)
    projector, roller = Projector(url, batch_events=batch_events), Roller(url)
    try:
        # Some examples share a day that was rolled up before.
        start = START - timedelta(days=rng.randrange(2, 50))
        book = random_book(await open_journals(connection, journals), seed, 120, start)
        events += book.all_events()
        left = [list(part) for part in book.events.values()]
        while left := [part for part in left if part]:
            part = rng.choice(left)
            count = rng.randrange(1, 30)
            await write(connection, part[:count])
            del part[:count]
            if rng.random() < 0.3:
                await projector.fold(rng.choice(ALL))
            if rng.random() < 0.1:
                await projector.close()
            if rng.random() < 0.1:
                await roller.catch_up()
        await projector.catch_up()
        assert await projected.rollup_differences(connection) == []
        await roller.catch_up()
        assert await connection.fetchval("SELECT bool_and(is_current) FROM ledger.spend_rolled WHERE grain = 'day'")
        assert await projected.rollup_differences(connection) == []
        assert await projected.differences(connection, events) == []
        assert await projected.totals_agree(connection)
    finally:
        await projector.close()
        await connection.close()


@pytest.mark.timeout(240)
def test_projections_of_any_book_equal_plain_fold_and_rebuild(database_url: str) -> None:
    """The book grows from example to example: journals cannot be deleted, which is as it should be."""
    events: list[Event] = []

    @settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
    @given(st.integers(0, 2**32), st.sampled_from([1, 3, 10, 50, 2000]), st.integers(1, 4))
    def any_book(seed: int, batch_events: int, journals: int) -> None:
        asyncio.run(_one_book(database_url, seed, batch_events, journals, events))

    any_book()

    async def rebuilt() -> list[str]:
        await rebuild(database_url)
        connection = await asyncpg.connect(database_url)
        await Roller(database_url).catch_up()
        assert await connection.fetchval("SELECT bool_or(is_current) FROM ledger.call_rolled")
        found = await projected.differences(connection, events) + await projected.rollup_differences(connection)
        found += [str(each) for projection in ALL for each in await compare(database_url, projection.name)]
        await connection.close()
        return found

    assert asyncio.run(rebuilt()) == []
