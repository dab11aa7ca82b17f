"""Who calls: a request's credentials become a `Caller`. Keys are known by their hash only, and looked up in memory.

`keyring.py` keeps the hot keys in memory and learns of every change within a fraction of a second.
"""

import hmac
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from hashlib import sha256
from typing import Final, Protocol

from api.allowed_routes import is_allowed
from api.errors import ApiFailure, forbidden, unauthorized

MASTER_KEY_ID: Final = "master"
#: Where clients put their key, in the order in which they are looked at.
_KEY_HEADERS: Final = ("authorization", "x-litellm-api-key", "x-llm-api-key", "api-key", "x-api-key")
_KEY_CHARS_MAX: Final = 1_024


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever a key belongs to; "" where a key names none. `models` empty: all.

    `is_admin`: the master key, or a key with the permission admin; may do everything. `is_viewer`: a key with the
    permission view; may read everything and change nothing. `store_bodies`: all, none; None: the key does not say.
    `allowed_routes`: what it may use, as `api.allowed_routes` reads it; empty: all.
    """

    key_id: str
    key_alias: str = ""
    org: str = ""
    team: str = ""
    user: str = ""
    end_user: str = ""
    models: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    is_admin: bool = False
    is_viewer: bool = False
    store_bodies: str | None = None
    allowed_routes: tuple[str, ...] = ()

    @property
    def is_master(self) -> bool:
        """Whether this is the master key itself, from which nothing can be taken."""
        return self.key_id == MASTER_KEY_ID

    @property
    def may_read_all(self) -> bool:
        """Whether this caller sees what belongs to other keys."""
        return self.is_admin or self.is_viewer

    @property
    def scope(self) -> str | None:
        """What reads are limited to: this key's own rows; None for those who see all."""
        return None if self.may_read_all else self.key_id


@dataclass(frozen=True, slots=True)
class KeyState:
    """A virtual key as the book knows it, by one of its secrets.

    `valid_until`: this secret was replaced by another, and is accepted until then; None: it is the present one.
    """

    caller: Caller
    key_hash: str
    blocked: bool
    revoked: bool
    expires_at: datetime | None
    valid_until: datetime | None = None
    is_team_blocked: bool = False


class KeyRefusedError(ApiFailure):
    """A key that is known and not accepted now: whose it is goes into the book with the refusal."""

    def __init__(self, failure: ApiFailure, caller: Caller) -> None:
        super().__init__(failure.error)
        self.caller = caller


class Keyring(Protocol):
    """Finds keys by hash."""

    async def find(self, key_hash: str) -> KeyState | None:
        """Return the key of that hash; None when there is none."""
        ...


def hash_of(key: str) -> str:
    """Return what is stored of a key: SHA-256 in hex, as LiteLLM stores it."""
    return sha256(key.encode("utf-8", "surrogateescape")).hexdigest()


class Authenticator:
    """Tells who calls."""

    def __init__(self, master_key: str, keyring: Keyring) -> None:
        self._master_hash = hash_of(master_key)
        self._keyring = keyring

    def is_master(self, key_hash: str) -> bool:
        """Tell whether a hash is the master key's."""
        return hmac.compare_digest(key_hash, self._master_hash)

    async def caller(self, headers: Iterable[tuple[str, str]]) -> Caller:
        """Return who calls.

        Raises:
            KeyRefusedError: a revoked or expired key (401), a blocked one (403).
            ApiFailure: no key, or one that nobody has (401).
        """
        key = presented_key(headers)
        if not key:
            raise unauthorized(
                "You didn't provide an API key. Send it in an Authorization header with Bearer auth "
                "(Authorization: Bearer YOUR_KEY).",
                "missing_api_key",
            )
        hashed = hash_of(key[:_KEY_CHARS_MAX])
        if self.is_master(hashed):
            return Caller(MASTER_KEY_ID, key_alias=MASTER_KEY_ID, is_admin=True)
        state = await self._keyring.find(hashed)
        if state is None or not hmac.compare_digest(hashed, state.key_hash):
            raise unauthorized(f"Incorrect API key provided: {masked(key)}.")
        failure = _refusal(state, masked(key), datetime.now(UTC))
        if failure is not None:
            raise KeyRefusedError(failure, state.caller)
        return state.caller


def _refusal(state: KeyState, shown: str, now: datetime) -> ApiFailure | None:
    if state.revoked:
        return unauthorized(f"Incorrect API key provided: {shown}.")
    if state.valid_until is not None and state.valid_until <= now:
        return unauthorized(f"The key {shown} was replaced by a new one and is not accepted any more.", "key_expired")
    if state.blocked:
        return forbidden(f"The key {shown} is blocked.", "key_blocked")
    if state.is_team_blocked:
        return forbidden(f"The team of the key {shown} is blocked.", "team_blocked")
    if state.expires_at is not None and state.expires_at <= now:
        return unauthorized(f"The key {shown} has expired.", "key_expired")
    return None


def require_route(who: Caller, path: str) -> None:
    """Refuse a route that is not among the key's.

    Raises:
        ApiFailure: 403.
    """
    if not is_allowed(who.allowed_routes, path):
        allowed = ", ".join(who.allowed_routes)
        raise forbidden(f"This key may not use {path[:200]}. Its allowed_routes: {allowed[:500]}.", "route_not_allowed")


def require_call(who: Caller, method: str, path: str) -> None:
    """Refuse a call that this key may not make: outside of its routes, or not a reading one of a viewer.

    Raises:
        ApiFailure: 403.
    """
    require_route(who, path)
    if who.is_viewer and not who.is_admin and method not in {"GET", "HEAD"}:
        raise forbidden("A key with the permission view reads, and makes no calls; use another key.")


def presented_key(headers: Iterable[tuple[str, str]]) -> str:
    """Return the key that a request carries; "" for none. Header names in lower case."""
    given = dict(headers)
    for name in _KEY_HEADERS:
        value = given.get(name, "").strip()
        if value:
            scheme, _, rest = value.partition(" ")
            return rest.strip() if scheme.lower() == "bearer" else value
    return ""


def masked(key: str) -> str:
    """Return a key as errors and lists show it: its last four characters, if it has enough others."""
    return f"sk-...{key[-4:]}" if len(key) >= 12 and key.isascii() and key.isprintable() else "sk-..."  # noqa: PLR2004 - three times what is shown
