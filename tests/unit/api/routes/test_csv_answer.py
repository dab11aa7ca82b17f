"""Records of tables: RFC 4180, exact money, and nothing that a spreadsheet would run."""

import asyncio
import csv
import io
from collections.abc import AsyncGenerator
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from api.routes import csv_answer
from api.routes.csv_answer import line_of


@pytest.mark.parametrize(
    ("cell", "text"),
    [
        ("=1+1", "'=1+1"),
        ("@SUM(A1)", "'@SUM(A1)"),
        ("+49 30", "'+49 30"),
        ("-x", "'-x"),
        ("\t=1", "'\t=1"),
        (["=a", "b"], '"\'=a,b"'),
        ("-0.00001", "-0.00001"),
        (Decimal("-1E-12"), "-0.000000000001"),
        ("1e5", "1e5"),
        (None, ""),
        (True, "true"),
        (7, "7"),
        (datetime(2026, 11, 22, 9, 30, tzinfo=UTC), "2026-11-22T09:30:00.000000Z"),
        ('say "hi"', '"say ""hi"""'),
        ("a\r\nb", '"a\r\nb"'),
        ("bärbel, müller", '"bärbel, müller"'),
    ],
)
def test_line_of_one_cell_is_spelt_and_quoted(cell: Any, text: str) -> None:
    assert line_of([cell]) == f"{text}\r\n"


def test_line_of_awkward_texts_is_read_back_as_it_was() -> None:
    cells = ["a,b", 'c"d', "e\nf", "", " g ", "ü"]
    assert next(csv.reader(io.StringIO(line_of(cells), newline=""))) == cells


@pytest.mark.parametrize("spec_version", ["2.0", "2.4"])
async def test_table_that_its_reader_leaves_lying_is_broken_off_and_closed(
    monkeypatch: pytest.MonkeyPatch, spec_version: str
) -> None:
    monkeypatch.setattr(csv_answer, "STREAM_S", 0.05)
    closed = asyncio.Event()

    async def rows() -> AsyncGenerator[dict[str, str]]:
        try:
            while True:
                yield {"name": "x" * 100}
        finally:
            closed.set()

    async def for_ever(message: Any = None) -> Any:
        if message is None or message["type"] != "http.response.start":
            await asyncio.get_running_loop().create_future()

    table = csv_answer.csv_stream("names", ("name",), rows())
    with pytest.raises(csv_answer.TooSlowError):
        async with asyncio.timeout(20):
            await table({"type": "http", "asgi": {"spec_version": spec_version}}, for_ever, for_ever)
    assert closed.is_set()
