"""What a connection is opened with."""

from typing import Any

import asyncpg
import pytest

from ledger.postgres.connect import CONNECT_TIMEOUT_S, connect


@pytest.mark.parametrize(
    ("query", "timeout_s"), [("?connect_timeout=3", 3), ("?connect_timeout=0", CONNECT_TIMEOUT_S), ("", 10)]
)
async def test_connect_waits_as_long_as_the_url_says_and_never_for_ever(
    monkeypatch: pytest.MonkeyPatch, query: str, timeout_s: float
) -> None:
    given: dict[str, Any] = {}

    async def opened(**arguments: Any) -> None:
        given.update(arguments)

    monkeypatch.setattr(asyncpg, "connect", opened)
    await connect(f"postgresql://u@h/d{query}", purpose="test")
    assert given["timeout"] == timeout_s
