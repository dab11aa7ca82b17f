"""What an attempt is estimated at that ended without usage; unknown where nothing can be counted."""

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import pytest

from ledger.money.cost import Charge
from llm.estimates import estimate, estimate_open_attempt, is_billable
from tests.support.engine import COMPLETED, PLAIN, PRICES, delta

AT = datetime(2026, 11, 22, tzinfo=UTC)
REQUEST = b'{"model":"gpt-4o","input":"Tell me about ledgers","stream":true}'


def estimated(request: bytes, *blocks: bytes) -> Charge:
    return estimate(request, blocks, reason="cut", model="gpt-4o", at=AT, prices=PRICES, deployment="d-1")


def test_estimate_counts_what_came_and_grows_with_it() -> None:
    short = estimated(REQUEST, delta("one"))
    long = estimated(REQUEST, delta("one"), delta(" two three four"))
    assert short.state == long.state == "estimated"
    assert 0 < short.estimated_usd < long.estimated_usd
    assert short.billed_usd == 0


def test_estimate_takes_recorded_usage_where_the_end_is_among_the_blocks() -> None:
    charge = estimated(REQUEST, delta("one"), COMPLETED)
    assert charge.usage is not None
    assert (charge.state, charge.usage.input_tokens, charge.usage.output_tokens) == ("estimated", 10, 4)


@pytest.mark.parametrize(
    ("request_body", "blocks"),
    [
        (REQUEST, []),
        (b"", [delta("one")]),
        (b"not json", [delta("one")]),
        (b'{"model":"gpt-4o","input":"x","previous_response_id":"resp_1"}', [delta("one")]),
        (b'{"model":"gpt-4o","input":[{"type":"input_image"}]}', [delta("one")]),
    ],
)
def test_estimate_of_what_cannot_be_counted_is_unknown(request_body: bytes, blocks: list[bytes]) -> None:
    charge = estimated(request_body, *blocks)
    assert (charge.state, charge.unknown, charge.billed_usd + charge.estimated_usd) == ("unknown", 1, 0)
    assert charge.reason is not None
    assert charge.reason.startswith("cut; not estimated: ")


@dataclass
class Open:
    """An open call and its attempt, as recovery reads them."""

    request: bytes | None = REQUEST
    received: dict[str, object] = field(default_factory=lambda: {"method": "POST", "path": "/responses"})
    started_at: datetime = AT
    facts: dict[str, object] = field(default_factory=lambda: {"upstream_model": "gpt-4o", "deployment": "d-1"})
    http_status: int | None = 200
    chunks: list[bytes] = field(default_factory=list[bytes])
    body: bytes | None = None
    response_id: str | None = None


@pytest.mark.parametrize(
    ("fields", "state"),
    [
        ({"chunks": [delta("one")]}, "estimated"),
        ({"chunks": [delta("one"), COMPLETED]}, "estimated"),
        ({"body": PLAIN}, "estimated"),
        ({}, "unknown"),
        ({"request": None}, "unknown"),
        (
            {"request": b"x", "received": {"method": "POST", "path": "/responses", "content_encoding": "gzip"}},
            "unknown",
        ),
        ({"received": {"method": "GET", "path": "/responses/resp_1"}}, "billed"),
    ],
)
def test_attempt_whose_writer_died_is_never_free_unless_it_was_a_read(fields: dict[str, Any], state: str) -> None:
    opened = Open(**fields)
    charge = estimate_open_attempt(opened, opened, PRICES)
    assert (charge.state, charge.billed_usd) == (state, 0)


def test_only_what_makes_a_response_is_billable() -> None:
    assert is_billable("POST", "/responses")
    assert is_billable("POST", "/responses/compact")
    assert not is_billable("GET", "/responses")
    assert not is_billable("POST", "/responses/input_tokens")
    assert not is_billable("POST", "/responses/resp_1/cancel")
