"""What the book knows of many virtual keys at once, in one statement each; of a single one `key_state.py` tells.

For whoever records many in one transaction, which has turns of its own over their aliases.
"""

from collections.abc import Collection
from typing import Final

import asyncpg

from ledger.reports.key_state import alias_turn

#: As `key_state.has_secret`: by the present secret or by a former one.
_KNOWN: Final = """
SELECT key_hash, key_id FROM ledger.keys WHERE key_hash = ANY ($1::text[])
UNION ALL
SELECT former, key_id FROM ledger.keys CROSS JOIN unnest(former_hashes) AS former
WHERE former_hashes && $1::text[] AND former_hashes <> '{}' AND former = ANY ($1::text[])
"""
_STANDING: Final = "SELECT DISTINCT key_alias FROM ledger.keys WHERE key_alias = ANY ($1::text[]) AND NOT revoked"
#: In one order, so that two who want the same ones cannot wait for each other.
_TURNS: Final = """
SELECT count(pg_advisory_xact_lock(turn))
FROM (SELECT DISTINCT hashtextextended(name, 0) AS turn FROM unnest($1::text[]) AS name ORDER BY 1) AS turns
"""


async def take_alias_turns(connection: asyncpg.Connection, aliases: Collection[str]) -> None:
    """Keep all these aliases from others to the end of the transaction, by the locks that single changes take."""
    await connection.execute(_TURNS, [alias_turn(alias) for alias in aliases])


async def known_secrets(connection: asyncpg.Connection, hashes: Collection[str]) -> dict[str, str]:
    """Return hash -> key_id of those that are, or were, the secret of a key."""
    return {row["key_hash"]: row["key_id"] for row in await connection.fetch(_KNOWN, list(hashes))}


async def standing_aliases(connection: asyncpg.Connection, aliases: Collection[str]) -> set[str]:
    """Return those that belong to a key which is not revoked."""
    return {row["key_alias"] for row in await connection.fetch(_STANDING, list(aliases))}
