"""What the schema itself holds: events are append-only, journals open in order, partitions come without a wait."""

import asyncio
from collections.abc import AsyncGenerator
from datetime import UTC, datetime, timedelta
from uuid import UUID

import asyncpg
import pytest
import pytest_asyncio

from ledger.postgres.connect import APP_ROLE

OPEN = "SELECT ledger.open_journal('{}'::jsonb, NULL, NULL)"
INSERT = "INSERT INTO ledger.events VALUES ($1, $2, NULL, NULL, 'config.loaded', 1, now(), '{}', NULL, NULL)"


@pytest_asyncio.fixture
async def connection(database_url: str) -> AsyncGenerator[asyncpg.Connection]:
    """A connection as the owner, with one journal and one event in it."""
    opened = await asyncpg.connect(database_url)
    await opened.execute(INSERT, await opened.fetchval(OPEN), 1)
    yield opened
    await opened.close()


async def open_journal(connection: asyncpg.Connection) -> UUID:
    """Open a journal."""
    journal_id = await connection.fetchval(OPEN)
    assert isinstance(journal_id, UUID)
    return journal_id


async def leaf_of(connection: asyncpg.Connection) -> str:
    """Return the partition's name."""
    return str(await connection.fetchval("SELECT tableoid::regclass::text FROM ledger.events LIMIT 1"))


CHANGES = [
    "UPDATE {} SET facts = '{{}}'",
    "UPDATE {} SET body = NULL WHERE false",
    "DELETE FROM {}",
    "TRUNCATE {}",
    "MERGE INTO {} AS t USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE",
    "INSERT INTO {} SELECT * FROM ledger.events ON CONFLICT (journal_id, seq) DO UPDATE SET type = 'x'",
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("where", ["parent", "leaf"])
async def test_event_changed_by_the_owner_is_refused(connection: asyncpg.Connection, where: str, change: str) -> None:
    table = "ledger.events" if where == "parent" else await leaf_of(connection)
    with pytest.raises(asyncpg.RestrictViolationError, match=f"{table} refused; record a further event"):
        await connection.execute(change.format(table))
    assert await connection.fetchval("SELECT count(*) FROM ledger.events") == 1


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("where", ["parent", "leaf"])
async def test_event_changed_by_the_application_is_refused(
    connection: asyncpg.Connection, where: str, change: str
) -> None:
    table = "ledger.events" if where == "parent" else await leaf_of(connection)
    await connection.execute(f"SET ROLE {APP_ROLE}")
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await connection.execute(change.format(table))


@pytest.mark.parametrize("change", ["UPDATE {} SET facts = '{{}}'", "DELETE FROM {}", "TRUNCATE {}"])
@pytest.mark.parametrize("where", ["parent", "leaf"])
async def test_event_changed_under_the_role_of_a_replica_is_refused(
    connection: asyncpg.Connection, where: str, change: str
) -> None:
    table = "ledger.events" if where == "parent" else await leaf_of(connection)
    await connection.execute("SET session_replication_role = replica")
    with pytest.raises(asyncpg.RestrictViolationError):
        await connection.execute(change.format(table))


@pytest.mark.parametrize(
    "change",
    [
        "ALTER TABLE {} DISABLE TRIGGER ALL",
        "ALTER TABLE {} ADD COLUMN more text",
        "DROP TABLE {}",
        "DROP TRIGGER events_append_only ON {}",
        "CREATE TRIGGER more BEFORE INSERT ON {} EXECUTE FUNCTION ledger.refuse_change()",
        "CREATE TABLE ledger.more (LIKE {})",
        "SET session_replication_role = replica",
        "SELECT ledger.open_partition(now())",
        "DELETE FROM ledger.journals",
        "DELETE FROM ledger.subjects",
        "UPDATE ledger.alembic_version SET version_num = '0'",
        "ALTER FUNCTION ledger.refuse_change() RENAME TO gone",
        "CREATE OR REPLACE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",
    ],
)
async def test_schema_changed_by_the_application_is_refused(connection: asyncpg.Connection, change: str) -> None:
    leaf = await leaf_of(connection)
    await connection.execute(f"SET ROLE {APP_ROLE}")
    for table in ("ledger.events", leaf):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(change.format(table))


async def test_event_appended_by_the_application_is_taken(connection: asyncpg.Connection) -> None:
    await connection.execute(f"SET ROLE {APP_ROLE}")
    journal_id = await connection.fetchval(OPEN)
    await connection.execute(INSERT, journal_id, 1)
    assert await connection.fetchval("SELECT count(*) FROM ledger.events") == 2


async def test_event_of_a_taken_place_is_refused_by_the_fence(connection: asyncpg.Connection) -> None:
    journal_id = await connection.fetchval("SELECT journal_id FROM ledger.events")
    with pytest.raises(asyncpg.UniqueViolationError):
        await connection.execute(INSERT, journal_id, 1)


@pytest.mark.parametrize(("seq", "call_id", "version"), [(0, None, None), (2, None, 1), (2, UUID(int=1), None)])
async def test_event_that_contradicts_itself_is_refused(
    connection: asyncpg.Connection, seq: int, call_id: UUID | None, version: int | None
) -> None:
    journal_id = await connection.fetchval("SELECT journal_id FROM ledger.events")
    with pytest.raises(asyncpg.CheckViolationError):
        await connection.execute(
            "INSERT INTO ledger.events VALUES ($1, $2, $3, $4, 'x', 1, now(), '{}', NULL, NULL)",
            journal_id, seq, call_id, version,
        )  # fmt: skip


async def test_event_of_no_journals_day_is_refused_since_there_is_no_default_partition(
    connection: asyncpg.Connection,
) -> None:
    with pytest.raises(asyncpg.CheckViolationError, match="no partition"):
        await connection.execute(INSERT, UUID(int=1), 1)


async def test_open_journal_from_twenty_connections_gives_rising_ids_in_one_partition(database_url: str) -> None:
    connections = await asyncio.gather(*(asyncpg.connect(database_url) for _ in range(20)))
    opened: list[UUID] = []

    async def open_some(connection: asyncpg.Connection) -> None:
        for _ in range(5):
            journal_id = await open_journal(connection)
            opened.append(journal_id)
            await connection.execute(INSERT, journal_id, 1)

    await asyncio.gather(*map(open_some, connections))
    rows = await connections[0].fetch("SELECT journal_id FROM ledger.journals ORDER BY opened_at, journal_id")
    leaves = await connections[0].fetchval("SELECT count(DISTINCT tableoid) FROM ledger.events")
    await asyncio.gather(*(connection.close() for connection in connections))
    assert [row["journal_id"] for row in rows] == sorted(opened)
    assert len({journal_id.int >> 80 for journal_id in opened}) == 100
    assert {journal_id.version for journal_id in opened} == {7}
    assert leaves in {1, 2}  # two when it is midnight


async def test_open_journal_with_a_clock_that_went_back_gives_an_id_above_the_newest(
    connection: asyncpg.Connection,
) -> None:
    future = datetime.now(UTC) + timedelta(days=400)
    await connection.execute(
        "INSERT INTO ledger.journals (journal_id, writer) VALUES (ledger.journal_floor($1), '{}')", future
    )
    newest = await connection.fetchval("SELECT max(journal_id::text)::uuid FROM ledger.journals")
    assert isinstance(newest, UUID)
    first, second = [await open_journal(connection) for _ in range(2)]
    assert newest < first < second
    await connection.execute(INSERT, first, 1)
    name = await connection.fetchval("SELECT tableoid::regclass::text FROM ledger.events WHERE journal_id = $1", first)
    assert name == f"ledger.events_{future:%Y%m%d}"


async def test_open_journal_around_midnight_uses_the_day_of_the_id(connection: asyncpg.Connection) -> None:
    midnight = datetime(2031, 5, 1, tzinfo=UTC)
    names: list[str] = []
    for newest in (midnight - timedelta(milliseconds=2), midnight - timedelta(milliseconds=1)):
        await connection.execute(
            "INSERT INTO ledger.journals (journal_id, writer) VALUES (ledger.journal_floor($1), '{}') "
            "ON CONFLICT DO NOTHING",
            newest,
        )
        journal_id = await open_journal(connection)
        await connection.execute(INSERT, journal_id, 1)
        name = await connection.fetchval(
            "SELECT tableoid::regclass::text FROM ledger.events WHERE journal_id = $1", journal_id
        )
        names.append(str(name))
    assert names == ["ledger.events_20310430", "ledger.events_20310501"]


async def test_open_journal_in_a_session_of_another_time_zone_uses_the_day_of_utc(
    connection: asyncpg.Connection,
) -> None:
    await connection.execute("SET timezone = 'Pacific/Kiritimati'")
    await connection.fetchval(OPEN)
    bounds = await connection.fetch(
        "SELECT pg_get_expr(relpartbound, oid) AS bounds FROM pg_class WHERE relispartition AND relkind = 'r'"
    )
    floor = await connection.fetchval("SELECT ledger.journal_floor(date_trunc('day', now(), 'UTC'))")
    assert any(f"FROM ('{floor}')" in row["bounds"] for row in bounds)


async def test_open_journal_makes_a_checkpoint_for_each_projection(connection: asyncpg.Connection) -> None:
    journal_id = await connection.fetchval(OPEN)
    rows = await connection.fetch(
        "SELECT projection, folded_seq, finished FROM ledger.checkpoints WHERE journal_id = $1", journal_id
    )
    names = await connection.fetch("SELECT name FROM ledger.projections")
    assert {row["projection"] for row in rows} == {row["name"] for row in names}
    assert all(row["folded_seq"] == 0 and not row["finished"] for row in rows)


async def test_open_partition_beside_an_open_append_waits_for_nobody_and_nobody_waits(
    connection: asyncpg.Connection, database_url: str
) -> None:
    journal_id = await connection.fetchval("SELECT journal_id FROM ledger.events")
    assert isinstance(journal_id, UUID)
    appender, other = await asyncpg.connect(database_url), await asyncpg.connect(database_url)
    for one in (connection, other):
        await one.execute("SET lock_timeout = '100ms'")
    async with appender.transaction():
        await appender.execute(INSERT, journal_id, 2)
        async with connection.transaction():
            # Holds what making a partition locks, to the end of this block.
            await connection.execute("SELECT ledger.open_partition('2031-06-01 00:00+00')")
            await other.execute(INSERT, UUID(int=journal_id.int + 1), 1)
            await appender.execute(INSERT, journal_id, 3)
            assert await other.fetchval("SELECT count(*) FROM ledger.events WHERE journal_id = $1", journal_id) == 1
    await appender.close()
    await other.close()
    assert await connection.fetchval("SELECT to_regclass('ledger.events_20310601') IS NOT NULL")


async def test_open_partition_twice_leaves_the_one_that_is_there(connection: asyncpg.Connection) -> None:
    for _ in range(2):
        await connection.execute("SELECT ledger.open_partition('2031-06-01 00:00+00')")
    rows = await connection.fetch(
        "SELECT indexdef FROM pg_indexes WHERE schemaname = 'ledger' AND tablename = 'events_20310601'"
    )
    assert len(rows) == 3  # the key, by call, and what is folded
