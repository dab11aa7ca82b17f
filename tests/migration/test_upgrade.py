"""Bringing a database to the schema: once, twice, two at a time, from anywhere, by Alembic itself, or not at all."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from ledger.postgres import alembic_run
from ledger.postgres.migrate import SchemaMismatchError, check, head, upgrade

ROOT = Path(__file__).resolve().parents[2]
#: Of this database: other tests migrate theirs on the same server.
_OWN_LOCKS = """
SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'
AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""


def revision(url: str) -> str | None:
    """Return the database's revision."""
    with psycopg.connect(url) as connection:
        if connection.execute("SELECT to_regclass('ledger.alembic_version')").fetchone() == (None,):
            return None
        row = connection.execute("SELECT version_num FROM ledger.alembic_version").fetchone()
        return None if row is None else str(row[0])


def alembic(url: str | None, *arguments: str, cwd: Path = ROOT) -> subprocess.CompletedProcess[str]:
    """Run Alembic's own command."""
    environ = {name: value for name, value in os.environ.items() if not name.endswith("DATABASE_URL")}
    if url is not None:
        environ["DATABASE_URL"] = url
    command = [sys.executable, "-m", "alembic", "-c", str(ROOT / "alembic.ini"), *arguments]
    return subprocess.run(command, cwd=cwd, env=environ, capture_output=True, text=True, timeout=60, check=False)


def test_upgrade_twice_changes_nothing_the_second_time(empty_database_url: str) -> None:
    upgrade(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        before = connection.execute("SELECT count(*), max(oid) FROM pg_class").fetchone()
    upgrade(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT count(*), max(oid) FROM pg_class").fetchone() == before
    assert revision(empty_database_url) == head()


def test_upgrade_by_two_processes_at_once_lets_one_work_and_the_other_wait(empty_database_url: str) -> None:
    script = "import sys; from ledger.postgres.migrate import upgrade; upgrade(sys.argv[1])"
    command = [sys.executable, "-c", script, empty_database_url]
    processes = [
        subprocess.Popen(
            command, cwd=ROOT, stderr=subprocess.PIPE, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)}
        )
        for _ in range(2)
    ]
    outcomes = [(process.communicate(timeout=60)[1], process.returncode) for process in processes]
    assert outcomes == [("", 0), ("", 0)]
    assert revision(empty_database_url) == head()


def test_upgrade_that_fails_leaves_nothing_behind(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute("CREATE SCHEMA ledger CREATE TABLE subjects (x integer)")
    with pytest.raises(Exception, match='relation "subjects" already exists'):
        upgrade(empty_database_url)
    with psycopg.connect(empty_database_url) as connection:
        assert connection.execute("SELECT to_regclass('ledger.events')").fetchone() == (None,)
        assert connection.execute(_OWN_LOCKS).fetchone() == (0,)


def test_upgrade_of_a_newer_schema_is_refused_and_says_what_to_do(database_url: str) -> None:
    _pretend(database_url, "9999")
    with pytest.raises(SchemaMismatchError, match=r"revision 9999.*newer version.*Run that version"):
        upgrade(database_url)


async def test_check_of_the_codes_own_schema_passes(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    await check(connection)
    await connection.close()


@pytest.mark.parametrize(
    ("there", "message"),
    [("0001", "revision 0001, this version needs .*llm ledger migrate"), ("9999", "revision 9999.*Run that version")],
)
async def test_check_of_another_schema_is_refused_and_says_what_to_do(
    database_url: str, there: str, message: str
) -> None:
    await asyncio.to_thread(_pretend, database_url, there)
    connection = await asyncpg.connect(database_url)
    with pytest.raises(SchemaMismatchError, match=message):
        await check(connection)
    await connection.close()


async def test_check_of_an_empty_database_is_refused_and_says_what_to_do(empty_database_url: str) -> None:
    connection = await asyncpg.connect(empty_database_url)
    with pytest.raises(SchemaMismatchError, match=r"revision \(none\).*llm ledger migrate"):
        await check(connection)
    await connection.close()


@pytest.mark.parametrize("here", [True, False])
def test_alembic_upgrade_head_with_database_url_works_from_anywhere(
    empty_database_url: str, tmp_path: Path, *, here: bool
) -> None:
    done = alembic(empty_database_url, "upgrade", "head", cwd=ROOT if here else tmp_path)
    assert done.returncode == 0, done.stderr
    assert revision(empty_database_url) == head()


def test_alembic_without_database_url_says_what_to_set() -> None:
    done = alembic(None, "upgrade", "head")
    assert done.returncode != 0
    assert "set DATABASE_URL" in done.stderr


def test_alembic_offline_sql_makes_the_same_schema(empty_database_url: str, database_url: str) -> None:
    done = alembic(None, "upgrade", "head", "--sql")
    assert done.returncode == 0, done.stderr
    with psycopg.connect(empty_database_url, autocommit=True) as connection:
        connection.execute(done.stdout.encode())
    assert _columns(empty_database_url) == _columns(database_url)
    assert revision(empty_database_url) == head()


class Server:
    """A connection, as far as the check of the version looks."""

    def __init__(self, number: int) -> None:
        self._number = number

    def scalar(self, _statement: Any) -> str:
        """Answer SHOW server_version_num."""
        return str(self._number)


def test_server_older_than_fifteen_is_refused_by_name() -> None:
    with pytest.raises(SchemaMismatchError, match=r"Postgres 14 is too old.*15 or later"):
        alembic_run._refuse_old_server(Server(140_012))  # pyright: ignore[reportArgumentType] - stands in for a connection
    alembic_run._refuse_old_server(Server(150_000))  # pyright: ignore[reportArgumentType] - stands in for a connection


def test_upgrade_while_another_migrates_for_too_long_names_whom_to_look_for(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(alembic_run, "LOCK_WAIT_S", 0.3)
    with psycopg.connect(empty_database_url) as other:
        other.execute("SELECT pg_advisory_lock(%s)", [alembic_run._LOCK_KEY])
        with pytest.raises(SchemaMismatchError, match="responses-ledger migrate"):
            upgrade(empty_database_url)


def _pretend(url: str, version: str) -> None:
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("UPDATE ledger.alembic_version SET version_num = %s", [version])


def _columns(url: str) -> list[Any]:
    with psycopg.connect(url) as connection:
        return connection.execute(
            "SELECT table_schema, table_name, column_name, data_type, column_default, is_nullable "
            "FROM information_schema.columns WHERE table_schema IN ('ledger', 'reporting') ORDER BY 1, 2, 3"
        ).fetchall()
