"""Asks the database how far the projections are behind, for a scrape: seldom, bounded, over a connection of its own."""

import asyncio
import time
from typing import Final

import asyncpg

from ledger.postgres.connect import CONNECTION_LOST
from ledger.postgres.shared import SharedConnection
from ledger.projections.lag import Lag, lag

_DATABASE_S: Final = 2.0
#: However often metrics are asked for, the database is asked this often at most.
_FRESH_S: Final = 1.0


class LagProbe:
    """The projections' lag, asked by one request at a time over a connection of its own, on behalf of all that wait."""

    def __init__(self, url: str) -> None:
        self._shared = SharedConnection(url, purpose="metrics", timeout_s=_DATABASE_S, statement_timeout="2s")
        self._turn = asyncio.Lock()
        self._lags: list[Lag] | None = None
        self._asked_at_s: float | None = None

    async def lags(self) -> list[Lag] | None:
        """Return the lag as it was within the last `_FRESH_S`; None when the database does not tell."""
        async with self._turn:
            if self._asked_at_s is None or time.monotonic() - self._asked_at_s > _FRESH_S:
                self._lags = await self._ask()
                self._asked_at_s = time.monotonic()
            return self._lags

    async def _ask(self) -> list[Lag] | None:
        try:
            async with self._shared.turn() as connection:
                return await lag(connection)
        except (*CONNECTION_LOST, asyncpg.PostgresError):
            return None

    def close(self) -> None:
        """Give the connection back."""
        self._shared.close()
