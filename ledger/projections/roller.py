"""Rolls up past periods in the background: looks now and then for stale ones, and sums them one at a time.

Beside the projector, on a connection of its own that is open only while there is something to do: a month of a large
book takes seconds, and neither folds nor whoever waits for one may wait for that. `rollup.py` knows how.
"""

import asyncio
import logging
import time

import asyncpg

from ledger.postgres.connect import CONNECTION_LOST, connect
from ledger.projections.catalogue import ALL
from ledger.projections.definition import Projection
from ledger.projections.fold import LIVE
from ledger.projections.rollup import Rollup, roll_up

log = logging.getLogger(__name__)

_FIRST_LOOK_S, _LOOK_S = 2.0, 30.0
_SESSION = {
    "statement_timeout": "10min",
    "lock_timeout": "20s",
    "idle_in_transaction_session_timeout": "60s",
    "work_mem": "64MB",
    # A rollup that is lost in a crash is stale again: its mark is lost with it.
    "synchronous_commit": "off",
    "jit": "off",
}
#: A process with an older fold does not know what belongs into the sums.
_VERSION = "SELECT version FROM ledger.projections WHERE name = $1"
#: One process at a time; whoever comes second has nothing to do.
_TURN = "SELECT pg_try_advisory_xact_lock(hashtextextended('responses-ledger roll up ' || $1, 0))"


class Roller:
    """Keeps the rollups of all projections current, for as long as `run` runs."""

    def __init__(self, url: str) -> None:
        self._url = url

    async def run(self) -> None:
        """Roll up until cancelled; a lost database is waited for."""
        pause_s = _FIRST_LOOK_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = _LOOK_S
            try:
                await self.catch_up(is_gentle=True)
            except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
                log.warning("rollups pause for %.0f s: %s: %s", pause_s, type(error).__name__, error)

    async def catch_up(self, *, is_gentle: bool = False) -> int:
        """Roll up until nothing that is over is stale; return how many periods it was. Gentle: rest as long as work."""
        connection = await connect(self._url, purpose="rollups", **_SESSION)
        try:
            rolled = 0
            for projection in ALL:
                if projection.rollup is None:
                    continue
                begun_s = time.monotonic()
                while await _one(connection, projection, projection.rollup):
                    rolled += 1
                    if is_gentle:
                        await asyncio.sleep(time.monotonic() - begun_s)
                    begun_s = time.monotonic()
            return rolled
        finally:
            connection.terminate()


async def _one(connection: asyncpg.Connection, projection: Projection, rollup: Rollup) -> bool:
    async with connection.transaction():
        if not await connection.fetchval(_TURN, projection.name):
            return False
        if await connection.fetchval(_VERSION, projection.name) != projection.version:
            return False
        return await roll_up(connection, rollup, LIVE)
