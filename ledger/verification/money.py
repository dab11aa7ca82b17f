"""Charges across journals: corrections follow what they correct, and every charge names a published price."""

from typing import Final
from uuid import UUID

import asyncpg

from ledger.events import COST_CORRECTED, COST_RECORDED
from ledger.verification.findings import Report
from ledger.verification.stream import Stored

#: Different prices that are remembered while they are looked for; a book names some thousands at most.
PRICES_MAX: Final = 100_000

_REVISIONS = """
SELECT call_id, facts->>'attempt' AS attempt, array_agg(facts->>'revision' ORDER BY seq) AS revisions
FROM ledger.events WHERE call_id = ANY ($1::uuid[]) AND type IN ('cost.recorded', 'cost.corrected')
GROUP BY call_id, facts->>'attempt' ORDER BY call_id, attempt
"""
#: That they belong to no call lets an index find them among millions of others.
_PUBLISHED = """
SELECT DISTINCT facts->'price'->>'price_id' AS price_id FROM ledger.events
WHERE call_id IS NULL AND type = 'price.published' AND facts->'price'->>'price_id' = ANY ($1::text[])
"""


async def check_corrections(connection: asyncpg.Connection, call_ids: set[UUID], report: Report) -> None:
    """Check of calls whose cost was corrected that each attempt's revisions are 1, 2, 3 and so on, each once."""
    for row in await connection.fetch(_REVISIONS, sorted(call_ids)):
        # As text, since they need not be numbers; the shorter number is the lesser one.
        revisions = sorted((str(revision) for revision in row["revisions"]), key=lambda text: (len(text), text))
        report.counts["corrections"] += sum(revision != "1" for revision in revisions)
        if revisions != [str(number) for number in range(1, len(revisions) + 1)]:
            shown = ", ".join(revisions[:20])
            message = (
                f"the cost of attempt {row['attempt']} has revisions {shown}; 1, 2, 3 and so on are due, each once"
            )
            report.find("one cost an attempt", message, call_id=row["call_id"])


class PricesCheck:
    """Takes events, and remembers which prices costs name; `close` looks whether they were published."""

    def __init__(self) -> None:
        self._named: dict[str, tuple[UUID, int]] = {}

    def take(self, event: Stored) -> None:
        """Note the price that a cost names."""
        if event.type in {COST_RECORDED, COST_CORRECTED}:
            for price_id in (event.text("price_id"), *event.texts("items", "price_id")):
                if price_id is not None and price_id not in self._named and len(self._named) < PRICES_MAX:
                    self._named[price_id] = (event.journal_id, event.seq)

    async def close(self, connection: asyncpg.Connection, report: Report) -> None:
        """Find the prices that costs name and nobody published."""
        published = {row["price_id"] for row in await connection.fetch(_PUBLISHED, list(self._named))}
        report.counts["prices"] += len(self._named)
        for price_id in sorted(self._named.keys() - published):
            journal_id, seq = self._named[price_id]
            message = f"the cost names price {price_id}, which was never published"
            report.find("prices", message, journal_id=journal_id, seq=seq)
