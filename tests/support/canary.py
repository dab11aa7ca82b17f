"""Looks for a text in everything that a database holds: every table of the book, texts and bytes alike."""

from typing import Any

from tests.support.proxy_book import Book

_TABLES = """
SELECT c.oid::regclass::text AS name FROM pg_class c
WHERE c.relnamespace IN ('ledger'::regnamespace, 'public'::regnamespace) AND c.relkind = 'r' ORDER BY 1
"""


async def tables_with(book: Book, text: str) -> dict[str, list[Any]]:
    """Return the rows that hold `text`, as text or within bytes, by table; {} where it is nowhere."""
    found: dict[str, list[Any]] = {}
    tables = [row["name"] for row in await book.fetch(_TABLES)]
    assert len(tables) > 8, tables
    for table in tables:
        # A row as text spells bytes in hexadecimal.
        rows = await book.fetch(
            f"SELECT t::text AS row FROM {table} t WHERE strpos(t::text, $1) > 0 OR strpos(t::text, $2) > 0 LIMIT 5",  # noqa: S608 - a name from the catalogue
            text,
            text.encode().hex(),
        )
        if rows:
            found[table] = [row["row"][:2_000] for row in rows]
    return found
