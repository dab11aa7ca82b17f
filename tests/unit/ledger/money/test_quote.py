"""A quote: what a call would be charged, without one."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from ledger.money.book import PriceBook
from ledger.money.quote import quote
from ledger.money.seed import seed_prices

AT = datetime(2026, 11, 22, tzinfo=UTC)
BOOK = PriceBook(seed_prices())
USAGE = {"input_tokens": 1000, "output_tokens": 100}


def _quote(**given: Any) -> Any:
    return quote(prices=BOOK, at=AT, **given)


def test_quote_of_usage_needs_a_model_and_takes_a_tier() -> None:
    assert _quote(model="gpt-4o", usage=USAGE).billed_usd == Decimal("0.0035")
    assert _quote(model="gpt-5", usage=USAGE, tier="flex").billed_usd == Decimal("0.001125")
    assert _quote(usage=USAGE).state == "unknown"
    assert _quote(usage=USAGE, request={"model": "gpt-4o"}).billed_usd == Decimal("0.0035")


def test_quote_of_a_response_is_what_the_call_would_be_charged() -> None:
    response = {"model": "gpt-4o", "service_tier": "default", "usage": USAGE, "output": [{"type": "file_search_call"}]}
    assert _quote(response=response).billed_usd == Decimal("0.006")
    assert _quote(response=response, model="gpt-4o-mini").billed_usd == Decimal("0.00271")


def test_quote_of_a_request_counts_its_input_and_is_estimated() -> None:
    charged = _quote(request={"model": "gpt-4o", "input": "Hello"})
    assert (charged.state, charged.billed_usd, charged.usage.output_tokens) == ("estimated", 0, 0)
    assert charged.estimated_usd == charged.usage.input_tokens * Decimal("0.0000025")
    assert _quote(request={"model": "gpt-4o", "previous_response_id": "resp_1"}).state == "unknown"
    assert _quote(model="gpt-x", request={"input": "Hello"}).state == "unknown"
