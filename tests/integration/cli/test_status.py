"""`llm ledger status`, `migrate`, `resume` and `rebuild`: what they say of good and bad states, and how they exit."""

import json
import secrets
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest
import uuid_utils.compat

from api.cli import ledger_status
from ledger import events
from ledger.journal import journals as journals_module
from ledger.journal.identity import writer_identity
from ledger.postgres.migrate import head
from ledger.postgres.url import parse
from ledger.projections.projector import Projector
from tests.support.book import random_book, write
from tests.support.cli import ledger
from tests.support.journal import RECEIVED, journals_at
from tests.support.sound_book import make_sound_book, tamper


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[asyncpg.Connection]:
    connection = await asyncpg.connect(database_url)
    yield connection
    await connection.close()


async def _fold(url: str) -> None:
    projector = Projector(url)
    await projector.catch_up()
    await projector.close()


async def _status(url: str, *arguments: str, **environ: str) -> tuple[int, dict[str, Any]]:
    result = await ledger("status", "--json", *arguments, url=url, **environ)
    return result.exit_code, json.loads(result.stdout)


async def test_status_of_a_database_without_book_says_migrate(empty_database_url: str) -> None:
    result = await ledger("status", url=empty_database_url)
    assert result.exit_code == 1
    assert "run `llm ledger migrate`" in result.stdout


@pytest.mark.parametrize("command", [["verify"], ["replay", str(uuid_utils.compat.uuid7())], ["rebuild"]])
async def test_commands_without_book_say_migrate_in_one_line(empty_database_url: str, command: list[str]) -> None:
    result = await ledger(*command, url=empty_database_url)
    assert result.exit_code == 1
    assert "run `llm ledger migrate`" in result.stderr
    assert result.stderr.startswith("Error: ")


async def test_migrate_makes_the_book_and_does_nothing_the_second_time(empty_database_url: str) -> None:
    for _ in range(2):
        result = await ledger("migrate", url=empty_database_url)
        assert (result.exit_code, head() in result.stdout) == (0, True)
    code, found = await _status(empty_database_url)
    assert (code, found["ok"], found["journals"]["open"]) == (0, True, 0)


async def test_status_watches_hearts_and_counts_open_calls(
    database_url: str, connection: asyncpg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Several beats fall between the two looks, so that one that is late changes nothing.
    monkeypatch.setattr(journals_module, "HEARTBEAT_S", 0.5)
    monkeypatch.setattr(ledger_status, "LOOK_AGAIN_S", 2.5)
    await connection.execute("SELECT ledger.open_journal($1::jsonb, NULL, NULL)", json.dumps({"host": "elsewhere"}))
    dead = {**writer_identity("0"), "started": "1"}
    await connection.execute("SELECT ledger.open_journal($1::jsonb, NULL, NULL)", json.dumps(dead))
    async with journals_at(database_url) as journals:
        log = journals.begin_call(uuid_utils.compat.uuid7())
        log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
        await log.durable()
        code, found = await _status(database_url)
        text = (await ledger("status", "--no-wait", url=database_url)).stdout
    assert code == 0
    assert found["open_calls"] == 1
    assert 0 <= found["oldest_open_call_s"] < 60
    told = [(one["beats"], one["writer_ended"], one["last_seq"]) for one in found["journals"]["open_journals"]]
    assert told == [(True, False, 2), (False, True, 0), (False, False, 0)]
    assert "its process has ended" in text
    assert "not watched" in text


async def test_status_tells_guards_rights_sizes_and_unknown_costs(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await make_sound_book(connection, 4)
    await _fold(database_url)
    code, found = await _status(database_url)
    assert code == 0
    assert found["rights"] | {"login": ""} == {
        "login": "",
        "is_superuser": True,
        "login_may_change_events": True,
        "app_may_change_events": False,
        "unguarded_tables": [],
    }
    assert not found["separate_owner"]
    unknown = await connection.fetchval("SELECT sum(unknown_calls) FROM ledger.spend")
    assert found["unknown_costs"] == int(unknown or 0) > 0
    assert found["journals"]["sealed"] == 1
    assert found["events_bytes"] > 0
    assert [partition["is_guarded"] for partition in found["partitions"]] == [True]


async def test_status_of_an_unguarded_partition_fails(database_url: str, connection: asyncpg.Connection) -> None:
    await make_sound_book(connection, 4)
    name = str(await connection.fetchval("SELECT tableoid::regclass::text FROM ledger.events LIMIT 1"))
    await connection.execute(f"ALTER TABLE {name} DISABLE TRIGGER events_append_only")
    result = await ledger("status", "--no-wait", url=database_url)
    assert result.exit_code == 1
    assert f"without append-only trigger: {name.removeprefix('ledger.')}" in result.stdout


async def test_status_of_a_lagging_projection_counts_its_events(
    database_url: str, connection: asyncpg.Connection
) -> None:
    book = await make_sound_book(connection, 4)
    _, found = await _status(database_url, "--no-wait")
    behind = {one["name"]: one["events_behind"] for one in found["projections"]}
    assert behind == dict.fromkeys(("calls", "keys", "line_items", "prices", "spend"), len(book.all_events()))


async def test_stopped_projection_is_told_with_the_commands_that_let_it_go_on(
    database_url: str, connection: asyncpg.Connection
) -> None:
    await make_sound_book(connection, 4)
    await tamper(
        connection,
        "UPDATE ledger.events SET facts = facts - 'billed_usd' WHERE (journal_id, seq) = ("
        " SELECT journal_id, seq FROM ledger.events WHERE type = 'cost.recorded' LIMIT 1)",
    )
    await _fold(database_url)
    code, found = await _status(database_url, "--no-wait")
    assert code == 1
    spend = next(stop for stop in found["stopped"] if stop["projection"] == "spend")
    again, skip = spend["commands"]
    wrong = await ledger("resume", "spend", spend["journal_id"], str(spend["seq"] + 1), url=database_url)
    assert (wrong.exit_code, f"stands before event {spend['seq']}" in wrong.stderr) == (1, True)
    assert (await ledger(*again.split()[2:], url=database_url)).exit_code == 0
    await _fold(database_url)
    assert "spend" in [stop["projection"] for stop in (await _status(database_url, "--no-wait"))[1]["stopped"]]
    for stop in (await _status(database_url, "--no-wait"))[1]["stopped"]:
        assert (await ledger(*stop["commands"][1].split()[2:], url=database_url)).exit_code == 0
    await _fold(database_url)
    code, found = await _status(database_url, "--no-wait")
    assert (code, found["stopped"]) == (0, [])
    assert (await ledger(*skip.split()[2:], url=database_url)).exit_code == 1


async def test_status_and_verify_work_as_a_login_that_owns_nothing(
    database_url: str, connection: asyncpg.Connection
) -> None:
    login, password = f"app_{secrets.token_hex(6)}", secrets.token_hex(12)
    await make_sound_book(connection, 4)
    await _fold(database_url)
    await connection.execute(f"CREATE ROLE {login} LOGIN PASSWORD '{password}' IN ROLE responses_ledger_app")
    try:
        url = parse(database_url).with_login(login, password).to_url()
        code, found = await _status(url, "--no-wait", LLM_OWNER_DATABASE_URL=database_url)
        assert code == 0
        assert found["separate_owner"]
        assert not found["rights"]["is_superuser"]
        assert not found["rights"]["login_may_change_events"]
        assert (await ledger("verify", url=url)).exit_code == 0
        assert (await ledger("rebuild", url=url, LLM_OWNER_DATABASE_URL=database_url)).exit_code == 0
        refused = await ledger("rebuild", url=url)
        assert (refused.exit_code, "permission denied" in refused.stderr) == (1, True)
    finally:
        await connection.execute(f"DROP OWNED BY {login}; DROP ROLE {login}")


async def test_rebuild_of_a_wrong_projection_repairs_it(database_url: str, connection: asyncpg.Connection) -> None:
    await make_sound_book(connection, 4)
    await _fold(database_url)
    await connection.execute("UPDATE ledger.spend SET calls = calls + 1")
    result = await ledger("rebuild", "spend", url=database_url)
    assert (result.exit_code, result.stdout) == (0, "Rebuilt spend.\n")
    assert (await ledger("verify", url=database_url)).exit_code == 0


async def test_rebuild_of_an_unknown_projection_is_wrong_usage(database_url: str) -> None:
    result = await ledger("rebuild", "spent", url=database_url)
    assert (result.exit_code, "No projection is named spent" in result.stderr) == (2, True)


async def test_embedded_book_that_was_never_made_is_not_made_by_looking(tmp_path: Path) -> None:
    for command in ("status", "verify", "psql", "rebuild"):
        result = await ledger(command, LLM_DATA_DIR=str(tmp_path / "none"))
        assert (result.exit_code, "There is no book" in result.stderr) == (1, True)
    assert not (tmp_path / "none").exists()


async def test_unreachable_and_unreadable_databases_are_told_in_one_line() -> None:
    unreachable = await ledger("status", url="postgresql://x:secret-word@127.0.0.1:1/ledger")
    assert (unreachable.exit_code, "out of reach" in unreachable.stderr) == (1, True)
    unreadable = await ledger("verify", url="mysql://x:secret-word@127.0.0.1:1/ledger")
    assert (unreadable.exit_code, "a database URL begins with" in unreadable.stderr) == (1, True)
    for result in (unreachable, unreadable):
        assert "secret-word" not in result.output
        assert result.stderr.count("\n") == 1


async def test_random_book_by_plain_statements_has_a_status(database_url: str, connection: asyncpg.Connection) -> None:
    """Not every writer is this version: journals whose writer says nothing are told as well."""
    row = await connection.fetchrow("SELECT ledger.open_journal('{}'::jsonb, NULL, NULL)")
    assert row is not None
    await write(connection, random_book([row[0]], 3, 50).all_events())
    result = await ledger("status", "--no-wait", url=database_url)
    assert "by ? pid ? version ?" in result.stdout
