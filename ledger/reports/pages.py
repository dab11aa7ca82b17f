"""Events page by page, bounded in events and in bytes, so that no reader needs much memory or keeps a connection.

What is read is immutable: pages need no common transaction, but a page of the whole book is read in one. `events.py`
finds a call and checks whose it is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.events import CHUNK_RECEIVED
from ledger.reports.events import Place

EVENTS_MAX = 1_000
#: A page ends with the event that reaches this; one event has at most PART_BYTES_MAX.
PAGE_BYTES = 1024 * 1024

_EVENTS = """
    SELECT journal_id, seq, call_id, version, type, schema, recorded_at, facts, chain, octet_length(body) AS body_bytes
    FROM ledger.events WHERE @where@ ORDER BY @order@ LIMIT :limit
"""
#: Sizes are known without reading the bodies, so that only the page's own bodies are fetched.
_BODIES = "SELECT journal_id, seq, body FROM ledger.events WHERE @where@ ORDER BY @order@ LIMIT :limit"
_OF_CALL = "journal_id = :journal_id AND call_id = :call_id AND version > :after"
_OF_ANSWER = f"""{_OF_CALL} AND body IS NOT NULL AND (type IN ('chunk.received', 'body.received')
    OR (type = 'body.part' AND (facts->>'of')::integer > :head))"""
#: One condition for both would read the journal's index from its beginning.
_OF_JOURNAL = "journal_id = :journal_id AND seq > :after"
_OF_LATER_JOURNALS = "journal_id > :journal_id"
_OF_TYPE = " AND type = :type"
#: Said once more as a constant, so that the index without the chunks can be used.
_NO_CHUNKS = f" AND type <> '{CHUNK_RECEIVED}'"


@dataclass(frozen=True, slots=True)
class PagedEvent:
    """An event, with its body where bodies were asked for; `body_bytes` None: it has none."""

    journal_id: UUID
    seq: int
    call_id: UUID | None
    version: int | None
    type: str
    schema: int
    recorded_at: datetime
    facts: dict[str, Any]
    chain: bytes | None
    body_bytes: int | None
    body: bytes | None


@dataclass(frozen=True, slots=True)
class Page:
    """Events in order; `has_more`: there are further ones."""

    events: tuple[PagedEvent, ...]
    has_more: bool


async def page_of_call(connection: AsyncConnection, place: Place, *, after: int, limit: int, bodies: bool) -> Page:
    """Return a call's events with a version above `after`, in order.

    Raises:
        ValueError: `limit` is not within 1 and EVENTS_MAX.
    """
    return await _page(connection, _OF_CALL, "version", {**_place(place), "after": after}, limit, bodies=bodies)


async def page_of_answer(connection: AsyncConnection, place: Place, *, head: int, after: int) -> Page:
    """Return the pieces of an answer whose head is the event of version `head`, those with a version above `after`."""
    return await _page(
        connection, _OF_ANSWER, "version", {**_place(place), "head": head, "after": after}, EVENTS_MAX, bodies=True
    )


async def page_of_book(
    connection: AsyncConnection,
    *,
    after: tuple[UUID, int],
    limit: int,
    bodies: bool,
    one_journal: bool = False,
    type_: str | None = None,
) -> Page:
    """Return events by journal and seq, those behind `after`; with `one_journal` of that journal only.

    Journals are written at the same time: whoever follows the book keeps a place in each.

    Raises:
        ValueError: `limit` is not within 1 and EVENTS_MAX.
    """
    values: dict[str, Any] = {"journal_id": after[0], "after": after[1]}
    which = ""
    if type_ is not None:
        values["type"] = type_
        which = _OF_TYPE if type_ == CHUNK_RECEIVED else _OF_TYPE + _NO_CHUNKS
    order = "journal_id, seq"
    page = await _page(connection, _OF_JOURNAL + which, order, values, limit, bodies=bodies)
    if one_journal or page.has_more:
        return page
    del values["after"]
    rest = limit - len(page.events)
    if rest == 0:
        later = await _page(connection, _OF_LATER_JOURNALS + which, order, values, 1, bodies=False)
        return Page(page.events, has_more=bool(later.events))
    later = await _page(connection, _OF_LATER_JOURNALS + which, order, values, rest, bodies=bodies)
    return Page(page.events + later.events, has_more=later.has_more)


def _place(place: Place) -> dict[str, Any]:
    return {"journal_id": place.journal_id, "call_id": place.call_id}


async def _page(
    connection: AsyncConnection, where: str, order: str, values: Mapping[str, Any], limit: int, *, bodies: bool
) -> Page:
    if not 1 <= limit <= EVENTS_MAX:
        raise ValueError(f"A page has from 1 to {EVENTS_MAX} events: got {limit}.")
    events = text(_EVENTS.replace("@where@", where).replace("@order@", order)).columns(facts=JSONB())
    rows = (await connection.execute(events, {**values, "limit": limit + 1})).mappings().all()
    count = min(len(rows), limit)
    stored: dict[tuple[UUID, int], bytes | None] = {}
    if bodies:
        count = _fitting(rows[:count])
        query = text(_BODIES.replace("@where@", where).replace("@order@", order))
        fetched = await connection.execute(query, {**values, "limit": count})
        stored = {(row.journal_id, row.seq): row.body for row in fetched}
    shown = tuple(
        PagedEvent(
            **{**row, "recorded_at": row["recorded_at"].astimezone(UTC)},
            body=stored.get((row["journal_id"], row["seq"])),
        )
        for row in rows[:count]
    )
    return Page(shown, has_more=len(rows) > count)


def _fitting(rows: Sequence[RowMapping]) -> int:
    """Return how many of the first rows make a page: up to the one with which their bodies reach PAGE_BYTES."""
    size = 0
    for count, row in enumerate(rows, 1):
        size += row["body_bytes"] or 0
        if size >= PAGE_BYTES:
            return count
    return len(rows)
