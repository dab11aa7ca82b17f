"""What may be said about a new key, and what is refused by name."""

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from api.errors import ApiFailure
from api.routes.key_fields import read_key_wish

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"max_budget": 1}, "max_budget"),
        ({"rpm_limit": 0}, "rpm_limit"),
        ({"permissions": {"a": True}}, "permissions"),
        ({"permissions": ["root"]}, "permissions"),
        ({"permissions": [True]}, "permissions[0]"),
        ({"allowed_routes": ["responses"]}, "allowed_routes"),
        ({"allowed_routes": ["/a*b"]}, "allowed_routes"),
        ({"allowed_routes": ["llm_routes"]}, "allowed_routes"),
        ({"allowed_routes": "/responses"}, "allowed_routes"),
        ({"allowed_routes": [f"/{number}" for number in range(51)]}, "allowed_routes"),
        ({"store_bodies": "some"}, "store_bodies"),
        ({"store_bodies": True}, "store_bodies"),
        ({"blocked": "yes"}, "blocked"),
        ({"grace_period": "1d"}, "grace_period"),
        ({"key_allias": "x"}, "key_allias"),
        ({"models": "gpt-5"}, "models"),
        ({"models": ["all-team-models"]}, "models"),
        ({"models": [1]}, "models[0]"),
        ({"metadata": [1]}, "metadata"),
        ({"metadata": {"a": [Decimal("0.5")]}}, "metadata.a[0]"),
        ({"metadata": {"a": "x" * 5000}}, "metadata"),
        ({"tags": [str(n) for n in range(9)]}, "tags"),
        ({"tags": ["a,b"]}, "tags"),
        ({"duration": "soon"}, "duration"),
        ({"duration": 30}, "duration"),
        ({"duration": "9999999999d"}, "duration"),
        ({"duration": "1d", "expires": "2999-01-01"}, "expires"),
        ({"expires": "2020-01-01"}, "expires"),
        ({"expires": "2020W01"}, "expires"),
        ({"key": "no-prefix-at-all-here"}, "key"),
        ({"key": "sk-short"}, "key"),
        ({"key": "sk-with a space inside"}, "key"),
        ({"key": 7}, "key"),
        ({"team": "a", "team_id": "b"}, "team_id"),
        ({"team": True}, "team"),
        ({"key_alias": "x" * 201}, "key_alias"),
    ],
)
def test_key_field_that_would_not_be_obeyed_is_refused_by_name(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(ApiFailure) as refused:
        read_key_wish(fields, NOW)
    assert (refused.value.error.status, refused.value.error.param) == (400, param)


def test_key_field_that_is_a_secret_is_not_repeated_in_the_error() -> None:
    with pytest.raises(ApiFailure) as refused:
        read_key_wish({"key": "secret-without-the-prefix"}, NOW)
    assert "secret" not in refused.value.error.message


def test_key_field_misspelt_is_answered_with_the_nearest_and_all() -> None:
    with pytest.raises(ApiFailure, match=re.escape("did you mean key_alias?")) as refused:
        read_key_wish({"key_allias": "x"}, NOW)
    assert "duration" in refused.value.error.message


def test_key_field_of_null_is_the_same_as_none() -> None:
    assert read_key_wish({"max_budget": None, "team": None, "team_id": "red"}, NOW).state["team"] == "red"


def test_key_field_not_enforced_that_asks_for_nothing_is_the_same_as_none() -> None:
    asked: dict[str, Any] = {
        "aliases": {}, "config": {}, "guardrails": [], "budget_duration": "", "auto_rotate": False,
        "send_invite_email": False, "spend": 0, "key_type": "default", "permissions": {},
    }  # fmt: skip
    assert read_key_wish({**asked, "team_id": "red"}, NOW).state == read_key_wish({"team": "red"}, NOW).state
    assert read_key_wish({"spend": Decimal("0.0")}, NOW).state == read_key_wish({}, NOW).state
    for field, value in {
        "max_budget": 0,
        "spend": Decimal("0.1"),
        "key_type": "management",
        "aliases": {"a": "b"},
    }.items():
        with pytest.raises(ApiFailure, match=f"{field} is not enforced"):
            read_key_wish({field: value}, NOW)


@pytest.mark.parametrize(
    ("duration", "expires_at"),
    [
        ("30s", "2026-01-31T12:00:30"),
        ("30m", "2026-01-31T12:30:00"),
        ("30h", "2026-02-01T18:00:00"),
        ("30d", "2026-03-02T12:00:00"),
        ("1w", "2026-02-07T12:00:00"),
        ("1mo", "2026-02-28T12:00:00"),
        ("13mo", "2027-02-28T12:00:00"),
        ("1200mo", "2126-01-31T12:00:00"),
    ],
)
def test_key_duration_ends_by_the_calendar(duration: str, expires_at: str) -> None:
    assert read_key_wish({"duration": duration}, NOW).state["expires_at"] == f"{expires_at}.000000Z"


@pytest.mark.parametrize("duration", ["0d", "-1d", "1y", "1.5h", "", "1201mo", "36526d", "9999999999mo"])
def test_key_duration_that_is_none_is_refused(duration: str) -> None:
    with pytest.raises(ApiFailure):
        read_key_wish({"duration": duration}, NOW)
