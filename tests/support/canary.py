"""Looks for a text in everything that a database holds: every table of the book, texts and bytes alike."""

import gzip
from typing import Any

from tests.support.proxy_book import Book

_TABLES = """
SELECT c.oid::regclass::text AS name FROM pg_class c
WHERE c.relnamespace IN ('ledger'::regnamespace, 'public'::regnamespace) AND c.relkind = 'r' ORDER BY 1
"""
_ZIPPED = r"SELECT body FROM ledger.events WHERE substr(body, 1, 2) = '\x1f8b'"


async def tables_with(book: Book, text: str) -> dict[str, list[Any]]:
    """Return the rows that hold `text`, as text or within bytes (UTF-8, UTF-16, gzip), by table; {}: it is nowhere."""
    found: dict[str, list[Any]] = {}
    tables = [row["name"] for row in await book.fetch(_TABLES)]
    assert len(tables) > 8, tables
    # A row as text spells bytes in hexadecimal.
    spelt = [text, *(text.encode(coding).hex() for coding in ("utf-8", "utf-16-le", "utf-16-be"))]
    for table in tables:
        query = (
            f"SELECT t::text AS row FROM {table} t "  # noqa: S608 - a name from the catalogue
            "WHERE EXISTS (SELECT FROM unnest($1::text[]) s WHERE strpos(t::text, s) > 0) LIMIT 5"
        )
        rows = await book.fetch(query, spelt)
        if rows:
            found[table] = [row["row"][:2_000] for row in rows]
    zipped = [gzip.decompress(row["body"]) for row in await book.fetch(_ZIPPED)]
    if any(text.encode() in body for body in zipped):
        found["compressed bodies"] = zipped
    return found
