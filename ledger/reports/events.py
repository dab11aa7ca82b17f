"""What the events of one call say: the events themselves, and the answer's bytes for a replay.

A call's events lie in one journal; `find` says in which, so that no other day is searched. Only corrections of its cost
may lie elsewhere.
"""

from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping, text
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.events import CALL_REJECTED, ENDINGS, Event

EVENTS_MAX = 10_000

_COLUMNS = "journal_id, seq, call_id, version, type, schema, recorded_at, facts, chain"
_MICROSECOND = timedelta(microseconds=1)

#: Without the projection: it may lag, and a call can be asked for as soon as its first event is durable.
_FIND = text("""
    SELECT journal_id FROM ledger.events
    WHERE call_id = :call_id AND version = 0 AND type = 'call.received'
      AND (CAST(:scope AS text) IS NULL OR facts->>'key_id' = :scope)
""")
_FIND_FOLDED = text("""
    SELECT journal_id FROM ledger.calls
    WHERE call_id = :call_id AND received_at IS NOT NULL AND (CAST(:scope AS text) IS NULL OR key_id = :scope)
""")
_EVENTS = """
    SELECT @columns@ FROM ledger.events
    WHERE journal_id = :journal_id AND call_id = :call_id AND version > :after ORDER BY version LIMIT :limit
"""
_CORRECTIONS = text(f"""
    SELECT {_COLUMNS}, NULL::bytea AS body FROM ledger.events
    WHERE call_id = :call_id AND journal_id <> :journal_id AND type = 'cost.corrected' ORDER BY journal_id, seq
""").columns(facts=JSONB())  # noqa: S608 the columns are a constant
_RECEPTIONS = text("""
    SELECT e.call_id, coalesce(e.facts->>'key_id', '') AS key_id,
        e.facts->>'store_bodies' IS DISTINCT FROM 'none' AS has_bodies
    FROM unnest(CAST(:journals AS uuid[]), CAST(:calls AS uuid[])) AS c (journal_id, call_id)
    JOIN ledger.events AS e ON e.journal_id = c.journal_id AND e.call_id = c.call_id AND e.version = 0
""")
_REQUEST_HEAD = text("""
    SELECT coalesce(facts->>'content_encoding', '') AS content_encoding,
        coalesce((facts->>'body_bytes')::bigint, 0) AS bytes,
        body IS NOT NULL AND NOT facts ? 'withheld_bytes' AS is_whole
    FROM ledger.events WHERE journal_id = :journal_id AND call_id = :call_id AND version = 0
""")
_REQUEST = text("""
    SELECT body FROM ledger.events
    WHERE journal_id = :journal_id AND call_id = :call_id
      AND (version = 0 OR (type = 'body.part' AND (facts->>'of')::integer = 0))
    ORDER BY version
""")
_SOURCE = text("""
    SELECT facts->>'source_call_id' FROM ledger.events
    WHERE journal_id = :journal_id AND call_id = :call_id AND type = 'call.completed' AND facts ? 'source_call_id'
""")
#: The attempt whose answer was relayed is the last one that was started.
_HEAD = text("""
    SELECT s.version, s.recorded_at AS started_at, a.recorded_at AS answered_at, a.facts AS answered
    FROM ledger.events AS s
    LEFT JOIN ledger.events AS a ON a.journal_id = s.journal_id AND a.call_id = s.call_id
        AND a.type = 'attempt.answered' AND a.version > s.version
    WHERE s.journal_id = :journal_id AND s.call_id = :call_id AND s.type = 'attempt.started'
    ORDER BY s.version DESC LIMIT 1
""").columns(answered=JSONB())
#: An end with a body is an answer that the proxy gave itself; a rejection always is one.
_OWN = text("""
    SELECT type, version, recorded_at, facts, body FROM ledger.events
    WHERE journal_id = :journal_id AND call_id = :call_id AND type = ANY (:endings)
      AND (body IS NOT NULL OR type = 'call.rejected')
    ORDER BY version LIMIT 1
""").columns(facts=JSONB())
#: Parts of the request's body are `of` the first event, and not of the answer.
_PIECES = text("""
    SELECT recorded_at, body FROM ledger.events
    WHERE journal_id = :journal_id AND call_id = :call_id AND version > :after AND body IS NOT NULL
      AND (type IN ('chunk.received', 'body.received')
           OR (type = 'body.part' AND (facts->>'of')::integer > :after))
    ORDER BY version
""")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a call's events are."""

    journal_id: UUID
    call_id: UUID


@dataclass(frozen=True, slots=True)
class Reception:
    """What the first event of a call says of all that follow: whose it is, and whether its bodies are stored."""

    key_id: str
    has_bodies: bool


@dataclass(frozen=True, slots=True)
class Request:
    """A request's bytes as they are stored, in the coding that they are stored in."""

    body: bytes
    content_encoding: str


@dataclass(frozen=True, slots=True)
class Answer:
    """The head of a recorded answer: the upstream's, or one that the proxy gave itself.

    `after` is the version of the event behind which the upstream's bytes begin; `own` holds the whole body of the
    proxy's own answer, None for an upstream's. `rejection` is the error of a call that was refused; where its body was
    not recorded, it says what the body said.
    """

    status: int
    headers: tuple[tuple[str, str], ...]
    answered_at: datetime
    after: int
    rejection: dict[str, Any] | None = None
    own: bytes | None = None


async def find(connection: AsyncConnection, call_id: UUID, *, scope: str | None = None) -> Place | None:
    """Say where a call's events are; None where there is no such call, or it is another key's."""
    for query in (_FIND_FOLDED, _FIND):
        journal_id = await connection.scalar(query, {"call_id": call_id, "scope": scope})
        if journal_id is not None:
            return Place(journal_id, call_id)
    return None


async def receptions_of(connection: AsyncConnection, places: Iterable[Place]) -> dict[UUID, Reception]:
    """Return whose calls these are and whether their bodies are stored, by call id."""
    wanted = list(places)
    parameters = {"journals": [place.journal_id for place in wanted], "calls": [place.call_id for place in wanted]}
    rows = await connection.execute(_RECEPTIONS, parameters)
    return {row.call_id: Reception(row.key_id, row.has_bodies) for row in rows}


async def request_of(connection: AsyncConnection, place: Place, *, bytes_max: int) -> Request | None:
    """Return the bytes of a call's request; None where they are not in the book, or more than `bytes_max`."""
    parameters = {"journal_id": place.journal_id, "call_id": place.call_id}
    head = (await connection.execute(_REQUEST_HEAD, parameters)).mappings().one_or_none()
    if head is None or not head["is_whole"] or head["bytes"] > bytes_max:
        return None
    pieces = await connection.scalars(_REQUEST, parameters)
    return Request(b"".join(bytes(piece) for piece in pieces), head["content_encoding"])


async def source_of(connection: AsyncConnection, place: Place) -> UUID | None:
    """Return the call whose recorded answer this one was answered with; None where an upstream answered."""
    source = await connection.scalar(_SOURCE, {"journal_id": place.journal_id, "call_id": place.call_id})
    return None if source is None else UUID(source)


async def events_of(
    connection: AsyncConnection,
    place: Place,
    *,
    scope: str | None = None,
    after: int = -1,
    limit: int = 1_000,
    bodies: bool = True,
) -> list[Event]:
    """Return a call's events in order, those with a version above `after`, at most `limit`; none of another key's.

    Raises:
        ValueError: `limit` is not within 1 and EVENTS_MAX.
    """
    if not 1 <= limit <= EVENTS_MAX:
        raise ValueError(f"From 1 to {EVENTS_MAX} events at a time: got {limit}.")
    if not await _may_see(connection, place, scope):
        return []
    columns = f"{_COLUMNS}, {'body' if bodies else 'NULL::bytea AS body'}"
    parameters = {"journal_id": place.journal_id, "call_id": place.call_id, "after": after, "limit": limit}
    rows = await connection.execute(text(_EVENTS.replace("@columns@", columns)).columns(facts=JSONB()), parameters)
    return [_event(row) for row in rows.mappings()]


async def corrections_of(connection: AsyncConnection, place: Place, *, scope: str | None = None) -> list[Event]:
    """Return the corrections of a call's cost that lie in other journals than the call."""
    if not await _may_see(connection, place, scope):
        return []
    rows = await connection.execute(_CORRECTIONS, {"journal_id": place.journal_id, "call_id": place.call_id})
    return [_event(row) for row in rows.mappings()]


async def answer(connection: AsyncConnection, place: Place, *, scope: str | None = None) -> Answer | None:
    """Return the head of the answer that was relayed; None where there was none yet, or the call is another key's."""
    if not await _may_see(connection, place, scope):
        return None
    parameters = {"journal_id": place.journal_id, "call_id": place.call_id}
    own = (await connection.execute(_OWN, {**parameters, "endings": sorted(ENDINGS)})).mappings().one_or_none()
    if own is not None:
        return _own_answer(own)
    head = (await connection.execute(_HEAD, parameters)).mappings().one_or_none()
    if head is None:
        return None
    if head["answered"] is None:
        return None
    headers = tuple((name, value) for name, value in head["answered"]["headers"])
    return Answer(head["answered"]["status"], headers, head["answered_at"].astimezone(UTC), head["version"])


async def answer_bytes(connection: AsyncConnection, place: Place, head: Answer) -> AsyncIterator[tuple[int, bytes]]:
    """Yield the answer's bytes as they were recorded: (microseconds since its head, bytes), in order.

    Reads as it goes, so that an answer of any size costs little memory; the connection is busy until the end. `head`
    is what `answer` gave for this call, and carries its permission.
    """
    if head.own is not None:
        yield 0, head.own
        return
    parameters = {"journal_id": place.journal_id, "call_id": place.call_id, "after": head.after}
    rows = await connection.stream(_PIECES, parameters, execution_options={"yield_per": 50})
    async for row in rows:
        yield max(0, (row.recorded_at - head.answered_at) // _MICROSECOND), bytes(row.body)


def _own_answer(row: RowMapping) -> Answer:
    facts = row["facts"]
    is_rejection = row["type"] == CALL_REJECTED
    body = row["body"]
    return Answer(
        status=facts["status"] if is_rejection else facts["http_status"],
        headers=() if body is None else (("content-type", "application/json"),),
        answered_at=row["recorded_at"].astimezone(UTC),
        after=row["version"],
        rejection=facts["error"] if is_rejection else None,
        own=None if body is None else bytes(body),
    )


async def _may_see(connection: AsyncConnection, place: Place, scope: str | None) -> bool:
    if scope is None:
        return True
    query = text("""
        SELECT facts->>'key_id' = :scope FROM ledger.events
        WHERE journal_id = :journal_id AND call_id = :call_id AND version = 0
    """)
    parameters = {"journal_id": place.journal_id, "call_id": place.call_id, "scope": scope}
    return bool(await connection.scalar(query, parameters))


def _event(row: RowMapping) -> Event:
    return Event(**{**row, "recorded_at": row["recorded_at"].astimezone(UTC)})
