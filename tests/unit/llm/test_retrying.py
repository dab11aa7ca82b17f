"""Which answers are worth another attempt, where, and after which pause."""

from datetime import UTC, datetime

import pytest

from ledger.money.book import PriceBook
from ledger.money.request import NO_REQUEST
from llm.attempt import Attempt
from llm.ending import Pricing
from llm.retrying import after_answer, after_failure, pause_s
from llm.router import Choice
from llm.upstream import UpstreamError
from tests.support.engine import FakeAnswer, deployed

AT = datetime(2026, 11, 22, tzinfo=UTC)
SAME = Choice(deployed("m", "a"), "retry")
SIBLING = Choice(deployed("m", "b"), "retry")
FALLBACK = Choice(deployed("n", "c"), "fallback")


def attempt(number: int = 1) -> Attempt:
    pricing = Pricing(NO_REQUEST, AT, PriceBook(), "a", is_billable=True)
    return Attempt(number, "first", 0, deployed("m", "a"), pricing, AT)


def answer(status: int, **headers: str) -> FakeAnswer:
    return FakeAnswer(status, [(name.replace("_", "-"), value) for name, value in headers.items()], [])


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504])
def test_answer_that_may_pass_is_tried_again_at_once_in_the_plan(status: int) -> None:
    assert after_answer(answer(status), attempt(), [SAME, FALLBACK]) == [SAME, FALLBACK]


@pytest.mark.parametrize("status", [401, 403, 404])
def test_fault_of_a_deployment_is_tried_elsewhere_only(status: int) -> None:
    assert after_answer(answer(status), attempt(), [SAME, SAME, SIBLING]) == [SIBLING]
    assert after_answer(answer(status), attempt(), [SAME, FALLBACK]) == [FALLBACK]
    assert not after_answer(answer(status), attempt(), [SAME, SAME])


@pytest.mark.parametrize("status", [200, 301, 400, 413, 422])
def test_answer_to_the_request_itself_is_final(status: int) -> None:
    assert not after_answer(answer(status), attempt(), [SAME, SIBLING, FALLBACK])


def test_wish_of_the_upstream_overrides_the_status_for_itself() -> None:
    assert after_answer(answer(400, x_should_retry="true"), attempt(), [SAME]) == [SAME]
    assert after_answer(answer(429, x_should_retry="false"), attempt(), [SAME, FALLBACK]) == [FALLBACK]


@pytest.mark.parametrize(
    "told",
    [
        {"retry_after": "6"},
        {"retry_after_ms": "5001"},
        {"retry_after": "Fri, 31 Dec 1999"},
        {"retry_after": "\xb2"},
        {"retry_after_ms": "9" * 5_000},
    ],
)
def test_pause_that_is_too_long_is_left_to_the_client(told: dict[str, str]) -> None:
    assert not after_answer(answer(429, **told), attempt(), [SAME])
    assert after_answer(answer(429, **told), attempt(), [SAME, SIBLING]) == [SIBLING]


def test_failure_is_tried_again_unless_it_would_come_again() -> None:
    assert after_failure(UpstreamError("cut", "", sent=True), [SAME]) == [SAME]
    assert not after_failure(UpstreamError("too_large", "", sent=True), [SAME, FALLBACK])


def test_pause_is_none_elsewhere_grows_here_and_heeds_the_upstream() -> None:
    assert pause_s(attempt(), FALLBACK, 9.0) == 0
    assert pause_s(attempt(), SIBLING, 9.0) == 0
    assert 0.18 < pause_s(attempt(1), SAME, 0.0) <= 0.25
    assert 0.75 <= pause_s(attempt(3), SAME, 0.0) <= 1.0
    assert pause_s(attempt(20), SAME, 0.0) <= 4.0
    assert pause_s(attempt(), SAME, 2.0) == 2.0
    assert pause_s(attempt(), SAME, 0.0, answer(429, retry_after_ms="1500")) == 1.5
