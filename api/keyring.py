"""The virtual keys that are in use, in memory; the book's `keys` projection is the truth.

A key that is not in memory is read from the projection once; what changes is noticed by polling the projection's batch
number, so that a block or a revocation holds on every proxy within a fraction of a second.
"""

import asyncio
import logging
from collections import OrderedDict
from decimal import Decimal
from typing import Any, Final

import asyncpg

from api.auth import MASTER_KEY_ID, Caller, KeyState
from api.errors import unavailable
from ledger.money.exact import plain
from ledger.postgres.connect import CONNECTION_LOST
from ledger.postgres.shared import SharedConnection

logger = logging.getLogger(__name__)

_KEYS_MAX: Final = 20_000
_POLL_S: Final = 0.2
_ASK_S: Final = 5.0
_SPEND_POLL_S: Final = 1.0
#: Keys in memory are trusted for this long without a successful poll; then calls are refused.
_TRUST_S: Final = 60.0

_COLUMNS = """
k.key_id, k.key_alias, k.org, k.team, k.user_id, k.end_user, k.models, k.tags, k.expires_at, k.blocked, k.revoked,
k.allowed_routes, k.permissions, k.store_bodies, coalesce(m.blocked, false) AS is_team_blocked,
coalesce(t.billed_usd + t.estimated_usd, 0) AS spend_usd
"""
_FROM = """
FROM ledger.keys AS k LEFT JOIN ledger.key_totals AS t USING (key_id)
LEFT JOIN ledger.teams AS m ON m.team_id = k.team AND NOT m.deleted
"""
#: By the present secret, else by one that was replaced.
_FIND = f"""
SELECT {_COLUMNS}, NULL AS valid_until {_FROM} WHERE k.key_hash = $1
UNION ALL
SELECT {_COLUMNS}, k.former_until[array_position(k.former_hashes, $1)] {_FROM}
WHERE k.former_hashes @> ARRAY[$1] AND k.former_hashes <> '{{}}'
LIMIT 1
"""
_BATCH = "SELECT name, batch FROM ledger.projections WHERE name IN ('keys', 'spend')"
_CHANGED = """
SELECT key_id FROM ledger.keys WHERE batch > $1
UNION ALL
SELECT k.key_id FROM ledger.teams AS m JOIN ledger.keys AS k ON k.team = m.team_id AND k.team <> '' WHERE m.batch > $1
"""
_SPENT = """
SELECT key_id, billed_usd + estimated_usd AS spend_usd FROM ledger.key_totals WHERE batch > $1 AND key_id = ANY($2)
"""


class CachedKeyring:
    """The keys in memory, at most `_KEYS_MAX`, the longest unused leave first."""

    def __init__(self, url: str) -> None:
        self._shared = SharedConnection(url, purpose="keys", timeout_s=_ASK_S, statement_timeout="5s")
        self._states: OrderedDict[str, KeyState] = OrderedDict()
        self._spend: dict[str, Decimal] = {}
        self._keys_batch = -1
        self._spend_batch = -1
        self._polled_at: float | None = None
        self._spend_polled_at = 0.0

    async def find(self, key_hash: str) -> KeyState | None:
        """Return the key of that hash; None when there is none.

        Raises:
            ApiFailure: 503 when it is not in memory and the database is out of reach.
        """
        state = self._states.get(key_hash)
        if state is not None:
            self._require_fresh()
            self._states.move_to_end(key_hash)
            return state
        try:
            async with self._shared.turn() as connection:
                row = await connection.fetchrow(_FIND, key_hash)
        except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
            raise unavailable("The ledger's database cannot be reached, so the key cannot be checked.") from error
        if row is None:
            return None
        state = _state(row, key_hash)
        self._states[key_hash] = state
        self._spend[state.caller.key_id] = row["spend_usd"]
        if len(self._states) > _KEYS_MAX:
            _, oldest = self._states.popitem(last=False)
            self._spend.pop(oldest.caller.key_id, None)
        return state

    def _require_fresh(self) -> None:
        if self._polled_at is not None and asyncio.get_running_loop().time() - self._polled_at > _TRUST_S:
            raise unavailable("The ledger's database cannot be reached, so keys cannot be checked.")

    def spend(self, key_id: str) -> str | None:
        """Return what a key in use had spent at the last poll, in USD; None for one that is not in memory."""
        spent = self._spend.get(key_id)
        return None if spent is None else plain(spent)

    def forget(self, key_id: str) -> None:
        """Have a key read anew at its next use, whichever of its secrets is shown."""
        self._forget({key_id})

    def forget_team(self, team: str) -> None:
        """Have the keys of a team read anew at their next use."""
        self._forget({state.caller.key_id for state in self._states.values() if state.caller.team == team})

    def _forget(self, key_ids: set[str]) -> None:
        for key_hash in [held for held, state in self._states.items() if state.caller.key_id in key_ids]:
            del self._states[key_hash]

    async def run(self) -> None:
        """Follow the projection for as long as the process lives."""
        while True:
            try:
                await self._poll()
            except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
                logger.debug("keys: poll failed: %s: %s", type(error).__name__, error)
            await asyncio.sleep(_POLL_S)

    async def _poll(self) -> None:
        async with self._shared.turn() as connection:
            batches = {row["name"]: row["batch"] for row in await connection.fetch(_BATCH)}
            now = asyncio.get_running_loop().time()
            if batches.get("keys", 0) != self._keys_batch:
                if self._states:
                    self._forget({row["key_id"] for row in await connection.fetch(_CHANGED, self._keys_batch)})
                self._keys_batch = batches.get("keys", 0)
            if now - self._spend_polled_at >= _SPEND_POLL_S and batches.get("spend", 0) != self._spend_batch:
                for row in await connection.fetch(_SPENT, self._spend_batch, [MASTER_KEY_ID, *self._spend]):
                    self._spend[row["key_id"]] = row["spend_usd"]
                self._spend_batch = batches.get("spend", 0)
                self._spend_polled_at = now
            self._polled_at = now

    async def close(self) -> None:
        """Close the connection."""
        self._shared.close()


def _state(row: Any, key_hash: str) -> KeyState:
    who = Caller(
        key_id=row["key_id"],
        key_alias=row["key_alias"],
        org=row["org"],
        team=row["team"],
        user=row["user_id"],
        end_user=row["end_user"],
        models=tuple(row["models"]),
        tags=tuple(row["tags"]),
        is_admin="admin" in row["permissions"],
        is_viewer="view" in row["permissions"],
        store_bodies=row["store_bodies"],
        allowed_routes=tuple(row["allowed_routes"]),
    )
    return KeyState(
        caller=who,
        key_hash=key_hash,
        blocked=row["blocked"],
        revoked=row["revoked"],
        expires_at=row["expires_at"],
        valid_until=row["valid_until"],
        is_team_blocked=row["is_team_blocked"],
    )
