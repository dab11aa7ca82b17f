"""docs/SQL.md: its reference is what the database says of itself. Its queries: `test_sql_queries.py`."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripts.sql_reference import reference, replaced
from tests.support.documents import ROOT

DOCUMENT = ROOT / "docs" / "SQL.md"


async def test_reference_of_the_views_is_what_the_database_says(database_url: str) -> None:
    text = DOCUMENT.read_text()
    assert replaced(text, await reference(database_url)) == text, "docs/SQL.md is old: run scripts/sql-reference"


def test_document_without_marks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="needs the lines"):
        replaced((tmp_path / "x").name, "text")
