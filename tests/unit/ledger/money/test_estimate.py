"""Estimates: counted offline where the text is all there is, refused where it is not."""

from collections import Counter
from datetime import UTC, datetime
from typing import Any

import pytest

from ledger.money.book import PriceBook
from ledger.money.estimate import OutputCounter, Uncountable, estimate_charge, estimate_input_tokens
from ledger.money.request import read_request
from ledger.money.seed import seed_prices
from ledger.money.tokens import count_tokens, warm
from tests.support.corpus import recorded_rows

AT = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.parametrize(
    ("request_body", "told"),
    [
        ({"previous_response_id": "resp_1", "input": "x"}, "previous_response_id refers to input"),
        ({"conversation": "conv_1", "input": "x"}, "conversation refers to input"),
        ({"prompt": {"id": "pmpt_1"}}, "prompt refers to input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image"}]}]}, "'input_image' cannot be counted"),
        ({"input": [{"role": "user", "content": [{"type": "input_file"}]}]}, "'input_file' cannot be counted"),
        ({"input": [{"type": "reasoning", "encrypted_content": "x"}]}, "type 'reasoning' cannot be counted"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "type 'item_reference' cannot be counted"),
        ({"input": "x", "tools": [{"type": "web_search"}]}, "tool 'web_search' adds input"),
        ({"input": 5}, "input is neither text nor a list"),
        ({"input": ["x"]}, "an input item is not an object"),
        ({"input": "x" * 16_000_001}, "more than the 16000000 that are counted"),
    ],
)
def test_input_that_is_not_all_text_is_uncountable_with_the_reason(request_body: dict[str, Any], told: str) -> None:
    counted = estimate_input_tokens(request_body)
    assert isinstance(counted, Uncountable)
    assert told in counted.reason


def test_tokens_of_a_long_text_are_counted_in_pieces() -> None:
    warm()
    assert count_tokens("hello world") == 2
    assert count_tokens(" hello" * 250_000) == pytest.approx(250_000, abs=40)
    assert count_tokens("\U000e0101" * 60_000) == 240_000
    assert count_tokens("a\ud800b") > 0


def test_input_of_messages_and_calls_is_counted() -> None:
    body = {
        "instructions": "Be brief.",
        "input": [
            {"role": "user", "content": [{"type": "input_text", "text": "hello world"}]},
            {"type": "function_call", "name": "f", "arguments": "{}"},
            {"type": "function_call_output", "output": "5"},
        ],
    }
    assert estimate_input_tokens(body) == 3 + 4 * 4 + 3 + 2 + 2 + 1
    assert estimate_input_tokens({}) == 3


@pytest.mark.corpus
def test_input_of_recorded_messages_is_counted_within_a_few_tokens() -> None:
    close: Counter[bool] = Counter()
    for row in recorded_rows():
        answer, body = row.answer(), row.request_body or {}
        if row.method != "POST" or answer is None or not answer.get("usage"):
            continue
        counted = estimate_input_tokens(body)
        if isinstance(counted, int):
            actual = answer["usage"]["input_tokens"]
            close[abs(counted - actual) <= max(20, actual // 5)] += 1
    assert close[True] > 250
    assert close[True] > 9 * close[False]


def test_output_counter_counts_each_delta_once() -> None:
    counter = OutputCounter()
    for kind in ("response.output_text.delta", "response.function_call_arguments.delta", "response.refusal.delta"):
        counter.feed({"type": kind, "delta": "hello world", "obfuscation": "x" * 50})
    counter.feed({"type": "response.output_text.done", "text": "hello world"})
    counter.feed({"type": "response.audio.delta", "delta": "QUJD" * 100})
    counter.feed({"type": "response.output_text.delta", "delta": None})
    counter.feed({"delta": "no type"})
    assert counter.tokens == count_tokens("hello world" * 3)


def test_output_counter_holds_a_bounded_text() -> None:
    counter = OutputCounter()
    for _ in range(100):
        counter.feed_text(" hello" * 1000)
        assert counter._pending_chars < 40_000
    assert counter.tokens == 100_000


def test_estimated_charge_is_estimated_and_says_why() -> None:
    body = {"model": "gpt-4o", "input": "hello world", "service_tier": "auto"}
    charged = estimate_charge(
        body,
        100,
        reason="the client left",
        model="gpt-4o",
        at=AT,
        prices=PriceBook(seed_prices()),
        request=read_request(body),
    )
    facts = charged.to_facts()
    assert (facts["state"], facts["billed_usd"], facts["unknown"]) == ("estimated", "0", 0)
    assert facts["estimated_usd"] == "0.0010225"  # 9 tokens at 2.50 and 100 at 10.00 USD per million
    assert facts["reason"] == "the client left; tokens counted offline, without hidden reasoning"


@pytest.mark.parametrize(
    ("model", "body", "told"),
    [
        ("gpt-none", {"input": "x"}, "no price is known"),
        ("gpt-4o", {"input": "x", "service_tier": "flex"}, "tier 'flex' has no price"),
        ("gpt-4o", {"input": 5}, "not estimated: input is neither"),
    ],
)
def test_estimated_charge_without_price_or_count_is_unknown(model: str, body: dict[str, Any], told: str) -> None:
    charged = estimate_charge(
        body,
        5,
        reason="cut",
        model=model,
        at=AT,
        prices=PriceBook(seed_prices()),
        request=read_request(body),
    )
    assert (charged.state, charged.unknown, charged.estimated_usd) == ("unknown", 1, 0)
    assert told in (charged.reason or "")
