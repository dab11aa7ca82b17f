"""The schema that the migrations make: described, append-only, readable by whom it should be, on Postgres 15 too."""

import os
import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import asyncpg
import pytest

from ledger.postgres.connect import APP_ROLE, REPORTING_ROLE, connect
from ledger.postgres.migrate import head, upgrade

ROOT = Path(__file__).parents[2]
VIEWS = (
    "attempts", "audit_reads", "calls", "chunks", "cost_line_items", "costs", "events", "journals", "keys",
    "ledger_health", "line_items_daily", "prices", "spend_by_end_user", "spend_by_key", "spend_by_tag", "spend_daily",
    "spend_hourly", "teams",
)  # fmt: skip

#: What Postgres 15 does not have.
_NEWER = re.compile(
    r"uuidv[47]\(|transaction_timeout|MERGE\s+INTO|RETURNING\s+(old|new)\b|WITHOUT OVERLAPS"
    r"|JSON_TABLE|any_value|max\((call_id|journal_id)\)",
    re.IGNORECASE,
)


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def test_empty_database_is_migrated_to_the_head_and_again_without_change(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    upgrade(empty_database_url)
    connection = await asyncpg.connect(empty_database_url)
    assert await connection.fetchval("SELECT version_num FROM ledger.alembic_version") == head()
    await connection.close()


async def test_every_table_view_and_column_is_described(connection: asyncpg.Connection) -> None:
    silent = await connection.fetch("""
        SELECT c.oid::regclass::text || coalesce('.' || a.attname, '') AS name
        FROM pg_class c
        LEFT JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND NOT c.relispartition
        WHERE c.relnamespace IN ('ledger'::regnamespace, 'reporting'::regnamespace) AND c.relkind IN ('r', 'p', 'v')
          AND c.relname <> 'alembic_version'
          AND (obj_description(c.oid, 'pg_class') IS NULL
               OR (a.attnum IS NOT NULL AND col_description(c.oid, a.attnum) IS NULL))
    """)
    assert [row["name"] for row in silent] == []


async def test_every_index_constraint_function_and_schema_is_described(connection: asyncpg.Connection) -> None:
    silent = await connection.fetch("""
        SELECT 'index ' || i.indexrelid::regclass::text AS name
        FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
        LEFT JOIN pg_constraint k ON k.conindid = i.indexrelid
        WHERE c.relnamespace = 'ledger'::regnamespace AND c.relname <> 'alembic_version' AND NOT c.relispartition
          AND k.oid IS NULL AND obj_description(i.indexrelid, 'pg_class') IS NULL
        UNION ALL
        SELECT 'constraint ' || k.conname FROM pg_constraint k JOIN pg_class c ON c.oid = k.conrelid
        WHERE c.relnamespace = 'ledger'::regnamespace AND c.relname <> 'alembic_version' AND NOT c.relispartition
          AND k.contype IN ('p', 'u', 'c', 'f', 'x') AND obj_description(k.oid, 'pg_constraint') IS NULL
        UNION ALL
        SELECT 'function ' || p.oid::regprocedure::text FROM pg_proc p
        WHERE p.pronamespace IN ('ledger'::regnamespace, 'reporting'::regnamespace)
          AND obj_description(p.oid, 'pg_proc') IS NULL
        UNION ALL
        SELECT 'schema ' || n.nspname FROM pg_namespace n
        WHERE n.nspname IN ('ledger', 'reporting') AND obj_description(n.oid, 'pg_namespace') IS NULL
    """)
    assert [row["name"] for row in silent] == []


async def test_reporting_role_reads_every_view_and_nothing_else(
    database_url: str, connection: asyncpg.Connection
) -> None:
    names = await connection.fetch("SELECT viewname FROM pg_views WHERE schemaname = 'reporting' ORDER BY 1")
    assert tuple(row["viewname"] for row in names) == VIEWS
    reader = await connect(database_url, purpose="test", role=REPORTING_ROLE)
    for view in VIEWS:
        await reader.fetch(f"SELECT * FROM reporting.{view} LIMIT 1")  # noqa: S608 constants
    tables = await connection.fetch(
        "SELECT oid::regclass::text AS name FROM pg_class"
        " WHERE relnamespace = 'ledger'::regnamespace AND relkind IN ('r', 'p')"
    )
    for table in tables:
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await reader.fetch(f"SELECT * FROM {table['name']} LIMIT 1")  # noqa: S608 a name out of the catalogue
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await reader.execute("CREATE TABLE reporting.mine ()")
    await reader.close()


async def test_reporting_shows_neither_keys_nor_hashes(connection: asyncpg.Connection) -> None:
    columns = await connection.fetch("""
        SELECT a.attrelid::regclass::text || '.' || a.attname AS name FROM pg_attribute a
        JOIN pg_class c ON c.oid = a.attrelid WHERE c.relnamespace = 'reporting'::regnamespace AND a.attnum > 0
    """)
    assert [row["name"] for row in columns if "hash" in row["name"]] == []


async def test_application_may_fold_and_may_not_change_the_tables_themselves(database_url: str) -> None:
    application = await connect(database_url, purpose="test", role=APP_ROLE)
    for table in ("keys", "teams", "prices", "calls", "spend", "key_totals", "end_user_totals", "line_items"):
        await application.fetch(f"SELECT * FROM ledger.{table} LIMIT 1")  # noqa: S608 constants
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await application.execute(f"DELETE FROM ledger.{table}")  # noqa: S608 constants
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await application.execute("DROP TABLE ledger.spend")
    await application.close()


async def test_money_is_exact_and_dimensions_are_never_null(connection: asyncpg.Connection) -> None:
    columns = await connection.fetch("""
        SELECT c.relname AS table, a.attname AS name, format_type(a.atttypid, a.atttypmod) AS type,
            a.attnotnull AS filled
        FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
        WHERE c.relnamespace = 'ledger'::regnamespace AND c.relkind = 'r' AND a.attnum > 0
    """)
    money = [row for row in columns if row["name"].endswith("_usd")]
    assert {row["type"] for row in money} == {"numeric(24,12)"}
    assert all(row["filled"] for row in money)
    assert [row for row in columns if row["type"] in {"real", "double precision"}] == []
    dims = {"org", "team", "user_id", "key_id", "end_user", "model", "deployment", "tier", "tags"}
    assert [row for row in columns if row["name"] in dims and not row["filled"]] == []


async def test_projections_and_views_can_be_taken_down_and_made_again(
    database_url: str, connection: asyncpg.Connection
) -> None:
    environment = {**os.environ, "DATABASE_URL": database_url}
    alembic = [sys.executable, "-m", "alembic", "downgrade", "0001"]
    subprocess.run(alembic, cwd=ROOT, env=environment, check=True, capture_output=True, timeout=60)  # noqa: ASYNC221 nothing else runs in this loop
    assert await connection.fetchval("SELECT count(*) FROM ledger.projections") == 0
    journal = await connection.fetchval("SELECT ledger.open_journal('{}', NULL, NULL)")
    upgrade(database_url)
    rows = await connection.fetch("SELECT projection FROM ledger.checkpoints WHERE journal_id = $1", journal)
    assert {row["projection"] for row in rows} >= {"keys", "prices", "spend", "calls", "line_items"}


def test_sql_uses_nothing_that_postgres_15_lacks() -> None:
    """The suite also runs on 15; this says so at once, where only a newer server is at hand."""
    paths = [*(ROOT / "migrations" / "versions").glob("*.py"), *(ROOT / "ledger").rglob("*.py")]
    assert len(paths) > 20
    found = [
        f"{path.name}: {match.group()}"
        for path in paths
        for match in _NEWER.finditer(re.sub(r"#.*", "", path.read_text()))
    ]
    assert found == []
