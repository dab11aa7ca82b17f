"""Folds one batch: decides which events, runs a projection's statements over exactly these, moves the checkpoints.

Everything here happens in the caller's transaction, so rows and checkpoints change together. `projector.py` decides
when and holds the lock; `rebuild.py` folds into other tables with the same code.
"""

from dataclasses import dataclass
from uuid import UUID

import asyncpg

from ledger.projections.definition import Projection

LIVE = "ledger"

#: What an event that cannot be read raises: bad data, a missing fact, an index's limit. Everything else is the
#: database's trouble and is tried again.
UNREADABLE = (
    asyncpg.DataError,
    asyncpg.IntegrityConstraintViolationError,
    asyncpg.exceptions.ProgramLimitExceededError,
)

_UNFINISHED = """
SELECT journal_id, folded_seq FROM @target@.checkpoints
WHERE projection = $1 AND NOT finished AND stopped_by IS NULL ORDER BY journal_id
"""

_HEADS = """
FROM unnest($1::uuid[], $2::bigint[], $4::bigint[]) AS s (journal_id, lo, most)
CROSS JOIN LATERAL (
    SELECT seq FROM ledger.events
    WHERE journal_id = s.journal_id AND journal_id = ANY ($1::uuid[]) AND seq <= s.most ORDER BY seq DESC LIMIT 1
) AS head
"""
_TAKEN = """
LEFT JOIN LATERAL (
    SELECT seq FROM ledger.events
    WHERE journal_id = s.journal_id AND journal_id = ANY ($1::uuid[])
      AND seq > s.lo AND seq <= head.seq AND type <> 'chunk.received'
    ORDER BY seq OFFSET $3 - 1 LIMIT 1
) AS taken ON true
"""
#: The upper bound of a batch is read here, once for each journal, and nowhere else. READ COMMITTED shows every
#: statement newer events; a second reading would move the checkpoint past events that the fold before it did not see.
#: At most $3 events a journal are taken, chunks not counted: the bound is then the place of the last one taken.
_SPANS = f"""
SELECT s.journal_id, s.lo, coalesce(taken.seq, head.seq) AS hi {_HEADS} {_TAKEN}
WHERE head.seq > s.lo ORDER BY s.journal_id
"""

#: The same of the oldest journals alone, of as many as hold $3 events: a batch is then some hours or days of the book,
#: whose sums are few and lie together, and not a little of every day. Newer journals wait, as in a rebuild they may.
_SPANS_IN_TURN = f"""
WITH heads AS (
    SELECT s.journal_id, s.lo, head.seq, sum(head.seq - s.lo) OVER (ORDER BY s.journal_id) - (head.seq - s.lo) AS before
    {_HEADS} WHERE head.seq > s.lo
)
SELECT s.journal_id, s.lo, coalesce(taken.seq, head.seq) AS hi
FROM heads AS s CROSS JOIN LATERAL (SELECT s.seq) AS head {_TAKEN}
WHERE s.before < $3 ORDER BY s.journal_id
"""  # noqa: S608 constants of this file

#: journal.sealed is a journal's last event, so it can only stand at the upper bound.
_MOVE = """
UPDATE @target@.checkpoints AS c SET folded_seq = s.reached, stopped_by = s.stopped_by, finished = EXISTS (
    SELECT FROM ledger.events
    WHERE journal_id = s.journal_id AND journal_id = ANY ($2::uuid[])
      AND seq = s.reached AND type = 'journal.sealed'
)
FROM unnest($2::uuid[], $3::bigint[], $4::text[]) AS s (journal_id, reached, stopped_by)
WHERE c.projection = $1 AND c.journal_id = s.journal_id
"""

_SKIPPED = "SELECT EXISTS (SELECT FROM ledger.skipped_events WHERE projection = $1 AND journal_id = $2 AND seq = $3)"

_FOREVER = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Span:
    """Events of one journal: above `lo`, up to and with `hi`."""

    journal_id: UUID
    lo: int
    hi: int


@dataclass(frozen=True, slots=True)
class Reached:
    """How far a span was folded, and why not further (None: to its end)."""

    journal_id: UUID
    seq: int
    stopped_by: str | None = None


async def spans(
    connection: asyncpg.Connection,
    projection: Projection,
    *,
    batch_events: int,
    target: str = LIVE,
    up_to: dict[UUID, int] | None = None,
    in_turn: bool = False,
) -> list[Span]:
    """Read what is to be folded next: of all unfinished journals together about `batch_events` events without chunks.

    `in_turn`: of the oldest journals first, up to twice as many events. `up_to` bounds the seq of each journal (0 for
    those that it does not name); None: everything there is.
    """
    unfinished = await connection.fetch(_UNFINISHED.replace("@target@", target), projection.name)
    if not unfinished:
        return []
    journals = [row["journal_id"] for row in unfinished]
    limits = [_FOREVER if up_to is None else up_to.get(journal, 0) for journal in journals]
    each = batch_events if in_turn else max(1, batch_events // len(journals))
    statement = _SPANS_IN_TURN if in_turn else _SPANS
    rows = await connection.fetch(statement, journals, [row["folded_seq"] for row in unfinished], each, limits)
    return [Span(row["journal_id"], row["lo"], row["hi"]) for row in rows]


async def fold(
    connection: asyncpg.Connection,
    projection: Projection,
    work: list[Span],
    *,
    batch: int,
    careful: bool = False,
    target: str = LIVE,
) -> None:
    """Fold `work` and move the checkpoints, in the caller's transaction.

    `careful` isolates an event that cannot be read: its journal stops before it, visibly, and all others go on. It
    costs savepoints, so it is for the second try.

    Raises:
        UNREADABLE: an event cannot be read, and `careful` is off. The transaction is lost; try again carefully.
    """
    if careful:
        reached = [await _fold_carefully(connection, projection, span, batch=batch, target=target) for span in work]
    else:
        await run(connection, projection, work, batch=batch, target=target)
        reached = [Reached(span.journal_id, span.hi) for span in work]
    await connection.execute(
        _MOVE.replace("@target@", target),
        projection.name,
        [end.journal_id for end in reached],
        [end.seq for end in reached],
        [end.stopped_by for end in reached],
    )


async def run(
    connection: asyncpg.Connection, projection: Projection, work: list[Span], *, batch: int, target: str
) -> None:
    """Run a projection's statements over `work`; the checkpoints are the caller's to move."""
    bounds: list[object] = [
        [span.journal_id for span in work],
        [span.lo for span in work],
        [span.hi for span in work],
    ]
    arguments = [*bounds, batch] if projection.numbered else bounds
    for statement in projection.statements_into(target):
        await connection.execute(statement, *arguments)


async def _fold_carefully(
    connection: asyncpg.Connection, projection: Projection, span: Span, *, batch: int, target: str
) -> Reached:
    """Halve the span until the event that cannot be read stands alone; fold all before it."""
    try:
        async with connection.transaction():
            await run(connection, projection, [span], batch=batch, target=target)
    except UNREADABLE as error:
        if span.hi - span.lo == 1:
            if await connection.fetchval(_SKIPPED, projection.name, span.journal_id, span.hi):
                return Reached(span.journal_id, span.hi)
            return Reached(span.journal_id, span.lo, f"event {span.hi}: {error}")
    else:
        return Reached(span.journal_id, span.hi)
    middle = (span.lo + span.hi) // 2
    first = await _fold_carefully(
        connection, projection, Span(span.journal_id, span.lo, middle), batch=batch, target=target
    )
    if first.stopped_by is not None:
        return first
    rest = Span(span.journal_id, middle, span.hi)
    return await _fold_carefully(connection, projection, rest, batch=batch, target=target)
