"""Prices: what is refused, what their identity covers, which one the book picks."""

from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from ledger.money.book import PriceBook, Unpriced
from ledger.money.config_price import config_price
from ledger.money.exact import fits, parse, plain
from ledger.money.price import Match, Price, PriceError, Rate, make_rates

START = datetime(2026, 1, 1, tzinfo=UTC)
SOON = START + timedelta(days=10)
LATER = START + timedelta(days=20)


def _price(unit_price: str = "0.000001", **changes: Any) -> Price:
    parts: dict[str, Any] = {
        "model": "gpt-x",
        "matches": (Match("equals", "gpt-x"),),
        "tier": "default",
        "valid_from": START,
        "valid_to": None,
        "rates": make_rates({"output": [Rate(0, Decimal(2))], "input_uncached": [Rate(0, Decimal(unit_price))]}),
        "source": "test",
        **changes,
    }
    return Price(**parts)


def _found(book: PriceBook, model: str, tier: str, at: datetime, deployment: str = "") -> Price:
    price = book.find(model, tier, at, deployment=deployment)
    assert isinstance(price, Price), price
    return price


@pytest.mark.parametrize("text", ["", "nan", "Infinity", "1_000", "0x1", "1e9999", "1.", "$1", "1 2", "٣"])
def test_parse_of_what_is_no_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected a decimal number"):
        parse(text)


@pytest.mark.parametrize(
    ("text", "spelled"),
    [("2.5e-06", "0.0000025"), ("10", "10"), ("1E+2", "100"), ("0.10", "0.1"), ("-0.0", "0"), ("0", "0"), (" 1 ", "1")],
)
def test_plain_of_a_parsed_number_has_no_exponent(text: str, spelled: str) -> None:
    assert plain(parse(text)) == spelled


def test_fits_counts_decimals_without_trailing_zeros() -> None:
    assert fits(Decimal("0.0000000000010000"))
    assert not fits(Decimal("0.0000000000011"))
    assert not fits(Decimal("NaN"))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"unit_price": "0.0000000000001"}, "needs more than 12 decimals"),
        ({"unit_price": "-1"}, "lies between 0 and 100"),
        ({"unit_price": "NaN"}, "lies between 0 and 100"),
        ({"unit_price": "101"}, "lies between 0 and 100"),
        ({"model": ""}, "model must have 1 to"),
        ({"model": "a\x00b"}, "cannot be printed"),
        ({"source": "\ud800"}, "cannot be printed"),
        ({"tier": "fast"}, "write the tier as 'priority'"),
        ({"valid_from": datetime(2026, 1, 1)}, "has no time zone"),  # noqa: DTZ001 - that is the fault
        ({"matches": ()}, "names to match"),
        ({"matches": (Match("any", ""),)}, "only a deployment's own price"),
        ({"matches": (Match("equals", ""),)}, "cannot match a name"),
        ({"rates": ()}, "no unit prices"),
        ({"rates": (("output", (Rate(5, Decimal(1)),)),)}, "thresholds must rise from 0"),
        ({"rates": (("output", (Rate(0, Decimal(1)), Rate(0, Decimal(1)))),)}, "thresholds must rise from 0"),
    ],
)
def test_price_with_a_fault_is_refused_with_the_reason(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(PriceError) as caught:
        _price(**changes)
    assert told in str(caught.value)


def test_price_whose_facts_were_altered_is_refused() -> None:
    facts = _price().to_facts()
    facts["rates"]["output"][0]["unit_price_usd"] = "1"
    with pytest.raises(PriceError, match="it was altered"):
        Price.from_facts(facts)


@pytest.mark.parametrize("facts", [{}, {**_price().to_facts(), "rates": 5}, {**_price().to_facts(), "valid_from": "x"}])
def test_price_from_facts_that_are_none_is_refused(facts: dict[str, Any]) -> None:
    with pytest.raises(PriceError, match="not the facts of a price"):
        Price.from_facts(facts)


def test_price_identity_is_its_content_however_it_is_spelled() -> None:
    elsewhere = START.astimezone(timezone(timedelta(hours=5)))
    assert _price().price_id == _price(unit_price="1E-6", valid_from=elsewhere, revision=7).price_id
    assert _price().price_id != _price(unit_price="0.000002").price_id
    assert _price().price_id.startswith("sha256:")


def test_unit_price_above_a_threshold_holds_for_the_whole_request() -> None:
    price = _price(rates=make_rates({"output": [Rate(0, Decimal(1)), Rate(272_000, Decimal(2))]}))
    assert price.unit_price("output", 272_000) == 1
    assert price.unit_price("output", 272_001) == 2
    assert price.unit_price("input_cached", 1) is None


def test_book_without_the_model_or_the_tier_or_the_time_says_which() -> None:
    book = PriceBook([_price()])
    assert book.find("gpt-y", "default", SOON) == Unpriced("no price is known for model 'gpt-y'")
    missing = book.find("gpt-x", "ultrafast", SOON)
    assert isinstance(missing, Unpriced)
    assert "tier 'ultrafast' has no price for model 'gpt-x'" in missing.reason
    early = book.find("gpt-x", "default", START - timedelta(microseconds=1))
    assert isinstance(early, Unpriced)
    assert "the earliest starts 2026-01-01" in early.reason


def test_book_picks_the_latest_price_that_has_started_and_not_ended() -> None:
    old, offer = _price("1"), _price("2", valid_from=SOON, valid_to=LATER)
    book = PriceBook([offer, old])
    assert _found(book, "gpt-x", "default", SOON - timedelta(microseconds=1)) == old
    assert _found(book, "gpt-x", "default", SOON) == offer
    assert _found(book, "gpt-x", "default", LATER) == old


def test_book_picks_the_highest_revision_in_whatever_order_they_come() -> None:
    first, second = _price("1", revision=1), _price("2", revision=2)
    for order in ([first, second], [second, first]):
        assert _found(PriceBook(order), "gpt-x", "default", SOON) == second
        assert PriceBook(order).prices == (second,)


def test_book_takes_fast_for_priority_and_standard_for_default() -> None:
    book = PriceBook([_price("1"), _price("2", tier="priority")])
    assert _found(book, "gpt-x", "fast", SOON).tier == "priority"
    assert _found(book, "gpt-x", "standard", SOON).tier == "default"


def test_book_prefers_the_more_exact_name_even_where_it_lacks_the_tier() -> None:
    broad = _price("1", model="broad", matches=(Match("starts_with", "gpt-"),))
    flex = _price("1", model="broad", matches=(Match("starts_with", "gpt-"),), tier="flex")
    dated = _price("2", model="dated", matches=(Match("snapshot_of", "gpt-x"),))
    exact = _price("3", matches=(Match("equals", "GPT-X"),))
    book = PriceBook([broad, flex, dated, exact])
    assert _found(book, "gpt-x", "default", SOON) == exact
    assert _found(book, "gpt-x-2026-01-31", "default", SOON) == dated
    assert _found(book, "gpt-x-2026-1-31", "default", SOON) == broad
    assert isinstance(book.find("gpt-x", "flex", SOON), Unpriced)


def test_book_prices_a_deployment_by_its_own_prices_alone() -> None:
    own = _price("9", model="mine", matches=(Match("any", ""),), deployment="d1")
    book = PriceBook([_price(), _price(tier="flex"), own])
    assert _found(book, "gpt-x", "default", SOON, "d1") == own
    assert isinstance(book.find("gpt-x", "flex", SOON, deployment="d1"), Unpriced)
    assert _found(book, "gpt-x", "default", SOON, "d2") == _price()


def test_book_remembers_a_bounded_number_of_names() -> None:
    book = PriceBook([_price()])
    for number in range(5000):
        book.find(f"gpt-{number}", "default", SOON)
    assert len(book._cache) <= 4096
    assert _found(book, "gpt-x", "default", SOON) == _price()


def test_config_price_keeps_every_digit_of_the_text() -> None:
    texts = {"input_cost_per_token": "2.5e-06", "output_cost_per_token": "0.00001", "weight": "1"}
    price = config_price(texts, deployment="d1", model="gpt-x", valid_from=START)
    assert price is not None
    assert [price.unit_price(meter, 1) for meter in ("input_uncached", "input_cached", "output")] == [
        Decimal("0.0000025"),
        Decimal("0.0000025"),
        Decimal("0.00001"),
    ]
    assert "cache_read_input_token_cost" in price.source


@pytest.mark.parametrize(
    ("texts", "told"),
    [
        ({"input_cost_per_token": "1"}, "missing: output_cost_per_token"),
        ({"input_cost_per_token": "free", "output_cost_per_token": "1"}, "input_cost_per_token: expected a decimal"),
        ({"input_cost_per_token": "1e-13", "output_cost_per_token": "1"}, "more than 12 decimals"),
    ],
)
def test_config_price_with_a_fault_is_refused(texts: dict[str, str], told: str) -> None:
    with pytest.raises(PriceError, match=told):
        config_price(texts, deployment="d1", model="gpt-x", valid_from=START)


def test_config_price_without_prices_is_none() -> None:
    assert config_price({"weight": "1"}, deployment="d1", model="gpt-x", valid_from=START) is None
