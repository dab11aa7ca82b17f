"""The state that a list of keys tells of each is the status by which it is found."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from api.cli.keys_text import print_keys


def test_keys_are_listed_with_the_state_by_which_they_are_found(capsys: pytest.CaptureFixture[str]) -> None:
    now = datetime.now(UTC)
    named: dict[str, Any] = dict.fromkeys(("key_id", "key_name", "key_alias", "team", "user"), "x")
    key = {**named, "spend": 0, "unknown_calls": 0, "revoked": False, "blocked": False, "expires": None}
    ended = {**key, "expires": now - timedelta(hours=1)}
    keys = [
        key,
        {**key, "expires": now + timedelta(hours=1)},
        ended,
        {**ended, "blocked": True},
        {**ended, "revoked": True},
    ]
    print_keys(keys, as_json=False)
    lines = capsys.readouterr().out.splitlines()[1:]
    assert [line.split()[5] for line in lines] == ["active", "active", "expired", "blocked", "revoked"]
