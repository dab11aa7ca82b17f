"""How far the projections are behind the book. Health goes by age, not by count; `fold.py` does the catching up."""

from dataclasses import dataclass

import asyncpg

_LAG = """
SELECT p.name, coalesce(sum(head.seq - c.folded_seq), 0)::bigint AS events_behind,
    coalesce(extract(epoch FROM clock_timestamp() - min(oldest.recorded_at)), 0)::float8 AS age_s,
    count(c.stopped_by) AS stopped
FROM ledger.projections AS p
LEFT JOIN ledger.checkpoints AS c ON c.projection = p.name AND NOT c.finished
LEFT JOIN LATERAL (
    SELECT seq FROM ledger.events WHERE journal_id = c.journal_id ORDER BY seq DESC LIMIT 1
) AS head ON true
LEFT JOIN LATERAL (
    SELECT recorded_at FROM ledger.events WHERE journal_id = c.journal_id AND seq = c.folded_seq + 1
) AS oldest ON true
GROUP BY p.name ORDER BY p.name
"""


@dataclass(frozen=True, slots=True)
class Lag:
    """What one projection has not folded yet; `stopped` counts the journals in which it stands still."""

    projection: str
    events_behind: int
    age_s: float
    stopped: int


async def lag(connection: asyncpg.Connection) -> list[Lag]:
    """Return the lag of each projection: events behind, and the age in seconds of the oldest event not folded.

    The age is the writer's clock against the database's, so it is never shown below zero.
    """
    rows = await connection.fetch(_LAG)
    return [Lag(row["name"], row["events_behind"], max(0.0, row["age_s"]), row["stopped"]) for row in rows]
