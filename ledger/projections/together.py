"""Folds one batch of several projections in one transaction: what a process under load does over and over.

One by one, each would take its own nine trips to the database, and every trip waits its turn in an event loop that is
busy with calls; together they share all but the folding itself. What a batch is, is `fold.py`'s; where one of them
meets an event that it cannot read, all is undone and `projector.py` folds them one by one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable
from uuid import UUID

import asyncpg

from ledger.projections.definition import Projection
from ledger.projections.fold import LIVE, Span, run

#: SKIP LOCKED: what another process folds is left to it, and nobody waits for anybody.
_RIGHTS_TO_FOLD = """
SELECT name, version, batch FROM ledger.projections WHERE name = ANY ($1::text[]) ORDER BY name
FOR NO KEY UPDATE SKIP LOCKED
"""
_UNFINISHED = """
SELECT projection, journal_id, folded_seq FROM ledger.checkpoints
WHERE projection = ANY ($1::text[]) AND NOT finished AND stopped_by IS NULL ORDER BY projection, journal_id
"""
#: As in `fold.py`: the one place where the upper bound of these batches is read.
_SPANS = """
SELECT s.projection, s.journal_id, s.lo, coalesce(taken.seq, head.seq) AS hi
FROM unnest($1::text[], $2::uuid[], $3::bigint[]) AS s (projection, journal_id, lo)
CROSS JOIN LATERAL (
    SELECT seq FROM ledger.events
    WHERE journal_id = s.journal_id AND journal_id = ANY ($2::uuid[]) ORDER BY seq DESC LIMIT 1
) AS head
LEFT JOIN LATERAL (
    SELECT seq FROM ledger.events
    WHERE journal_id = s.journal_id AND journal_id = ANY ($2::uuid[])
      AND seq > s.lo AND seq <= head.seq AND type <> 'chunk.received'
    ORDER BY seq OFFSET $4 - 1 LIMIT 1
) AS taken ON true
WHERE head.seq > s.lo
ORDER BY s.projection, s.journal_id
"""
_MOVE = """
UPDATE ledger.checkpoints AS c SET folded_seq = s.reached, finished = EXISTS (
    SELECT FROM ledger.events
    WHERE journal_id = s.journal_id AND journal_id = ANY ($2::uuid[])
      AND seq = s.reached AND type = 'journal.sealed'
)
FROM unnest($1::text[], $2::uuid[], $3::bigint[]) AS s (projection, journal_id, reached)
WHERE c.projection = s.projection AND c.journal_id = s.journal_id
"""
_NUMBER = "UPDATE ledger.projections SET batch = batch + 1 WHERE name = ANY ($1::text[])"

Fits = Callable[[Projection, int], bool]


async def fold_together(
    connection: asyncpg.Connection, projections: Iterable[Projection], fits: Fits, *, batch_events: int
) -> bool:
    """Fold one batch of each projection that has news and that nobody else folds; tell whether there was any.

    `fits` tells whether this process folds a projection that is at a version.

    Raises:
        UNREADABLE: an event cannot be read by one of them; nothing was folded.
    """
    by_name = {projection.name: projection for projection in projections}
    async with connection.transaction():
        rows = await connection.fetch(_RIGHTS_TO_FOLD, list(by_name))
        batches = {row["name"]: row["batch"] + 1 for row in rows if fits(by_name[row["name"]], row["version"])}
        work = await _spans(connection, list(batches), batch_events)
        if not work:
            return False
        for name, projection in by_name.items():
            if name in work:
                await run(connection, projection, work[name], batch=batches[name], target=LIVE)
        moved = [(name, span.journal_id, span.hi) for name, spans in work.items() for span in spans]
        await connection.execute(_MOVE, *(list(column) for column in zip(*moved, strict=True)))
        await connection.execute(_NUMBER, list(work))
    return True


async def _spans(connection: asyncpg.Connection, names: list[str], batch_events: int) -> dict[str, list[Span]]:
    """Read what is to be folded next, by projection; those that have nothing are left out."""
    unfinished = await connection.fetch(_UNFINISHED, names) if names else []
    if not unfinished:
        return {}
    columns = [list(column) for column in zip(*unfinished, strict=True)]
    journals: set[UUID] = set(columns[1])
    found: dict[str, list[Span]] = defaultdict(list)
    for row in await connection.fetch(_SPANS, *columns, max(1, batch_events // len(journals))):
        found[row["projection"]].append(Span(row["journal_id"], row["lo"], row["hi"]))
    return found
