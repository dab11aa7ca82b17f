"""How long after it became durable an event is in the projections: sampled from outside, in the database itself.

A few dozen times a second one statement reads, for each journal that is being written, the seq of its last durable
event and the seq up to which each projection has folded it. An event counts as durable from the first sample that shows
it and as folded from the first that shows that, so a figure is off by one interval at the most.
"""

import asyncio
import statistics
import time
from collections import defaultdict, deque
from dataclasses import dataclass, field
from uuid import UUID

from ledger.postgres.connect import connect

EVERY_S = 0.02
_WHERE = """
SELECT c.projection, c.journal_id, c.folded_seq, head.seq
FROM ledger.checkpoints AS c
JOIN ledger.journals AS j USING (journal_id)
CROSS JOIN LATERAL (
    SELECT seq FROM ledger.events WHERE journal_id = c.journal_id ORDER BY seq DESC LIMIT 1
) AS head
WHERE NOT c.finished AND j.sealed_at IS NULL
"""


@dataclass
class Lags:
    """Milliseconds from durable to folded, by projection; what is not folded yet waits in `_pending`. Pure."""

    ms: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    _pending: dict[tuple[str, UUID], deque[tuple[int, float]]] = field(default_factory=lambda: defaultdict(deque))
    _seen: dict[tuple[str, UUID], int] = field(default_factory=dict)

    def note(self, projection: str, journal_id: UUID, folded_seq: int, durable_seq: int, now_s: float) -> None:
        """Take in one row of a sample."""
        place = (projection, journal_id)
        pending = self._pending[place]
        if durable_seq > self._seen.get(place, 0):
            # What was there before the first look has no known moment.
            if place in self._seen:
                pending.append((durable_seq, now_s))
            self._seen[place] = durable_seq
        while pending and pending[0][0] <= folded_seq:
            self.ms[projection].append((now_s - pending.popleft()[1]) * 1000)


@dataclass(frozen=True)
class LagFigures:
    """Of one projection, in milliseconds; `samples`: how many moments they come from."""

    p50_ms: float
    p99_ms: float
    max_ms: float
    samples: int


def figures(lags: Lags) -> dict[str, LagFigures]:
    """The figures by projection; those with fewer than two samples are left out."""
    return {
        name: LagFigures(statistics.median(ms), statistics.quantiles(ms, n=100)[98], max(ms), len(ms))
        for name, ms in sorted(lags.ms.items())
        if len(ms) > 1
    }


async def sample(url: str, lags: Lags, until: asyncio.Event) -> None:
    """Sample until told to end."""
    connection = await connect(url, purpose="benchmark", role=None)
    try:
        while not until.is_set():
            rows = await connection.fetch(_WHERE)
            now_s = time.monotonic()
            for row in rows:
                lags.note(row["projection"], row["journal_id"], row["folded_seq"], row["seq"], now_s)
            await asyncio.sleep(EVERY_S)
    finally:
        await connection.close()
