"""A rebuild beside the live tables: readers never see half of it, and nothing that hangs on the tables is lost."""

import asyncio
from collections.abc import AsyncIterator

import asyncpg
import pytest

from ledger.projections import rebuild as rebuild_module
from ledger.projections.catalogue import ALL
from ledger.projections.compare import compare
from ledger.projections.definition import Projection
from ledger.projections.projector import Projector
from ledger.projections.rebuild import SCHEMA, RebuildError, rebuild
from ledger.projections.spend import SPEND
from tests.support import projected
from tests.support.book import Book, open_journals, random_book, write


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


@pytest.fixture
async def projector(database_url: str) -> AsyncIterator[Projector]:
    projector = Projector(database_url, poll_s=0.005)
    yield projector
    await projector.close()


async def _book(connection: asyncpg.Connection, projector: Projector, steps: int = 200) -> Book:
    book = random_book(await open_journals(connection, 2), 21, steps)
    await write(connection, book.all_events())
    await projector.catch_up()
    return book


#: Everything about a table and what hangs on it, but its number.
_SHAPE = """
SELECT c.relname::text AS name, c.relkind::text AS kind, obj_description(c.oid, 'pg_class') AS about,
    (SELECT array_agg(a.attname || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' '
        || coalesce(col_description(c.oid, a.attnum), '-') || ' ' || coalesce(pg_get_expr(d.adbin, d.adrelid), '-')
        || ' ' || a.attcollation ORDER BY a.attnum)
     FROM pg_attribute a LEFT JOIN pg_attrdef d ON d.adrelid = c.oid AND d.adnum = a.attnum
     WHERE a.attrelid = c.oid AND a.attnum > 0) AS columns,
    (SELECT array_agg(conname || ' ' || pg_get_constraintdef(oid) || ' ' || coalesce(obj_description(oid), '-')
        ORDER BY conname) FROM pg_constraint WHERE conrelid = c.oid) AS constraints,
    (SELECT array_agg(pg_get_indexdef(indexrelid) || ' ' || coalesce(obj_description(indexrelid, 'pg_class'), '-')
        ORDER BY indexrelid::regclass::text) FROM pg_index WHERE indrelid = c.oid) AS indexes,
    (SELECT array_agg(x::text ORDER BY x::text) FROM unnest(c.relacl) x) AS grants, c.relowner::regrole::text AS owner,
    c.reloptions AS options
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname IN ('ledger', 'reporting') AND c.relkind IN ('r', 'v') ORDER BY n.nspname, c.relname
"""


async def test_rebuild_leaves_definitions_comments_grants_and_views_as_they_were(
    database_url: str, connection: asyncpg.Connection, projector: Projector
) -> None:
    await _book(connection, projector)
    await connection.execute("CREATE VIEW public.mine AS SELECT key_id, calls FROM ledger.key_totals")
    await connection.execute("CREATE VIEW public.upon AS SELECT count(*) AS n FROM reporting.calls")
    before = [tuple(row) for row in await connection.fetch(_SHAPE)]
    oids = "SELECT 'reporting.calls'::regclass::oid, 'public.mine'::regclass::oid"
    identity, table = await connection.fetchrow(oids), await connection.fetchval("SELECT 'ledger.calls'::regclass::oid")
    count = await connection.fetchval("SELECT n FROM public.upon")
    done: list[tuple[int, int]] = []
    await rebuild(database_url, progress=lambda events, total: done.append((events, total)))
    assert [tuple(row) for row in await connection.fetch(_SHAPE)] == before
    assert await connection.fetchrow(oids) == identity
    assert await connection.fetchval("SELECT 'ledger.calls'::regclass::oid") != table
    assert count
    assert await connection.fetchval("SELECT n FROM public.upon") == count
    assert await connection.fetchval("SELECT sum(calls) > 0 FROM public.mine")
    assert await connection.fetchval("SELECT to_regnamespace($1)", SCHEMA) is None
    assert done[0][0] == 0
    assert done[-1][0] == done[-1][1] > 0


async def test_rebuild_under_readers_and_writers_never_shows_half_a_table(
    database_url: str, connection: asyncpg.Connection, projector: Projector
) -> None:
    journals = await open_journals(connection, 2)
    book = random_book(journals, 22, 900)
    events = {journal: list(book.events[journal]) for journal in journals}
    await write(connection, [event for journal in journals for event in events[journal][:200]])
    await projector.catch_up()
    seen: list[tuple[int, int]] = []
    over = asyncio.Event()

    async def read() -> None:
        reader = await asyncpg.connect(database_url)
        while not over.is_set():
            row = await reader.fetchrow(
                "SELECT (SELECT count(*) FROM reporting.calls), (SELECT count(*) FROM reporting.spend_hourly)"
            )
            assert row is not None
            seen.append((row[0], row[1]))
            await asyncio.sleep(0)
        await reader.close()

    async def append() -> None:
        writer = await asyncpg.connect(database_url)
        for journal in journals:
            for start in range(200, len(events[journal]), 10):
                await write(writer, events[journal][start : start + 10])
        await writer.close()

    folding, reading = asyncio.create_task(projector.run()), asyncio.create_task(read())
    appending = asyncio.create_task(append())
    for _ in range(3):
        await rebuild(database_url)
    await appending
    folding.cancel()
    await asyncio.gather(folding, return_exceptions=True)
    over.set()
    await reading
    last = Projector(database_url)
    await last.catch_up()
    await last.close()
    # Calls and rows of spend are never taken away, so a reader's counts only rise.
    assert [row[0] for row in seen] == sorted(row[0] for row in seen)
    assert [row[1] for row in seen] == sorted(row[1] for row in seen)
    assert seen[0][0] > 0
    assert await projected.differences(connection, book.all_events()) == []


async def test_rebuild_repairs_what_compare_finds(
    database_url: str, connection: asyncpg.Connection, projector: Projector
) -> None:
    book = await _book(connection, projector)
    await connection.execute(
        "UPDATE ledger.calls SET billed_usd = billed_usd + 1"
        " WHERE call_id = (SELECT call_id FROM ledger.calls WHERE received_at IS NOT NULL LIMIT 1)"
    )
    await connection.execute("DELETE FROM ledger.key_totals WHERE key_id = 'key-1'")
    wrong = await compare(database_url, "calls")
    assert [(difference.table, difference.side) for difference in wrong] == [("calls", "found"), ("calls", "expected")]
    assert wrong[0].row["billed_usd"] == wrong[1].row["billed_usd"] + 1
    assert [(one.table, one.side, one.row["key_id"]) for one in await compare(database_url, "spend")] == [
        ("key_totals", "expected", "key-1")
    ]
    await rebuild(database_url, ["calls", "spend"])
    assert [await compare(database_url, projection.name) for projection in ALL] == [[]] * len(ALL)
    assert await projected.differences(connection, book.all_events()) == []


async def test_compare_of_a_projection_that_lags_compares_what_is_folded(
    database_url: str, connection: asyncpg.Connection, projector: Projector
) -> None:
    await _book(connection, projector)
    (journal,) = await open_journals(connection, 1)
    await write(connection, random_book([journal], 23, 100).all_events())
    assert await compare(database_url, "spend") == []


async def test_rebuilt_rows_are_seen_by_who_asks_for_later_batches(
    database_url: str, connection: asyncpg.Connection, projector: Projector
) -> None:
    await _book(connection, projector, 400)
    seen = await connection.fetchval("SELECT batch FROM ledger.projections WHERE name = 'keys'")
    await rebuild(database_url, ["keys"])
    fresh, everything = await connection.fetchrow(
        "SELECT count(*) FILTER (WHERE batch > $1), count(*) FROM ledger.keys", seen
    ) or (0, 1)
    assert fresh == everything > 0
    later = "SELECT batch >= (SELECT max(batch) FROM ledger.keys) FROM ledger.projections WHERE name = 'keys'"
    assert await connection.fetchval(later)


async def test_rebuild_by_older_code_is_refused(database_url: str, connection: asyncpg.Connection) -> None:
    await connection.execute("UPDATE ledger.projections SET version = 99 WHERE name = 'spend'")
    with pytest.raises(RebuildError, match="newer version"):
        await rebuild(database_url, ["spend"])


async def test_rebuild_to_a_newer_fold_raises_the_version(
    database_url: str, connection: asyncpg.Connection, projector: Projector
) -> None:
    book = await _book(connection, projector)
    await connection.execute("UPDATE ledger.projections SET version = 0 WHERE name = 'spend'")
    assert await projector.catch_up() == 0
    await rebuild(database_url, ["spend"])
    assert await connection.fetchval("SELECT version FROM ledger.projections WHERE name = 'spend'") == SPEND.version
    assert await projected.differences(connection, book.all_events()) == []


async def test_rebuild_that_would_lose_money_is_refused(
    database_url: str, connection: asyncpg.Connection, projector: Projector
) -> None:
    """Live folding got past an event that cannot be read now: what is there is better than what would come."""
    book = await _book(connection, projector)
    before = await projected.spend(connection)
    cost = next(event for event in book.all_events() if event.type == "cost.recorded")
    await connection.execute("ALTER TABLE ledger.events DISABLE TRIGGER ALL")
    partition = await connection.fetchval("SELECT tableoid::regclass::text FROM ledger.events LIMIT 1")
    await connection.execute(f"ALTER TABLE {partition} DISABLE TRIGGER ALL")
    await connection.execute(
        f"UPDATE {partition} SET schema = 9 WHERE journal_id = $1 AND seq = $2",  # noqa: S608 a name out of the catalogue
        cost.journal_id,
        cost.seq,
    )
    with pytest.raises(RebuildError, match=rf"got to event {cost.seq - 1} of journal {cost.journal_id}"):
        await rebuild(database_url, ["spend"])
    assert await projected.spend(connection) == before


async def test_second_rebuild_at_the_same_time_is_refused(
    database_url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded, go_on = asyncio.Event(), asyncio.Event()
    put_in_place = rebuild_module._put_in_place

    async def pause(main: asyncpg.Connection, projection: Projection) -> None:
        loaded.set()
        await go_on.wait()
        await put_in_place(main, projection)

    monkeypatch.setattr(rebuild_module, "_put_in_place", pause)
    first = asyncio.create_task(rebuild(database_url, ["calls"]))
    await loaded.wait()
    with pytest.raises(RebuildError, match="Another rebuild"):
        await rebuild(database_url, ["spend"])
    go_on.set()
    await first
    assert await connection.fetchval("SELECT to_regnamespace($1)", SCHEMA) is None
