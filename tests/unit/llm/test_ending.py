"""How attempts end, and what is charged where no usage came: never zero for what may have cost."""

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from ledger.money.request import NO_REQUEST
from llm.ending import Pricing, of_failure, of_plain, of_stream
from llm.terminal import read_terminal
from tests.support.engine import COMPLETED, PLAIN, PRICES

AT = datetime(2026, 11, 22, tzinfo=UTC)
BILLABLE = Pricing(NO_REQUEST, AT, PRICES, "d-1", is_billable=True)
READ = Pricing(NO_REQUEST, AT, PRICES, "d-1", is_billable=False)
ERROR = {"error": {"message": "no", "type": "invalid_request_error", "param": None, "code": "invalid_value"}}


def plain(status: int, value: Any, pricing: Pricing = BILLABLE) -> tuple[str, str, str | None]:
    body = value if isinstance(value, bytes) or value is None else json.dumps(value).encode()
    ending = of_plain(status, body, pricing)
    assert ending.charge is not None
    return ending.type, ending.charge.state, None if ending.error is None else ending.error["code"]


def test_whole_answer_is_completed_and_billed() -> None:
    ending = of_plain(200, PLAIN, BILLABLE)
    assert ending.charge is not None
    # 10 input tokens at 2.50 and 4 output tokens at 10.00 USD a million.
    assert (ending.type, ending.charge.billed_usd) == ("call.completed", Decimal("0.000065"))


@pytest.mark.parametrize(
    ("status", "value", "told"),
    [
        (400, ERROR, ("call.failed", "billed", "invalid_value")),
        (429, b"<html>", ("call.failed", "billed", "http_429")),
        (500, ERROR, ("call.failed", "billed", "invalid_value")),
        (502, b"<html>", ("call.failed", "unknown", "http_502")),
        (301, b"", ("call.failed", "billed", "http_301")),
        (200, b"", ("call.completed", "unknown", None)),
        (200, None, ("call.completed", "unknown", None)),
        (200, b"[1]", ("call.completed", "unknown", None)),
        (200, {"status": "queued", "usage": None}, ("call.completed", "unknown", None)),
        (200, {"status": "incomplete", "usage": None}, ("call.incomplete", "unknown", None)),
        (
            200,
            {"status": "failed", "error": {"code": "server_error", "message": "x"}},
            ("call.failed", "unknown", "server_error"),
        ),
        (
            200,
            {"status": "failed", "error": {"code": "rate_limit_exceeded"}},
            ("call.failed", "billed", "rate_limit_exceeded"),
        ),
    ],
)
def test_plain_answer_ends_as_what_it_was(status: int, value: Any, told: tuple[str, str, str | None]) -> None:
    assert plain(status, value) == told


def test_read_never_charges_whatever_usage_it_shows() -> None:
    assert plain(200, PLAIN, READ) == ("call.completed", "billed", None)
    assert of_plain(200, PLAIN, READ).charge == of_stream(read_terminal(COMPLETED), False, READ).charge
    assert of_failure("cut", READ, sent=True).unknown == 0
    charge = of_plain(502, b"<html>", READ).charge
    assert charge is not None
    assert (charge.state, charge.billed_usd) == ("billed", 0)


def test_stream_without_a_readable_end_is_truncated_and_left_to_an_estimate() -> None:
    broken = read_terminal(b"event: response.completed\ndata: {\n\n")
    for terminal, is_cut in ((None, True), (None, False), (broken, False)):
        ending = of_stream(terminal, is_cut, BILLABLE)
        assert (ending.type, ending.charge) == ("call.truncated", None)


@pytest.mark.parametrize(
    ("data", "told"),
    [
        ({"type": "error", "error": {"code": "server_error", "message": "x"}}, ("call.failed", "unknown")),
        ({"type": "error", "code": "insufficient_quota", "message": "x"}, ("call.failed", "billed")),
        ({"type": "response.failed", "response": {"status": "failed", "usage": None}}, ("call.failed", "unknown")),
        ({"type": "response.cancelled", "response": {"status": "cancelled"}}, ("call.cancelled", "unknown")),
        ({"type": "response.incomplete", "response": {"status": "incomplete"}}, ("call.incomplete", "unknown")),
    ],
)
def test_stream_ends_as_its_terminal_event_says(data: dict[str, Any], told: tuple[str, str]) -> None:
    block = f"event: {data['type']}\ndata: {json.dumps(data)}\n\n".encode()
    ending = of_stream(read_terminal(block), False, BILLABLE)
    assert ending.charge is not None
    assert (ending.type, ending.charge.state) == told


def test_failure_without_an_answer_is_free_only_if_nothing_was_sent() -> None:
    assert of_failure("x", BILLABLE, sent=False).state == "billed"
    assert of_failure("x", BILLABLE, sent=True).state == "unknown"
