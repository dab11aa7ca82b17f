"""Who calls: keys by their hash, and what is wrong with those that are refused."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from api.auth import Authenticator, Caller, KeyState, hash_of, masked, presented_key
from api.errors import ApiFailure

KEY = "sk-" + "a" * 20
STATE = KeyState(Caller("key-1", team="red"), hash_of(KEY), blocked=False, revoked=False, expires_at=None)
NOW = datetime.now(UTC)


class Ring:
    """Knows one key."""

    def __init__(self, state: KeyState = STATE) -> None:
        self.state = state

    async def find(self, key_hash: str) -> KeyState | None:
        """Find it."""
        return self.state if key_hash == hash_of(KEY) else None


@pytest.mark.parametrize(
    "headers",
    [
        [("authorization", f"Bearer {KEY}")],
        [("authorization", f"bearer   {KEY} ")],
        [("authorization", KEY)],
        [("x-litellm-api-key", KEY)],
        [("x-llm-api-key", f"Bearer {KEY}")],
        [("api-key", KEY)],
        [("x-api-key", KEY)],
        [("authorization", f"Bearer {KEY}"), ("x-api-key", "sk-other")],
    ],
)
async def test_key_is_found_where_clients_put_it(headers: list[tuple[str, str]]) -> None:
    assert (await Authenticator("sk-master", Ring()).caller(headers)).key_id == "key-1"


async def test_master_key_is_an_administrator_and_sees_all() -> None:
    caller = await Authenticator("sk-master", Ring()).caller([("authorization", "Bearer sk-master")])
    assert (caller.key_id, caller.is_admin, caller.scope) == ("master", True, None)
    assert STATE.caller.scope == "key-1"


@pytest.mark.parametrize(
    ("key", "state", "status", "code"),
    [
        ("", STATE, 401, "missing_api_key"),
        ("Bearer ", STATE, 401, "missing_api_key"),
        ("Bearer sk-wrong", STATE, 401, "invalid_api_key"),
        (f"Bearer {KEY}", replace(STATE, revoked=True), 401, "invalid_api_key"),
        (f"Bearer {KEY}", replace(STATE, blocked=True), 403, "key_blocked"),
        (f"Bearer {KEY}", replace(STATE, expires_at=NOW - timedelta(seconds=1)), 401, "key_expired"),
        (f"Bearer {KEY}\u00ff\udcff", STATE, 401, "invalid_api_key"),
    ],
)
async def test_key_that_may_not_call_is_refused_without_being_shown(
    key: str, state: KeyState, status: int, code: str
) -> None:
    with pytest.raises(ApiFailure) as caught:
        await Authenticator("sk-master", Ring(state)).caller([("authorization", key)])
    assert (caught.value.error.status, caught.value.error.code) == (status, code)
    assert KEY not in caught.value.error.message


async def test_key_that_expires_later_may_call() -> None:
    state = replace(STATE, expires_at=NOW + timedelta(hours=1))
    assert (await Authenticator("sk-master", Ring(state)).caller([("x-api-key", KEY)])).team == "red"


def test_masked_key_shows_four_characters_of_a_long_one_only() -> None:
    assert masked("sk-abcdefgh1234") == "sk-...1234"
    assert masked("short") == masked("x" * 20 + "\n") == "sk-..."
    assert presented_key([]) == ""
