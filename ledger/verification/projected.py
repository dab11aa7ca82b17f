"""What was computed from the events: equal to a rebuild, and its totals equal to the sum of the costs.

The first computes everything anew with the same folds; the second adds up the costs by a statement of its own, so that
a fault in a fold does not confirm itself.
"""

from decimal import Decimal
from typing import Any, Final

import asyncpg

from ledger.projections.catalogue import ALL
from ledger.projections.compare import compare
from ledger.verification.findings import Report

_ROW_CHARS: Final = 300

_STOPPED = "SELECT projection, journal_id, folded_seq, stopped_by FROM ledger.checkpoints WHERE stopped_by IS NOT NULL"

#: The costs that a projection has folded. Written another way than the folds on purpose.
_COSTS = """
SELECT coalesce(sum((e.facts->>'billed_usd')::numeric), 0) AS billed_usd,
    coalesce(sum((e.facts->>'estimated_usd')::numeric), 0) AS estimated_usd,
    coalesce(sum((e.facts->>'billed_usd')::numeric + (e.facts->>'estimated_usd')::numeric), 0) AS known_usd,
    coalesce(sum((e.facts->>'unknown')::numeric), 0) AS unknown,
    coalesce(sum((e.facts->>'calls')::numeric), 0) AS calls,
    count(*) FILTER (WHERE e.type = 'cost.recorded') AS attempts
FROM ledger.checkpoints AS c
JOIN ledger.events AS e ON e.journal_id = c.journal_id AND e.seq <= c.folded_seq
WHERE c.projection = $1 AND e.type <> 'chunk.received' AND e.type IN ('cost.recorded', 'cost.corrected')
  AND NOT EXISTS (
      SELECT FROM ledger.skipped_events AS s
      WHERE s.projection = $1 AND s.journal_id = e.journal_id AND s.seq = e.seq
  )
"""
_TOTALS: Final = {
    ("spend", "spend"): "sum(billed_usd) AS billed_usd, sum(estimated_usd) AS estimated_usd, "
    "sum(unknown_calls) AS unknown, sum(calls) AS calls, sum(attempts) AS attempts",
    ("spend", "key_totals"): "sum(billed_usd) AS billed_usd, sum(estimated_usd) AS estimated_usd, "
    "sum(unknown_calls) AS unknown, sum(calls) AS calls",
    ("spend", "end_user_totals"): "sum(billed_usd) AS billed_usd, sum(estimated_usd) AS estimated_usd, "
    "sum(unknown_calls) AS unknown, sum(calls) AS calls",
    ("line_items", "line_items"): "sum(amount_usd) FILTER (WHERE keyed) AS known_usd, "
    "sum(unknown_costs) FILTER (WHERE keyed) AS unknown",
    ("calls", "calls"): "sum(billed_usd) AS billed_usd, sum(estimated_usd) AS estimated_usd, sum(unknown) AS unknown",
}
#: A call lies in one journal. (A correction that was folded before its call makes a row without received_at.)
_TWICE = """
SELECT call_id, count(*) AS journals FROM ledger.calls WHERE received_at IS NOT NULL
GROUP BY call_id HAVING count(*) > 1 LIMIT 100
"""


async def check_stopped(connection: asyncpg.Connection, report: Report) -> None:
    """Find projections that stand before an event that they cannot read: what follows it is in no sum."""
    for row in await connection.fetch(_STOPPED):
        message = f"projection {row['projection']} has stopped: {row['stopped_by']}"
        report.find("projections", message, journal_id=row["journal_id"], seq=row["folded_seq"] + 1)


async def check_rebuilt(url: str, name: str, report: Report) -> None:
    """Compare a projection with what a rebuild would make of the same events."""
    for difference in await compare(url, name):
        side = "in the table, not in a rebuild" if difference.side == "found" else "in a rebuild, not in the table"
        shown = ", ".join(f"{column}={value}" for column, value in difference.row.items() if value not in (None, ""))
        report.find("projections", f"ledger.{difference.table}: {side}: {shown[:_ROW_CHARS]}")
    report.counts["projections"] += 1


async def check_totals(connection: asyncpg.Connection, report: Report) -> None:
    """Compare the sums of the projections of money with the sum of the costs, to the last decimal."""
    async with connection.transaction(isolation="repeatable_read", readonly=True):
        sums: dict[str, Any] = {}
        for projection in dict.fromkeys(name for name, _ in _TOTALS):
            try:
                async with connection.transaction():
                    sums[projection] = await connection.fetchrow(_COSTS, projection)
            except asyncpg.DataError as error:
                report.find("totals", f"a cost holds what is no amount: {error}")
                return
        for (projection, table), columns in _TOTALS.items():
            row = await connection.fetchrow(f"SELECT {columns} FROM ledger.{table}")  # noqa: S608 - constants of this file
            for name, value in dict(row or {}).items():
                there, due = Decimal(value or 0), Decimal(sums[projection][name])
                report.counts["totals"] += 1
                if there != due:
                    message = f"{name} in ledger.{table} is {there:f} in all, the costs sum up to {due:f}"
                    report.find("totals", message)
        for row in await connection.fetch(_TWICE):
            report.find("calls begin and end once", f"in {row['journals']} journals", call_id=row["call_id"])


def names() -> list[str]:
    """Return the projections, in folding order."""
    return [projection.name for projection in ALL]
