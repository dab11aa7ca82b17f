"""Books what unknown costs turn out to be once their prices are known: call by call, as corrections.

`ledger.money.repricing` says what a charge becomes; here the calls are found and the corrections made.
"""

import json
from collections.abc import AsyncIterator, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, NamedTuple
from uuid import UUID

import asyncpg

from ledger.journal.journals import Journals
from ledger.journal.settlement import correct_cost
from ledger.money.book import PriceBook
from ledger.money.correction import accumulate
from ledger.money.cost import Charge
from ledger.money.repricing import price_again

_CALLS: Final = """
SELECT call_id, journal_id FROM ledger.calls
WHERE unknown > 0 AND ($1::timestamptz IS NULL OR received_at >= $1) ORDER BY received_at, call_id
"""
_STARTED: Final = """
SELECT facts, recorded_at FROM ledger.events
WHERE journal_id = $1 AND call_id = $2 AND type = 'attempt.started' ORDER BY version
"""
_COSTS: Final = """
SELECT facts FROM ledger.events WHERE call_id = $1 AND type IN ('cost.recorded', 'cost.corrected')
ORDER BY (facts->>'attempt')::int, (facts->>'revision')::int
"""


class Repriced(NamedTuple):
    """One attempt whose cost is known better than the book has it: the charge, and the sum by which it rises."""

    call_id: UUID
    attempt: int
    started: Mapping[str, Any]
    started_at: datetime
    charge: Charge
    added_usd: Decimal


async def repriceable(
    connection: asyncpg.Connection, prices: PriceBook, since: datetime | None = None
) -> AsyncIterator[Repriced]:
    """Give the attempts whose unknown cost the prices of today complete, wholly or in part, oldest call first."""
    for call in await connection.fetch(_CALLS, since):
        costs: dict[int, list[dict[str, Any]]] = {}
        for row in await connection.fetch(_COSTS, call["call_id"]):
            facts = json.loads(row["facts"])
            costs.setdefault(facts["attempt"], []).append(facts)
        for row in await connection.fetch(_STARTED, call["journal_id"], call["call_id"]):
            started = json.loads(row["facts"])
            recorded = costs.get(started["attempt"])
            if not recorded:
                continue
            in_force = accumulate(recorded[0], recorded[1:])
            charge = price_again(in_force, started, at=row["recorded_at"], prices=prices)
            if charge is not None:
                before = Decimal(in_force["billed_usd"]) + Decimal(in_force["estimated_usd"])
                added = charge.billed_usd + charge.estimated_usd - before
                yield Repriced(call["call_id"], started["attempt"], started, row["recorded_at"], charge, added)


async def book_repriced(
    connection: asyncpg.Connection, journals: Journals, repriced: Repriced, prices: PriceBook, actor: str
) -> bool:
    """Book it as a correction, decided anew from what the book then has; return whether one was booked.

    Raises:
        LedgerUnavailableError, FencedError: it could not be recorded.
    """

    def decide(in_force: Mapping[str, Any]) -> Charge | None:
        return price_again(in_force, repriced.started, at=repriced.started_at, prices=prices)

    return await correct_cost(connection, journals, repriced.call_id, repriced.attempt, decide, actor=actor) == "booked"
