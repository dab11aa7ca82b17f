"""Issues, blocks and revokes virtual keys: each change is one event with the whole state, in force when it returns.

What a client may ask for is read by `key_fields.py`; `keys.py` is the HTTP. A key itself is known here only while it is
issued; the book holds its hash.
"""

import asyncio
import json
import secrets
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

import asyncpg
from sqlalchemy.ext.asyncio import AsyncConnection
from uuid_utils.compat import uuid7

from api.auth import Caller, hash_of, masked
from api.book import ConflictError
from api.context import Context
from api.errors import ApiFailure, bad_request, not_found, unavailable
from api.routes.key_fields import KeyWish
from api.routes.reading import reading
from ledger.encoding import encode_facts, rfc3339
from ledger.errors import LedgerUnavailableError
from ledger.events import KEY_BLOCKED, KEY_ISSUED, KEY_REVOKED, KEY_UNBLOCKED
from ledger.postgres.connect import CONNECTION_LOST
from ledger.reports.key_state import (
    SUBJECT_KIND,
    RecordedKey,
    claimed_revision,
    find_key,
    find_standing_alias,
    take_turns,
)
from llm.errors import ApiError

_KEY_BYTES: Final = 32
_TRIES: Final = 8
_HASH_CHARS: Final = 64
_SETTLE_S: Final = 3.0

#: type of event -> what it changes
_CHANGES: Final = {
    KEY_BLOCKED: {"blocked": True},
    KEY_UNBLOCKED: {"blocked": False},
    KEY_REVOKED: {"revoked": True},
}


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new key, to be shown once."""

    key: str
    key_hash: str
    key_id: str


async def issue(context: Context, actor: Caller, wish: KeyWish) -> IssuedKey:
    """Issue a key; it is in force on every proxy when this returns.

    Raises:
        ApiFailure: 409 for a key or an alias that exists, 400 for a state too large, 503 when it cannot be recorded.
    """
    key = wish.key or f"sk-{secrets.token_urlsafe(_KEY_BYTES)}"
    issued = IssuedKey(key, hash_of(key), f"key_{uuid7().hex}")
    facts = {"actor": actor.key_id, "key": _state(issued, actor, wish)}
    if "altered" in json.loads(encode_facts(facts)):
        raise bad_request("The key's models, metadata and names together are too large for the book.")
    await _refuse_master_key(context, key)
    if not wish.key_alias:
        async with reading(context.reads) as connection:
            await _refuse_known(connection, issued.key_hash, "")
        await _record_first(context, issued, facts)
        return issued
    async with reading(context.reads) as connection:
        # Nothing in the projection makes aliases unique: rivals take turns, each until its key is in force.
        await take_turns(connection, f"key_alias:{wish.key_alias}")
        await _refuse_known(connection, issued.key_hash, wish.key_alias)
        await _record_first(context, issued, facts)
    return issued


async def _record_first(context: Context, issued: IssuedKey, facts: dict[str, Any]) -> None:
    try:
        await _record(context, issued.key_hash, 1, KEY_ISSUED, facts)
    except ConflictError as error:
        raise _conflict("This key was issued by somebody else at this moment.", "key") from error


def _state(issued: IssuedKey, actor: Caller, wish: KeyWish) -> dict[str, Any]:
    return {
        "key_id": issued.key_id,
        "key_hash": issued.key_hash,
        "key_name": masked(issued.key),
        "key_alias": wish.key_alias,
        "org": wish.org,
        "team": wish.team,
        "user": wish.user,
        "end_user": wish.end_user,
        "models": list(wish.models),
        "metadata": wish.metadata,
        "tags": list(wish.tags),
        "expires_at": None if wish.expires_at is None else rfc3339(wish.expires_at),
        "blocked": False,
        "revoked": False,
        "created_at": rfc3339(datetime.now(UTC)),
        "created_by": actor.key_id,
    }


async def _refuse_master_key(context: Context, key: str) -> None:
    try:
        who = await context.authenticator.caller([("authorization", f"Bearer {key}")])
    except ApiFailure:
        return
    if who.is_admin:
        raise bad_request("This key is the master key; issue another.", param="key")


async def _refuse_known(connection: AsyncConnection, key_hash: str, key_alias: str) -> None:
    if await find_key(connection, key_hash=key_hash) is not None:
        raise _conflict("This key exists already, or existed and was revoked; a key is issued once.", "key")
    if await claimed_revision(connection, key_hash):
        # Whether its event will still come is not known, and two events for one key would stop the projection.
        raise _conflict("This key is being issued, or its issue failed half-way; issue another.", "key")
    if key_alias and await find_standing_alias(connection, key_alias):
        raise _conflict(f"The alias {key_alias!r} belongs to another key; revoke that or choose another.", "key_alias")


async def find(context: Context, name: str) -> RecordedKey:
    """Return the key that `name` names: the key itself, its hash or its key_id.

    Raises:
        ApiFailure: 404 where there is none; the message does not repeat a key.
    """
    async with reading(context.reads) as connection:
        found = await find_key(connection, **names_of(name))
    if found is None:
        raise not_found(f"There is no key {shown_name(name)}.", "key_not_found", "key")
    return found


async def find_alias(context: Context, key_alias: str) -> RecordedKey:
    """Return the key of that alias that is not revoked.

    Raises:
        ApiFailure: 404 where there is none, 409 where there are several.
    """
    async with reading(context.reads) as connection:
        found = await find_standing_alias(connection, key_alias)
    if not found:
        raise not_found(f"There is no key with the alias {key_alias[:60]!r}.", "key_not_found", "key_aliases")
    if len(found) > 1:
        raise _conflict(f"Several keys have the alias {key_alias[:60]!r}; name one by its key_id.", "key_aliases")
    return found[0]


def names_of(name: str) -> dict[str, str]:
    """Return under which of `key_hash` and `key_id` a key is to be looked for."""
    if name.startswith("sk-"):
        return {"key_hash": hash_of(name)}
    if len(name) == _HASH_CHARS and all(character in "0123456789abcdef" for character in name):
        return {"key_hash": name}
    return {"key_id": name}


def shown_name(name: str) -> str:
    """Return what an error may repeat of a name: not the key itself."""
    return masked(name) if name.startswith("sk-") else repr(name[:80])


async def change(context: Context, actor: Caller, found: RecordedKey, type_: str) -> None:
    """Block, unblock or revoke; nothing is recorded where it is so already.

    Raises:
        ApiFailure: 409 for a revoked key (unless it is to be revoked), or when others keep changing it; 503.
    """
    for _ in range(_TRIES):
        found = await _settled(context, found)
        if found.key["revoked"] and type_ != KEY_REVOKED:
            raise _conflict(f"The key {found.key['key_id']} is revoked, and stays so; issue another.", "key")
        if all(found.key[name] == value for name, value in _CHANGES[type_].items()):
            return
        facts = {"actor": actor.key_id, "key": {**found.key, **_CHANGES[type_]}}
        try:
            await _record(context, found.key["key_hash"], found.claimed_revision + 1, type_, facts)
        except ConflictError:
            await asyncio.sleep(0.05 + secrets.randbelow(50) / 1000)
            found = await find(context, found.key["key_id"])
            continue
        context.keyring.forget(found.key["key_hash"])
        return
    raise _conflict(f"The key {found.key['key_id']} is being changed by others; try again.", "key")


async def _settled(context: Context, found: RecordedKey) -> RecordedKey:
    """Wait for a change that is under way: a state made without it would undo it, a revocation for example.

    A revision whose writer died before its event is waited for in vain, and passed over.
    """
    deadline = time.monotonic() + _SETTLE_S
    while found.claimed_revision > found.revision and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        found = await find(context, found.key["key_id"])
    return found


async def _record(context: Context, key_hash: str, revision: int, type_: str, facts: dict[str, Any]) -> None:
    try:
        # Asked first, because a revision that was given out without an event blocks this key for ever.
        context.book.journals.require_available()
        await context.book.administer(SUBJECT_KIND, key_hash, revision, type_, facts, "keys")
    except LedgerUnavailableError as error:
        raise unavailable(f"The change could not be recorded, or is not in force yet: {error}.") from error
    except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
        raise unavailable("The ledger's database was lost; look whether the change was recorded.") from error
    context.keyring.forget(key_hash)


def _conflict(message: str, param: str) -> ApiFailure:
    return ApiFailure(ApiError(409, message, code="conflict", param=param))
