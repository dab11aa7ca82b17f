"""Corrects the cost of an attempt, once, whoever else tries at the same time: from another process, or after a crash.

A claim says in which journal the correction will stand. While that journal is open, rivals wait for the event; once it
is sealed without it, the event can never come, and another may claim. So neither two corrections nor none can result.
"""

import asyncio
import json
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, Literal
from uuid import UUID

import asyncpg

from ledger.events import COST_CORRECTED
from ledger.facts import cost_corrected
from ledger.journal.journals import Journals
from ledger.money.correction import accumulate, correction
from ledger.money.cost import Charge

#: What the charge should be, given the money in force; None to leave it as it is. Must not block.
Decide = Callable[[Mapping[str, Any]], Charge | None]
#: A correction was booked; none was due; or it has to be tried again later.
Outcome = Literal["booked", "unchanged", "later"]

_COSTS: Final = """
SELECT facts FROM ledger.events
WHERE call_id = $1 AND type IN ('cost.recorded', 'cost.corrected') AND (facts->>'attempt')::int = $2
ORDER BY (facts->>'revision')::int
"""
_LAST_VERSION: Final = "SELECT max(version) FROM ledger.events WHERE call_id = $1"
_CLAIM_OF: Final = "SELECT attempt, revision, journal_id FROM ledger.cost_claims WHERE call_id = $1"
_IS_SPENT: Final = """
SELECT EXISTS (SELECT FROM ledger.journals WHERE journal_id = $2 AND sealed_at IS NOT NULL)
    OR EXISTS (
        SELECT FROM ledger.events WHERE call_id = $1 AND journal_id = $2 AND type = 'cost.corrected'
          AND (facts->>'attempt')::int = $3 AND (facts->>'revision')::int = $4
    )
"""
_CLAIM: Final = """
INSERT INTO ledger.cost_claims AS c (call_id, attempt, revision, journal_id) VALUES ($1, $2, $3, $4)
ON CONFLICT (call_id) DO UPDATE SET attempt = $2, revision = $3, journal_id = $4, claimed_at = clock_timestamp()
WHERE (c.attempt, c.revision, c.journal_id) = ($5, $6, $7)
RETURNING true
"""
_NOBODY: Final = (0, 0, UUID(int=0))
_PAUSE_S: Final = 0.05
_ADDITIVE: Final = ("billed_usd", "estimated_usd")


async def correct_cost(
    connection: asyncpg.Connection,
    journals: Journals,
    call_id: UUID,
    attempt: int,
    decide: Decide,
    *,
    actor: str,
    timeout_s: float = 5.0,
) -> Outcome:
    """Book what `decide` says as `cost.corrected`, unless the cost is so already.

    "later": the attempt has no cost yet, or a rival did not come to an end within `timeout_s`.

    Raises:
        LedgerUnavailableError: nothing can be recorded now.
        FencedError: this process's journal was taken over meanwhile; try again with the next one.
        OSError, asyncpg.PostgresError: the database is out of reach or refuses.
    """
    deadline = time.monotonic() + timeout_s
    while True:
        costs = await _costs(connection, call_id, attempt)
        if not costs:
            return "later"
        in_force = accumulate(costs[0], costs[1:])
        charge = decide(in_force)
        money = None if charge is None else correction(in_force, charge)
        if money is None or _changes_nothing(money, in_force):
            return "unchanged"
        revision = int(costs[-1]["revision"]) + 1
        facts = cost_corrected(money, attempt=attempt, revision=revision, dims=costs[0]["dims"], actor=actor)
        with journals.held() as journal:
            if await _claim(connection, call_id, attempt, revision, journal.journal_id):
                # Whoever held the claim before may have come to an end between the two reads.
                if len(await _costs(connection, call_id, attempt)) == len(costs):
                    version = int(await connection.fetchval(_LAST_VERSION, call_id) or 0) + 1
                    await journal.record_of_call(call_id, version, COST_CORRECTED, facts)
                    return "booked"
                continue
        if time.monotonic() > deadline:
            return "later"
        await asyncio.sleep(_PAUSE_S)


async def _costs(connection: asyncpg.Connection, call_id: UUID, attempt: int) -> list[dict[str, Any]]:
    return [json.loads(row["facts"]) for row in await connection.fetch(_COSTS, call_id, attempt)]


async def _claim(connection: asyncpg.Connection, call_id: UUID, attempt: int, revision: int, journal_id: UUID) -> bool:
    """Take the claim unless somebody else holds one that is not spent."""
    row = await connection.fetchrow(_CLAIM_OF, call_id)
    former = _NOBODY if row is None else (row["attempt"], row["revision"], row["journal_id"])
    if row is not None and not await connection.fetchval(_IS_SPENT, call_id, former[2], former[0], former[1]):
        return False
    claimed = await connection.fetchval(_CLAIM, call_id, attempt, revision, journal_id, former[0], former[1], former[2])
    return bool(claimed)


def _changes_nothing(money: Mapping[str, Any], in_force: Mapping[str, Any]) -> bool:
    return (
        money["state"] == in_force["state"]
        and not money["items"]
        and not money["unknown"]
        and all(money[name] == "0" for name in _ADDITIVE)
        and not any((money["usage"] or {}).values())
    )
