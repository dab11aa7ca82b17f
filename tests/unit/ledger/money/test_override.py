"""Prices set over the list: what they take over, when they hold, how they end; and what they complete."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from ledger.money.answer import charge_answer
from ledger.money.book import PriceBook, Unpriced
from ledger.money.correction import accumulate, correction
from ledger.money.override import override_price, withdrawn
from ledger.money.price import Match, Price, PriceError, Rate
from ledger.money.repricing import price_again
from ledger.money.request import NO_REQUEST
from ledger.money.seed import seed_prices

NOW = datetime(2026, 11, 22, tzinfo=UTC)
LIST = seed_prices()
BOOK = PriceBook(LIST)


def _override(book: PriceBook = BOOK, model: str = "gpt-4o", tier: str = "default", **changes: Any) -> Price:
    arguments: dict[str, Any] = {"valid_from": NOW, "valid_to": None, "source": "test", **changes}
    rates = arguments.pop("rates", {"input_uncached": (Rate(0, Decimal("0.000001")),)})
    return override_price(book, model, tier, rates, **arguments)


def _usd(book: PriceBook, model: str, at: datetime, meter: Any = "input_uncached") -> Decimal | None:
    price = book.find(model, "default", at)
    assert isinstance(price, Price)
    return price.unit_price(meter, 0)


def test_override_changes_its_meters_from_its_beginning_and_keeps_the_others() -> None:
    book = PriceBook([*LIST, _override()])
    assert _usd(book, "gpt-4o-2024-08-06", NOW) == Decimal("0.000001")
    assert _usd(book, "gpt-4o", NOW, "output") == Decimal("0.00001")
    assert _usd(book, "gpt-4o", NOW - timedelta(microseconds=1)) == Decimal("0.0000025")
    assert isinstance(book.find("gpt-4o", "priority", NOW), Price)


def test_override_wins_over_a_list_that_was_published_later() -> None:
    base = BOOK.find("gpt-4o", "default", NOW)
    assert isinstance(base, Price)
    newer = replace(base, valid_from=NOW + timedelta(days=1), source="genai-prices 9, openai/gpt-4o")
    assert _usd(PriceBook([*LIST, newer, _override()]), "gpt-4o", NOW + timedelta(days=2)) == Decimal("0.000001")


def test_override_leaves_a_deployments_own_price_alone() -> None:
    rates = (("input_uncached", (Rate(0, Decimal(1)),)), ("output", (Rate(0, Decimal(1)),)))
    own = Price("gpt-4o", (Match("any", ""),), "default", NOW - timedelta(days=9), None, rates, "config", "d1")  # pyright: ignore[reportArgumentType]  # literals
    book = PriceBook([*LIST, own, _override()])
    assert book.find("gpt-4o", "default", NOW, deployment="d1") == own


def test_override_that_is_withdrawn_gives_way_to_the_list_and_stays_in_the_past() -> None:
    set_price = _override()
    end = withdrawn(PriceBook([*LIST, set_price]), set_price.price_id, NOW + timedelta(hours=1))
    assert (end.revision, end.slot) == (2, set_price.slot)
    book = PriceBook([*LIST, set_price, end])
    assert _usd(book, "gpt-4o", NOW) == Decimal("0.000001")
    assert _usd(book, "gpt-4o", NOW + timedelta(hours=1)) == Decimal("0.0000025")
    with pytest.raises(PriceError, match="has ended already"):
        withdrawn(book, end.price_id, NOW + timedelta(hours=2))


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"model": "gpt-9"}, "a first price needs input_uncached and output"),
        ({"rates": {"output": (Rate(0, Decimal("0.0000000000001")),)}}, "more than 12 decimals"),
        ({"rates": {"output": (Rate(0, Decimal(-1)),)}}, "between 0 and 100"),
        ({"valid_to": NOW}, "does not lie behind"),
        ({"tier": "x" * 65, "model": "openai-tools"}, "input_uncached and output"),
    ],
)
def test_override_that_cannot_be_a_price_is_refused(changes: dict[str, Any], told: str) -> None:
    with pytest.raises(PriceError, match=told):
        _override(**changes)


def test_override_of_what_is_set_already_and_withdrawal_of_the_list_are_refused() -> None:
    with pytest.raises(PriceError, match="already"):
        _override(PriceBook([*LIST, _override()]))
    listed = BOOK.find("gpt-4o", "default", NOW)
    assert isinstance(listed, Price)
    with pytest.raises(PriceError, match="price list"):
        withdrawn(BOOK, listed.price_id, NOW)
    with pytest.raises(PriceError, match="there is no price"):
        withdrawn(BOOK, "sha256:0", NOW)


def test_override_reads_back_with_its_origin_and_the_lists_identity_is_as_before() -> None:
    price = _override()
    assert Price.from_facts(json.loads(json.dumps(price.to_facts()))) == price
    assert "origin" not in LIST[0].to_facts()


ANSWER = {
    "model": "gpt-9",
    "service_tier": "default",
    "usage": {"input_tokens": 1000, "output_tokens": 100},
    "output": [{"type": "file_search_call"}],
}
STARTED: dict[str, Any] = {"attempt": 1, "deployment": "d", "money": {}}


def _recorded(answer: dict[str, Any]) -> dict[str, Any]:
    charged = charge_answer(answer, request=NO_REQUEST, at=NOW, prices=BOOK)
    assert charged.unknown == 1
    return json.loads(json.dumps(charged.to_facts()))


def test_repricing_completes_what_lacked_a_price_and_adds_up() -> None:
    recorded = _recorded(ANSWER)
    rates = {"input_uncached": (Rate(0, Decimal("0.000002")),), "output": (Rate(0, Decimal("0.00001")),)}
    prices = PriceBook([*LIST, _override(model="gpt-9", rates=rates, valid_from=NOW - timedelta(days=1))])
    charge = price_again(recorded, STARTED, at=NOW, prices=prices)
    assert charge is not None
    assert (charge.state, charge.unknown, charge.billed_usd) == ("billed", 0, Decimal("0.0055"))
    after = accumulate(recorded, [correction(recorded, charge)])
    assert (after["billed_usd"], after["unknown"], after["state"]) == ("0.0055", 0, "billed")
    assert price_again(after, STARTED, at=NOW, prices=prices) is None


def test_repricing_without_a_price_of_that_time_changes_nothing() -> None:
    rates = {"input_uncached": (Rate(0, Decimal(1)),), "output": (Rate(0, Decimal(1)),)}
    later = PriceBook([*LIST, _override(model="gpt-9", rates=rates, valid_from=NOW + timedelta(seconds=1))])
    assert price_again(_recorded(ANSWER), STARTED, at=NOW, prices=later) is None
    assert price_again(_recorded(ANSWER), STARTED, at=NOW, prices=BOOK) is None


def test_repricing_keeps_unknown_what_no_price_helps_with() -> None:
    recorded = _recorded({**ANSWER, "output": [{"type": "program"}]})
    rates = {"input_uncached": (Rate(0, Decimal("0.000002")),), "output": (Rate(0, Decimal("0.00001")),)}
    prices = PriceBook([*LIST, _override(model="gpt-9", rates=rates)])
    charge = price_again(recorded, STARTED, at=NOW, prices=prices)
    assert charge is not None
    assert (charge.state, charge.unknown, charge.billed_usd) == ("unknown", 1, Decimal("0.003"))
    assert "program (1) has no price" in (charge.reason or "")


def test_repricing_prices_an_image_model_later_and_keeps_the_items_that_stand() -> None:
    image_gen = {
        "input_tokens": 10,
        "input_tokens_details": {"text_tokens": 10, "image_tokens": 0},
        "output_tokens": 100,
        "output_tokens_details": {"text_tokens": 0, "image_tokens": 100},
        "cached_tokens": 0,
        "total_tokens": 110,
    }
    recorded = _recorded({**ANSWER, "model": "gpt-4o", "tool_usage": {"image_gen": image_gen}, "output": []})
    assert recorded["billed_usd"] == "0.0035"
    rates: dict[Any, Any] = {
        "image_text_input": (Rate(0, Decimal("0.000005")),),
        "image_output": (Rate(0, Decimal("0.00003")),),
    }
    prices = PriceBook([*LIST, _override(model="gpt-image-2.6-sunburst", rates=rates)])
    charge = price_again(recorded, STARTED, at=NOW, prices=prices)
    assert charge is not None
    assert (charge.state, charge.billed_usd) == ("billed", Decimal("0.00655"))
    assert isinstance(BOOK.find("gpt-image-2.6-sunburst", "default", NOW), Unpriced)
