"""`llm ledger verify` as a command: its exit status, what it prints, its options."""

import json
from datetime import UTC, datetime, timedelta

import asyncpg

from ledger.projections.projector import Projector
from ledger.verification.findings import NOT_CHECKED
from tests.support.cli import ledger
from tests.support.sound_book import make_sound_book, tamper


async def _sound(url: str) -> None:
    connection = await asyncpg.connect(url)
    await make_sound_book(connection, 4)
    await connection.close()
    projector = Projector(url)
    await projector.catch_up()
    await projector.close()


async def _tamper(url: str, statement: str) -> None:
    connection = await asyncpg.connect(url)
    await tamper(connection, statement)
    await connection.close()


async def test_verify_of_a_sound_book_says_what_it_did_and_did_not_check(database_url: str) -> None:
    await _sound(database_url)
    result = await ledger("verify", url=database_url)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[-1] == "sound: nothing was found"
    for what in NOT_CHECKED:
        assert f"  - {what}" in lines
    assert any(line.strip().startswith("3  journals: ") for line in lines)
    assert any(line.startswith("under way: ") for line in lines)
    assert result.stderr == ""


async def test_verify_of_a_tampered_book_exits_1_and_lists_what_is_wrong(database_url: str) -> None:
    await _sound(database_url)
    await _tamper(database_url, "UPDATE ledger.events SET body = 'x' WHERE type = 'chunk.received'")
    result = await ledger("verify", url=database_url)
    assert result.exit_code == 1
    assert "NOT SOUND: " in result.stdout
    assert "  [chain] journal " in result.stdout
    result = await ledger("verify", "--json", url=database_url)
    assert result.exit_code == 1
    found = json.loads(result.stdout)
    assert not found["sound"]
    assert found["findings_total"] == len(found["findings"]) > 3
    assert {finding["check"] for finding in found["findings"]} == {"chain"}


async def test_verify_of_more_findings_than_are_listed_counts_all(database_url: str) -> None:
    await _sound(database_url)
    await _tamper(database_url, "UPDATE ledger.events SET recorded_at = recorded_at + interval '1 s', chain = 'x'")
    found = json.loads((await ledger("verify", "--json", url=database_url)).stdout)
    assert found["findings_total"] > len(found["findings"]) == 100
    text = (await ledger("verify", url=database_url)).stdout
    assert text.splitlines()[-1] == f"  and {found['findings_total'] - 30:,} more"


async def test_verify_since_reads_what_may_hold_later_events(database_url: str) -> None:
    await _sound(database_url)
    later = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    found = json.loads((await ledger("verify", "--json", "--since", later, url=database_url)).stdout)
    assert (found["checked"]["journals"], found["checked"]["projections"]) == (2, 0)
    assert found["not_checked"][0].startswith("projections")
    found = json.loads((await ledger("verify", "--json", "--since", "2020-01-01", url=database_url)).stdout)
    assert found["checked"]["journals"] == 3


async def test_verify_with_wrong_options_is_wrong_usage(database_url: str) -> None:
    nobody = "0193a5b2-0000-7000-8000-00000000000a"
    assert (await ledger("verify", "--since", "yesterday", url=database_url)).exit_code == 2
    assert (await ledger("verify", "--journal", "x", url=database_url)).exit_code == 2
    both = await ledger("verify", "--journal", nobody, "--since", "2026-01-01", url=database_url)
    assert both.exit_code == 2
    absent = await ledger("verify", "--journal", nobody, url=database_url)
    assert (absent.exit_code, absent.stderr.startswith("Error: The book holds no journal")) == (1, True)
