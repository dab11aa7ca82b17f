"""Finds a response in the book, for `GET /responses/{id}` when its upstream cannot answer (`llm/stored.py`).

Only to the key that asked for it, and to administrators, whose reading is recorded; never once its deletion was asked.
"""

from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import parse_qs

import asyncpg
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.audit import note_reads
from api.auth import Caller
from api.book import Book
from api.errors import ApiFailure
from api.routes.reading import snapshot
from ledger.errors import LedgerUnavailableError
from ledger.postgres.connect import CONNECTION_LOST
from ledger.projections.projector import ProjectionLagError, ProjectionStoppedError
from ledger.reports.events import Answer, Place, Reception, answer, request_of
from ledger.reports.pages import page_of_answer
from ledger.reports.timeline import Step, ending_of, holdings_of, steps_of
from llm.encodings import EncodingError, decode
from llm.json_spans import scan_object
from llm.json_text import JsonError
from llm.request import ClientRequest, read_mapping
from llm.sse import BlockSplitter, data
from llm.stored import StoredAnswer
from llm.terminal import read_terminal

#: A larger answer is not given from the book: it is held in memory while it is searched.
_ANSWER_BYTES_MAX: Final = 64 * 1024 * 1024
_FOLD_WAIT_S: Final = 2.0
_DIGITS_MAX: Final = 18
_OK: Final = 200
_FINAL: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})
_SSE: Final = "text/event-stream"

#: Who made it and who read it, the making first, then the latest reads.
_CALLS: Final = text("""
    SELECT call_id, journal_id, key_id, method, path, http_status, bodies_stored FROM ledger.calls
    WHERE response_id = :response_id AND received_at IS NOT NULL
      AND (path = :path AND method = 'GET' OR path = '/responses' AND method = 'POST')
    ORDER BY method DESC, received_at DESC LIMIT 20
""")
_DELETED: Final = text("""
    SELECT EXISTS (SELECT FROM ledger.calls WHERE method = 'DELETE' AND path = :path AND status <> 'rejected')
""")


class StoredResponses:
    """The responses of a book."""

    def __init__(self, book: Book, reads: AsyncEngine) -> None:
        self._book = book
        self._reads = reads

    def asked_by(self, request: ClientRequest, caller: Caller, *, is_noted: bool) -> "AskedResponse | None":
        """Return what looks up the response that a request asks for; None where it does not ask for one.

        `is_noted`: that another key's response is read is recorded already.
        """
        parts = request.path.split("/")
        if request.method != "GET" or len(parts) != len(("", "responses", "id")):
            return None
        return AskedResponse(self._book, self._reads, request, caller, is_noted)


@dataclass(frozen=True, slots=True)
class AskedResponse:
    """One response, as one caller asks for it; a `llm.stored.StoredAnswers`."""

    book: Book
    reads: AsyncEngine
    request: ClientRequest
    caller: Caller
    is_noted: bool

    async def find(self, *, is_refused: bool) -> StoredAnswer | None:
        """Return the final response; None where the book does not hold it, or must not give it."""
        try:
            await self._fold()
            async with snapshot(self.reads) as connection:
                found = await self._found(connection, is_refused=is_refused)
            if found is None:
                return None
            owner, stored = found
            if not self.is_noted:
                whose = {stored.source: Reception(owner, has_bodies=True)}
                actor = self.caller.key_id
                await note_reads(self.book.journals, actor, whose, shown="response", through=self.request.path)
        except (
            ApiFailure,
            LedgerUnavailableError,
            ProjectionLagError,
            ProjectionStoppedError,
            asyncpg.PostgresError,
            *CONNECTION_LOST,
        ):
            # The book cannot tell now, or not whether a deletion was asked: the upstream's own failure is passed on.
            return None
        return stored

    async def _fold(self) -> None:
        """Have what this process has written folded, so that a deletion just before is known."""
        writer = self.book.journals.current
        await self.book.projector.passed("calls", writer.journal_id, writer.acknowledged_seq, timeout_s=_FOLD_WAIT_S)

    async def _found(self, connection: AsyncConnection, *, is_refused: bool) -> tuple[str, StoredAnswer] | None:
        path = self.request.path
        response_id = path.split("/")[2]
        if await connection.scalar(_DELETED, {"path": path}):
            return None
        calls = (await connection.execute(_CALLS, {"response_id": response_id, "path": path})).mappings().all()
        made = next((row for row in reversed(calls) if row["method"] == "POST"), None)
        if made is None or not (self.caller.is_admin or made["key_id"] == self.caller.key_id):
            return None
        if is_refused and not await _was_to_be_stored(connection, Place(made["journal_id"], made["call_id"])):
            return None
        for row in calls:
            if row["key_id"] == made["key_id"] and row["bodies_stored"] and row["http_status"] == _OK:
                stored = await self._stored(connection, Place(row["journal_id"], row["call_id"]), response_id)
                if stored is not None:
                    return made["key_id"], stored
        return None

    async def _stored(self, connection: AsyncConnection, place: Place, response_id: str) -> StoredAnswer | None:
        """Return the response as that call was answered with it, if it was final and its bytes are there."""
        head = await answer(connection, place)
        ending = ending_of(await steps_of(connection, place))
        if head is None or head.own is not None or not _is_final(ending):
            return None
        held = await holdings_of(connection, place, head=head.after)
        if held.bytes > _ANSWER_BYTES_MAX:
            return None
        raw = await _bytes_of(connection, place, head)
        headers = dict(head.headers)
        try:
            body = raw if held.is_decoded else decode(raw, headers.get("content-encoding"), _ANSWER_BYTES_MAX)
        except EncodingError:
            return None
        kind = headers.get("content-type", "application/json")
        blocks = _blocks(body) if kind.startswith(_SSE) else None
        whole = body if blocks is None else _response_in(blocks)
        response = None if whole is None else read_mapping(whole)
        if whole is None or response is None or response.get("id") != response_id:
            return None
        if not self.request.is_stream:
            return StoredAnswer(place.call_id, "application/json", whole, response, held.is_altered)
        rest = None if blocks is None else _after(blocks, self.request.query)
        return None if rest is None else StoredAnswer(place.call_id, kind, rest, response, held.is_altered)


def _is_final(ending: Step | None) -> bool:
    return (
        ending is not None and ending.facts.get("response_status") in _FINAL and ending.facts.get("served_from") is None
    )


async def _was_to_be_stored(connection: AsyncConnection, place: Place) -> bool:
    """Tell whether the request did not say `store: false`, where the book knows."""
    request = await request_of(connection, place, bytes_max=_ANSWER_BYTES_MAX)
    if request is None:
        return False
    try:
        return scan_object(decode(request.body, request.content_encoding, _ANSWER_BYTES_MAX)).get("store") is not False
    except (EncodingError, JsonError):
        return False


async def _bytes_of(connection: AsyncConnection, place: Place, head: Answer) -> bytes:
    pieces: list[bytes] = []
    after, has_more = head.after, True
    while has_more:
        page = await page_of_answer(connection, place, head=head.after, after=after)
        has_more = page.has_more
        for event in page.events:
            after = event.version or 0
            pieces.append(event.body or b"")
    return b"".join(pieces)


def _blocks(stream: bytes) -> list[bytes]:
    splitter = BlockSplitter(_ANSWER_BYTES_MAX)
    blocks = [bytes(block) for block in splitter.feed(stream)]
    rest = splitter.close()
    return [*blocks, bytes(rest)] if rest else blocks


def _response_in(blocks: list[bytes]) -> bytes | None:
    """Return the bytes of the Response object in a stream's terminal event."""
    for block in reversed(blocks):
        terminal = read_terminal(block)
        if terminal is not None and terminal.response is not None:
            return scan_object(data(block)).raw("response")
    return None


def _after(blocks: list[bytes], query: str) -> bytes | None:
    """Return the blocks behind `starting_after`, all without it; None where it is no number that could be one."""
    given = parse_qs(query).get("starting_after")
    if given is None:
        return b"".join(blocks)
    number = given[-1]
    if not (number.isascii() and number.isdecimal()) or len(number) > _DIGITS_MAX:
        return None
    for place, block in enumerate(blocks):
        sequence_number = _sequence_number(block)
        if sequence_number is not None and sequence_number > int(number):
            return b"".join(blocks[place:])
    return b""


def _sequence_number(block: bytes) -> Any:
    event = read_mapping(data(block))
    number = None if event is None else event.get("sequence_number")
    return number if isinstance(number, int) else None
