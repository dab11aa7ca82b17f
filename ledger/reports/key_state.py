"""The whole recorded state of a virtual key, hash included: what the next administrative event is made from.

For those who change keys; what people are shown is `keys.py`. A revision may have been given out without an event
(its writer failed in between), which is why both are read together.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import ARRAY, ColumnElement, Text, and_, column, func, literal, literal_column, or_, select, table
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.encoding import rfc3339
from ledger.reports.tables import KEYS

#: A key's counter goes by its first hash, so that of two rivals who issue the same key one fails.
SUBJECT_KIND = "key"

#: Facts that bear their column's name.
_SAME = (
    "key_id", "key_hash", "key_name", "key_alias", "org", "team", "end_user", "models", "metadata", "tags", "blocked",
    "revoked", "created_by", "allowed_routes", "permissions", "store_bodies", "issued_hash",
)  # fmt: skip
_SUBJECTS = table("subjects", column("kind"), column("id"), column("revision"), schema="ledger")


@dataclass(frozen=True, slots=True)
class RecordedKey:
    """A key's state in the shape of the fact `key`, the revision of it, and the latest revision given out."""

    key: dict[str, Any]
    revision: int
    claimed_revision: int


async def find_key(
    connection: AsyncConnection, *, key_id: str | None = None, key_hash: str | None = None
) -> RecordedKey | None:
    """Return a key by one of its names, revoked ones too; None where there is none."""
    found = KEYS.c.key_id == key_id if key_hash is None else has_secret(key_hash)
    return next(iter(await _read(connection, found)), None)


def has_secret(key_hash: str) -> ColumnElement[bool]:
    """Return the condition that a key has the secret of that hash, or had it before it got another."""
    # Said twice, so that the planner sees that the index on former hashes will do.
    among = KEYS.c.former_hashes.op("@>", is_comparison=True)(literal([key_hash], ARRAY(Text)))
    former = and_(among, KEYS.c.former_hashes != literal_column("'{}'"))
    return or_(KEYS.c.key_hash == key_hash, former)


async def find_standing_alias(connection: AsyncConnection, key_alias: str) -> list[RecordedKey]:
    """Return the keys of that alias that are not revoked; more than one only where they came from elsewhere."""
    return await _read(connection, and_(KEYS.c.key_alias == key_alias, KEYS.c.revoked.is_(False)))


async def claimed_revision(connection: AsyncConnection, key_hash: str) -> int:
    """Return the latest revision given out for a key, 0 for none, whether or not an event followed."""
    found = select(_SUBJECTS.c.revision).where(_SUBJECTS.c.kind == SUBJECT_KIND, _SUBJECTS.c.id == key_hash)
    return int(await connection.scalar(found) or 0)


def alias_turn(key_alias: str) -> str:
    """Name the lock of an alias: whoever gives it to a key holds it until the key is in force."""
    return f"key_alias:{key_alias}"


async def take_turns(connection: AsyncConnection, name: str) -> None:
    """Wait until nobody else holds `name`, and hold it to the end of the transaction."""
    await connection.execute(select(func.pg_advisory_xact_lock(func.hashtextextended(name, 0))))


async def _read(connection: AsyncConnection, found: ColumnElement[bool]) -> list[RecordedKey]:
    claimed = and_(_SUBJECTS.c.kind == SUBJECT_KIND, _SUBJECTS.c.id == KEYS.c.issued_hash)
    query = (
        select(KEYS, _SUBJECTS.c.revision.label("claimed"))
        .select_from(KEYS.outerjoin(_SUBJECTS, claimed))
        .where(found)
        .order_by(KEYS.c.created_at, KEYS.c.key_id)
        .limit(10)
    )
    rows = (await connection.execute(query)).mappings()
    return [_recorded(dict(row)) for row in rows]


def _recorded(row: dict[str, Any]) -> RecordedKey:
    state = {name: row[name] for name in _SAME}
    state["former"] = [
        {"key_hash": key_hash, "until": rfc3339(until)}
        for key_hash, until in zip(row["former_hashes"], row["former_until"], strict=True)
    ]
    state["user"] = row["user_id"]
    state["created_at"] = rfc3339(row["created_at"])
    state["expires_at"] = None if row["expires_at"] is None else rfc3339(row["expires_at"])
    return RecordedKey(state, row["revision"], max(row["revision"], int(row["claimed"] or 0)))
