"""Settles costs that were not known when their attempt ended: by what a poll, a resumed stream or a late answer tells.

A charge belongs to the attempt that made the response; whoever reads the response later charges nothing, but may settle
it. `ledger.journal.settlement` sees that it happens once.
"""

import asyncio
import json
import logging
from collections import OrderedDict
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from ledger.errors import FencedError, LedgerUnavailableError
from ledger.journal.journals import Journals
from ledger.journal.settlement import correct_cost
from ledger.money.answer import charge_answer
from ledger.money.book import PriceBook
from ledger.money.cost import Charge
from ledger.money.request import RequestFacts
from ledger.postgres.connect import CONNECTION_LOST, connect
from llm.estimates import BILLABLE_PATHS, region_of_attempt

logger = logging.getLogger(__name__)

ACTOR: Final = "proxy"
_TRIES: Final = 60
_PAUSE_S: Final = 1.0
#: How long a poll may be kept waiting by what it settles.
_WAIT_S: Final = 5.0
_SETTLED_MAX: Final = 4_096
_ID_CHARS_MAX: Final = 512
_ENDED: Final = frozenset({"completed", "incomplete", "failed", "cancelled"})
_FAULTS: Final = (*CONNECTION_LOST, asyncpg.PostgresError, LedgerUnavailableError, FencedError)

_CALL_OF: Final = """
SELECT call_id, journal_id, cost_state FROM ledger.calls
WHERE response_id = $1 AND method = 'POST' AND path = ANY($2::text[]) ORDER BY received_at LIMIT 1
"""
_ATTEMPT: Final = """
SELECT facts, recorded_at FROM ledger.events
WHERE journal_id = $1 AND call_id = $2 AND type = 'attempt.started' ORDER BY version DESC LIMIT 1
"""


class Settler:
    """Books corrections; `prices` gives the prices as they are known at the moment."""

    def __init__(self, url: str, journals: Journals, prices: Callable[[], PriceBook]) -> None:
        self._url = url
        self._journals = journals
        self._prices = prices
        #: Corrections booked by this process so far.
        self.corrections = 0
        #: Responses of which nothing more can be learnt: repeated polls need not ask the database.
        self._settled: OrderedDict[str, None] = OrderedDict()

    async def settle_guess(self, call_id: UUID, attempt: int, charge: Charge) -> None:
        """Book the real cost of an attempt that recovery closes, or has closed, with a guess; tries for a minute."""
        for _ in range(_TRIES):
            try:
                if await self._correct(call_id, attempt, lambda _: charge):
                    return
            except _FAULTS as error:
                logger.warning("call %s: cost not corrected yet: %s: %s", call_id, type(error).__name__, error)
            await asyncio.sleep(_PAUSE_S)
        logger.error("call %s: its real cost could not be booked: %s", call_id, json.dumps(charge.to_facts()))

    async def _correct(self, call_id: UUID, attempt: int, decide: Callable[[Mapping[str, Any]], Charge | None]) -> bool:
        connection = await connect(self._url, purpose="settle", statement_timeout="10s")
        try:
            return await self._correct_over(connection, call_id, attempt, decide)
        finally:
            connection.terminate()

    async def _correct_over(
        self,
        connection: asyncpg.Connection,
        call_id: UUID,
        attempt: int,
        decide: Callable[[Mapping[str, Any]], Charge | None],
    ) -> bool:
        outcome = await correct_cost(connection, self._journals, call_id, attempt, decide, actor=ACTOR)
        self.corrections += outcome == "booked"
        return outcome != "later"

    async def settle_response(self, response: Mapping[str, Any]) -> None:
        """Settle the attempt that made this response, where its cost is not known yet; waits a few seconds at most.

        Takes any Response object that somebody read; one that has not ended, or has no usage, tells nothing. Never
        raises for a database that is out of reach: the next one who reads the response settles it.
        """
        response_id = response.get("id")
        if not isinstance(response_id, str) or not 0 < len(response_id) <= _ID_CHARS_MAX:
            return
        if response.get("usage") is None or response.get("status") not in _ENDED or response_id in self._settled:
            return
        try:
            async with asyncio.timeout(_WAIT_S):
                if await self._settle_response(response_id, response):
                    self._settled[response_id] = None
                    if len(self._settled) > _SETTLED_MAX:
                        self._settled.popitem(last=False)
        except (*_FAULTS, TimeoutError) as error:
            logger.warning("response %.80s: cost not settled: %s: %s", response_id, type(error).__name__, error)

    async def _settle_response(self, response_id: str, response: Mapping[str, Any]) -> bool:
        connection = await connect(self._url, purpose="settle", statement_timeout="5s")
        try:
            call = await connection.fetchrow(_CALL_OF, response_id, sorted(BILLABLE_PATHS))
            if call is None:
                return False
            if call["cost_state"] == "billed":
                return True
            row = await connection.fetchrow(_ATTEMPT, call["journal_id"], call["call_id"])
            started = {} if row is None else json.loads(row["facts"])
            if row is None or "money" not in started:
                return False
            charge = self._charge(response, started, row["recorded_at"])

            def decide(in_force: Mapping[str, Any]) -> Charge | None:
                return None if in_force["state"] == "billed" else charge

            return await self._correct_over(connection, call["call_id"], started["attempt"], decide)
        finally:
            connection.terminate()

    def _charge(self, response: Mapping[str, Any], started: Mapping[str, Any], at: datetime) -> Charge:
        return charge_answer(
            response,
            request=RequestFacts.from_facts(started["money"]),
            at=at,
            prices=self._prices(),
            deployment=str(started["deployment"]),
            region=region_of_attempt(started),
        )
