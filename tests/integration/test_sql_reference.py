"""docs/SQL.md: its reference is what the database says of itself, and each of its queries runs and finds something."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import asyncpg
import pytest

from ledger.postgres.connect import REPORTING_ROLE, connect
from ledger.projections.projector import Projector
from scripts.sql_reference import reference, replaced
from tests.support.book import START, open_journals, random_book, spell, write
from tests.support.documents import ROOT, Block, blocks

DOCUMENT = ROOT / "docs" / "SQL.md"
QUERIES = blocks(DOCUMENT, "sql")
_LATEST_CALL = re.compile(r"SELECT call_id FROM calls WHERE [^)]+")


@pytest.fixture
async def book_url(database_url: str) -> str:
    connection = await asyncpg.connect(database_url)
    await write(connection, random_book(await open_journals(connection, 3), 41, 900).all_events())
    await connection.close()
    projector = Projector(database_url)
    await projector.catch_up()
    await projector.close()
    return database_url


async def test_reference_of_the_views_is_what_the_database_says(database_url: str) -> None:
    text = DOCUMENT.read_text()
    assert replaced(text, await reference(database_url)) == text, "docs/SQL.md is old: run scripts/sql-reference"


def test_document_without_marks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs the lines"):
        replaced((tmp_path / "x").name, "text")


def test_queries_are_ten_at_least() -> None:
    assert len(QUERIES) >= 10


@pytest.mark.parametrize("query", QUERIES, ids=lambda query: f"line-{query.line}")
async def test_query_as_the_reporting_role_finds_rows(book_url: str, query: Block) -> None:
    settings = {"search_path": "reporting", "default_transaction_read_only": "on", "statement_timeout": "10s"}
    connection = await connect(book_url, purpose="test", role=REPORTING_ROLE, **settings)
    try:
        somebody = await connection.fetchval("SELECT min(end_user) FROM calls WHERE end_user <> ''")
        # The book's time is its own.
        now = f"'{spell(START + timedelta(hours=6))}'::timestamptz"
        text = query.text.replace("now()", now).replace("'alice'", f"'{somebody}'")
        for latest in _LATEST_CALL.findall(text):
            assert await connection.fetch(latest), latest
            # A random call may have nothing to show: take one that has.
            view = re.findall(r"FROM (\w+)", text)[0]
            text = text.replace(latest, f"SELECT call_id FROM {view} LIMIT 1")  # noqa: S608 - names of docs/SQL.md
        rows = await connection.fetch(text)
    finally:
        await connection.close()
    assert rows, text
