"""Issues, changes and revokes virtual keys: each change is one event with the whole state, in force when it returns.

What a client may ask for is read by `key_fields.py`; `keys.py` is the HTTP, `cli/keys.py` the command line. A secret is
known here only while it is made; the book holds its hash.
"""

import asyncio
import json
import secrets
import time
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine
from uuid_utils.compat import uuid7

from api.administration import Administers, ConflictError, recorded
from api.allowed_routes import covers
from api.auth import Caller, hash_of, masked
from api.errors import ApiFailure, bad_request, forbidden, not_found
from api.routes.key_fields import KeyRegeneration, KeyUpdate, KeyWish
from api.routes.reading import reading
from ledger.encoding import encode_facts, rfc3339
from ledger.events import KEY_BLOCKED, KEY_ISSUED, KEY_REGENERATED, KEY_REVOKED, KEY_UNBLOCKED, KEY_UPDATED
from ledger.reports.key_state import (
    SUBJECT_KIND,
    RecordedKey,
    alias_turn,
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
#: Secrets that were replaced are remembered by their hash, so that they are refused by name; the oldest are dropped.
FORMER_MAX: Final = 8

CLAIMED: Final = "This key is being issued, or its issue failed half-way; issue another."

#: type of event -> what it changes
_CHANGES: Final = {
    KEY_BLOCKED: {"blocked": True},
    KEY_UNBLOCKED: {"blocked": False},
    KEY_REVOKED: {"revoked": True},
}
#: Changes that take something away; who may less than a key may still do this to it.
_TAKING: Final = frozenset({KEY_BLOCKED, KEY_REVOKED})

Alter = Callable[[dict[str, Any]], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class KeyDesk:
    """What changes of keys need. `forget` is told of each key that has changed, by its key_id."""

    reads: AsyncEngine
    book: Administers
    is_master: Callable[[str], bool]
    forget: Callable[[str], None]
    #: One at a time gives an alias away here: rivals would hold the connections that the one needs to get on.
    alias_turn: asyncio.Lock = field(default_factory=asyncio.Lock)


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A new secret, to be shown once."""

    key: str
    key_hash: str
    key_id: str


async def issue(desk: KeyDesk, actor: Caller, wish: KeyWish) -> IssuedKey:
    """Issue a key; it is in force on every proxy when this returns.

    Raises:
        ApiFailure: 409 for a key or an alias that exists, 400 for a state too large, 403 for more than the actor may,
            503 when it cannot be recorded.
    """
    key = wish.key or _new_secret()
    issued = IssuedKey(key, hash_of(key), f"key_{uuid7().hex}")
    made = {"created_at": rfc3339(datetime.now(UTC)), "created_by": actor.key_id}
    names = {"key_id": issued.key_id, "key_hash": issued.key_hash, "key_name": masked(key)}
    await _register(desk, actor, {**wish.state, **names, **made})
    return issued


async def _register(desk: KeyDesk, actor: Caller, state: dict[str, Any]) -> None:
    key_hash = state["key_hash"]
    facts = first_facts(actor, state)
    if desk.is_master(key_hash):
        raise bad_request("This key is the master key; issue another.", param="key")
    async with _alias_taken(desk, state["key_alias"]):
        async with reading(desk.reads) as connection:
            await _refuse_known(connection, key_hash)
        try:
            await _record(desk, key_hash, 1, KEY_ISSUED, facts)
        except ConflictError as error:
            raise conflict("This key was issued by somebody else at this moment.", "key") from error


def first_facts(actor: Caller, state: Mapping[str, Any], **beside: Any) -> dict[str, Any]:
    """Return the facts of a key's first event; `beside` are further ones.

    Raises:
        ApiFailure: 403 for more than the actor may, 400 for a state too large.
    """
    made = {**state, "revoked": False, "issued_hash": state["key_hash"], "former": []}
    _require_grantable(actor, made)
    return _facts(actor, made, **beside)


@asynccontextmanager
async def _alias_taken(desk: KeyDesk, key_alias: str, key_id: str = "") -> AsyncGenerator[None]:
    """Keep an alias from others while it is given to a key; "" needs no keeping.

    Nothing in the projection makes aliases unique: rivals take turns, each until its key is in force.
    """
    if not key_alias:
        yield
        return
    async with desk.alias_turn, reading(desk.reads) as connection:
        await take_turns(connection, alias_turn(key_alias))
        if any(found.key["key_id"] != key_id for found in await find_standing_alias(connection, key_alias)):
            raise conflict(alias_refusal(key_alias), "key_alias")
        yield


async def _refuse_known(connection: AsyncConnection, key_hash: str) -> None:
    if await find_key(connection, key_hash=key_hash) is not None:
        raise conflict("This key exists already, or existed and was revoked; a key is issued once.", "key")
    if await claimed_revision(connection, key_hash):
        # Whether its event will still come is not known, and two events for one key would stop the projection.
        raise conflict(CLAIMED, "key")


async def find(desk: KeyDesk, name: str) -> RecordedKey:
    """Return the key that `name` names: the key itself, its hash or its key_id.

    Raises:
        ApiFailure: 404 where there is none; the message does not repeat a key.
    """
    async with reading(desk.reads) as connection:
        found = await find_key(connection, **names_of(name))
    if found is None:
        raise not_found(f"There is no key {shown_name(name)}.", "key_not_found", "key")
    return found


async def find_alias(desk: KeyDesk, key_alias: str) -> RecordedKey:
    """Return the key of that alias that is not revoked.

    Raises:
        ApiFailure: 404 where there is none, 409 where there are several.
    """
    async with reading(desk.reads) as connection:
        found = await find_standing_alias(connection, key_alias)
    if not found:
        raise not_found(f"There is no key with the alias {key_alias[:60]!r}.", "key_not_found", "key_aliases")
    if len(found) > 1:
        raise conflict(f"Several keys have the alias {key_alias[:60]!r}; name one by its key_id.", "key_aliases")
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


async def change(desk: KeyDesk, actor: Caller, found: RecordedKey, type_: str) -> None:
    """Block, unblock or revoke; nothing is recorded where it is so already.

    Raises:
        ApiFailure: 409 for a revoked key (unless it is to be revoked), or when others keep changing it; 403; 503.
    """
    await _change(desk, actor, found, type_, lambda state: {**state, **_CHANGES[type_]})


async def update(desk: KeyDesk, actor: Caller, wanted: KeyUpdate) -> RecordedKey:
    """Give a key other values; return it as it was found.

    Raises:
        ApiFailure: 404, 409, 403 for more than the actor may grant, 503.
    """
    found = await find(desk, wanted.name)
    async with _alias_taken(desk, wanted.changes.get("key_alias", ""), found.key["key_id"]):
        await _change(desk, actor, found, KEY_UPDATED, lambda state: {**state, **wanted.changes})
    return found


async def regenerate(desk: KeyDesk, actor: Caller, wanted: KeyRegeneration) -> IssuedKey:
    """Give a key a new secret; the old one is accepted until the grace has passed, by each proxy's clock.

    Raises:
        ApiFailure: 404, 409 for a secret that exists or too many old ones in their grace, 403, 503.
    """
    found = await find(desk, wanted.name)
    key = wanted.new_key or _new_secret()
    issued = IssuedKey(key, hash_of(key), found.key["key_id"])
    if found.key["revoked"]:
        raise _revoked(found.key["key_id"])
    _require_grantable(actor, found.key)
    _require_grantable(actor, {**found.key, **wanted.changes})
    if desk.is_master(issued.key_hash):
        raise bad_request("This key is the master key; choose another.", param="new_key")
    async with reading(desk.reads) as connection:
        await _refuse_known(connection, issued.key_hash)
    now = datetime.now(UTC)

    def alter(state: dict[str, Any]) -> dict[str, Any]:
        former = [*state["former"], {"key_hash": state["key_hash"], "until": rfc3339(now + wanted.grace)}]
        former = _remembered(former, rfc3339(now))
        names = {"key_hash": issued.key_hash, "key_name": masked(key), "former": former}
        return {**state, **wanted.changes, **names}

    async with _alias_taken(desk, wanted.changes.get("key_alias", ""), found.key["key_id"]):
        try:
            # The new secret is claimed as an issued one is, so that nobody else can be given it.
            await recorded(desk.book, lambda: desk.book.claim(SUBJECT_KIND, issued.key_hash, 1))
        except ConflictError as error:
            raise conflict("This key was issued by somebody else at this moment.", "new_key") from error
        await _change(desk, actor, found, KEY_REGENERATED, alter)
    return issued


def _remembered(former: list[dict[str, Any]], now: str) -> list[dict[str, Any]]:
    """Drop the oldest of too many former secrets, as long as they are not accepted any more."""
    while len(former) > FORMER_MAX:
        ended = next((each for each in former if each["until"] <= now), None)
        if ended is None:
            raise conflict(
                f"{FORMER_MAX} older secrets of this key are still in their grace period; wait, or issue another key.",
                "grace_period",
            )
        former = [each for each in former if each is not ended]
    return former


async def _change(desk: KeyDesk, actor: Caller, found: RecordedKey, type_: str, alter: Alter) -> None:
    for _ in range(_TRIES):
        found = await _settled(desk, found)
        if found.key["revoked"] and type_ != KEY_REVOKED:
            raise _revoked(found.key["key_id"])
        state = alter(found.key)
        if state == found.key:
            return
        if type_ not in _TAKING:
            # Also as it was: else a key that may more is first narrowed, then taken over with a new secret.
            _require_grantable(actor, found.key)
            _require_grantable(actor, state)
        try:
            await _record(desk, found.key["issued_hash"], found.claimed_revision + 1, type_, _facts(actor, state))
        except ConflictError:
            await asyncio.sleep(0.05 + secrets.randbelow(50) / 1000)
            found = await find(desk, found.key["key_id"])
            continue
        desk.forget(found.key["key_id"])
        return
    raise conflict(f"The key {found.key['key_id']} is being changed by others; try again.", "key")


async def _settled(desk: KeyDesk, found: RecordedKey) -> RecordedKey:
    """Wait for a change that is under way: a state made without it would undo it, a revocation for example.

    A revision whose writer died before its event is waited for in vain, and passed over.
    """
    deadline = time.monotonic() + _SETTLE_S
    while found.claimed_revision > found.revision and time.monotonic() < deadline:
        await asyncio.sleep(0.05)
        found = await find(desk, found.key["key_id"])
    return found


async def _record(desk: KeyDesk, subject: str, revision: int, type_: str, facts: dict[str, Any]) -> None:
    await recorded(desk.book, lambda: desk.book.administer(SUBJECT_KIND, subject, revision, type_, facts, "keys"))


def _facts(actor: Caller, state: dict[str, Any], **beside: Any) -> dict[str, Any]:
    facts = {"actor": actor.key_id, "key": state, **beside}
    if "altered" in json.loads(encode_facts(facts)):
        raise bad_request("The key's models, metadata and names together are too large for the book.")
    return facts


def _require_grantable(actor: Caller, state: dict[str, Any]) -> None:
    """Refuse to make or hand out a key that may more than who asks for it.

    Raises:
        ApiFailure: 403.
    """
    if not covers(actor.allowed_routes, state["allowed_routes"]):
        raise forbidden(
            "A key cannot grant more than it has, nor change one that has more: its allowed_routes must be out of "
            f"{', '.join(actor.allowed_routes)[:500]}."
        )
    if actor.models and not (state["models"] and set(state["models"]) <= set(actor.models)):
        raise forbidden(
            "A key cannot grant more than it has, nor change one that has more: its models must be out of "
            f"{', '.join(actor.models)[:500]}."
        )


def _new_secret() -> str:
    return f"sk-{secrets.token_urlsafe(_KEY_BYTES)}"


def _revoked(key_id: str) -> ApiFailure:
    return conflict(f"The key {key_id} is revoked, and stays so; issue another.", "key")


def alias_refusal(key_alias: str) -> str:
    """Say that an alias is taken."""
    return f"The alias {key_alias!r} belongs to another key; revoke that or choose another."


def conflict(message: str, param: str) -> ApiFailure:
    """409: what is asked for does not fit to what is there."""
    return ApiFailure(ApiError(409, message, code="conflict", param=param))
