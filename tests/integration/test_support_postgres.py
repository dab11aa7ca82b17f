"""The ground under the other integration tests: every test has a database of its own."""

from __future__ import annotations

from collections.abc import Callable

import psycopg
import pytest

from tests.support.postgres import PrivateServer


@pytest.mark.parametrize("_round", [1, 2])
def test_database_url_in_two_tests_gives_a_fresh_migrated_database(database_url: str, _round: int) -> None:
    with psycopg.connect(database_url) as connection:
        assert connection.execute("SELECT count(*) FROM ledger.events").fetchone() == (0,)
        connection.execute("CREATE TABLE left_behind (round integer)")


def test_empty_database_url_has_no_schema_of_the_ledger(empty_database_url: str) -> None:
    with psycopg.connect(empty_database_url) as connection:
        found = connection.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'ledger'").fetchone()
    assert found is None


def test_private_server_killed_and_started_keeps_what_was_committed(
    postgres_server: Callable[..., PrivateServer],
) -> None:
    server = postgres_server()
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SHOW fsync").fetchone() == ("on",)
        connection.execute("CREATE TABLE kept AS SELECT 1 AS one")
    server.kill()
    with pytest.raises(psycopg.OperationalError):
        psycopg.connect(server.url)
    server.start()
    with psycopg.connect(server.url) as connection:
        assert connection.execute("SELECT one FROM kept").fetchone() == (1,)
