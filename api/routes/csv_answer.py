"""Tables as CSV (RFC 4180): for whoever says `format=csv` or accepts text/csv; streamed, row by row.

A text that a spreadsheet would take for a formula (it begins with = + - @, a tab or a carriage return) gets an
apostrophe in front; numbers do not. Money is in plain decimals, times are RFC 3339 in UTC, lists have commas between.
"""

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from contextlib import aclosing
from datetime import datetime
from decimal import Decimal
from typing import Any, Final

from fastapi import Request
from fastapi.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

from api.exact_json import encode
from api.routes.parameters import Given, Parameter
from ledger.encoding import rfc3339
from ledger.money.exact import plain

FORMATS: Final = ("json", "csv")
FORMAT: Final = Parameter("format", "json (usually) or csv; also by the header Accept: text/csv.")

Rows = AsyncGenerator[Mapping[str, Any]]

#: A table that nobody reads holds its connection, and the database's rubbish, no longer than this.
STREAM_S: Final = 600.0
_PIECE_CHARS: Final = 32_768
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")
_QUOTED: Final = frozenset(',"\r\n')


def wants_csv(request: Request, given: Given) -> bool:
    """Tell whether a table is asked for; the parameter wins over the header.

    Raises:
        ApiFailure: 400 for another format.
    """
    said = given.choice("format", FORMATS)
    if said is not None:
        return said == "csv"
    kinds = [kind.split(";")[0].strip().lower() for kind in request.headers.get("accept", "").split(",")]
    return "text/csv" in kinds and "application/json" not in kinds


def csv_answer(
    name: str, columns: Sequence[str], rows: Iterable[Mapping[str, Any]], headers: Mapping[str, str] | None = None
) -> StreamingResponse:
    """Return rows that are at hand as a file `name`.csv."""

    async def given() -> AsyncGenerator[Mapping[str, Any]]:
        for row in rows:
            yield row

    return csv_stream(name, columns, given(), headers)


def csv_stream(
    name: str, columns: Sequence[str], rows: Rows, headers: Mapping[str, str] | None = None
) -> StreamingResponse:
    """Return rows as they come as a file `name`.csv; what raises on the way breaks the answer off, visibly."""
    return _Table(
        _pieces(columns, rows),
        media_type="text/csv; charset=utf-8; header=present",
        headers={"content-disposition": f'attachment; filename="{name}.csv"', **(headers or {})},
    )


class TooSlowError(Exception):
    """A table is read more slowly than its connection can be lent; the answer breaks off."""


class _Table(StreamingResponse):
    """Closes what it reads when its reader leaves, or stands still: a connection may hang on it."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        lent = asyncio.timeout(STREAM_S)
        try:
            # Around the sending: whoever reads nothing at all is never asked for the next row.
            async with lent:
                await super().__call__(scope, receive, send)
        except TimeoutError as error:
            if not lent.expired():
                raise
            raise TooSlowError(f"The table was not read within {STREAM_S:.0f} s.") from error
        finally:
            if isinstance(self.body_iterator, AsyncGenerator):
                await self.body_iterator.aclose()


async def _pieces(columns: Sequence[str], rows: Rows) -> AsyncGenerator[bytes]:
    lines, size = [line_of(columns)], 0
    async with aclosing(rows):
        async for row in rows:
            line = line_of([row.get(column) for column in columns])
            lines.append(line)
            size += len(line)
            if size >= _PIECE_CHARS:
                yield "".join(lines).encode()
                lines, size = [], 0
    if lines:
        yield "".join(lines).encode()


def line_of(cells: Iterable[Any]) -> str:
    """Return one record with its line break."""
    return ",".join(_quoted(_spelt(cell)) for cell in cells) + "\r\n"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if _QUOTED.intersection(text) else text


def _spelt(cell: Any) -> str:
    match cell:
        case None:
            text = ""
        case bool():
            text = "true" if cell else "false"
        case Decimal():
            text = plain(cell)
        case datetime():
            text = rfc3339(cell)
        case list() | tuple():
            text = _harmless(",".join(str(each) for each in cell))
        case Mapping():
            text = encode(cell)
        case int():
            text = str(cell)
        case _:
            text = str(cell)
            text = text if _is_number(text) else _harmless(text)
    return text


def _is_number(text: str) -> bool:
    """Our money is text, and may be below zero in a correction."""
    digits = text.removeprefix("-").replace(".", "", 1)
    return digits.isascii() and digits.isdigit()


def _harmless(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text
