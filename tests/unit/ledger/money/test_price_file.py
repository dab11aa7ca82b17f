"""Prices as people write them: exact, and refused where they are not what they should be."""

import json
from decimal import Decimal
from typing import Any

import pytest

from ledger.money.price import PriceError, Rate
from ledger.money.price_file import read_price_file, read_wish

OWN = """
- model: gpt-9
  tier: fast
  valid_from: 2026-01-01
  rates:
    input_uncached: 2.5e-06
    output: [[0, 0.00001], [272000, 0.00002]]
- model: gpt-8
"""


def test_price_file_of_ours_is_read_from_its_texts() -> None:
    wishes, skipped, is_map = read_price_file(OWN.encode())
    (wish,) = wishes
    assert (wish.model, wish.tier) == ("gpt-9", "priority")
    assert wish.rates["input_uncached"] == (Rate(0, Decimal("2.5e-06")),)
    assert wish.rates["output"] == (Rate(0, Decimal("0.00001")), Rate(272000, Decimal("0.00002")))
    assert str(wish.valid_from) == "2026-01-01 00:00:00+00:00"
    assert skipped == (("entry 2", "rates: expected at least one unit price"),)
    assert not is_map


def test_price_map_of_litellm_gives_tiers_thresholds_and_lifetimes_exactly() -> None:
    entry = """{"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1e-05,
        "input_cost_per_token_above_272k_tokens": 2e-05, "output_cost_per_token": 0.00005,
        "input_cost_per_token_flex": 5e-06, "output_cost_per_token_flex": 2.5e-05, "max_tokens": 9,
        "cache_creation_input_token_cost_above_12hr_above_272k_tokens_flex": 0.1234567890123456789,
        "input_cost_per_token_batches": 1}"""
    other = '{"litellm_provider": "azure", "mode": "chat", "input_cost_per_token": 1}'
    half = '{"litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 1}'
    wishes, skipped, is_map = read_price_file(f'{{"gpt-9": {entry}, "azure/x": {other}, "half": {half}}}'.encode())
    by_tier = {wish.tier: wish.rates for wish in wishes}
    assert set(by_tier) == {"default", "flex"}
    assert by_tier["default"]["input_uncached"] == (Rate(0, Decimal("1e-05")), Rate(272000, Decimal("2e-05")))
    assert str(by_tier["flex"]["input_cache_write_12h"][0].unit_price_usd) == "0.1234567890123456789"
    assert skipped == (("half", "tier default: it has no price for both input and output"),)
    assert is_map


@pytest.mark.parametrize("data", [b"", b"1", b"[", b"\xff", b"{}", b'{"a": 1}', b"a: &a [*a]", b"[" * 20_000])
def test_price_file_that_is_none_is_refused(data: bytes) -> None:
    with pytest.raises(PriceError):
        read_price_file(data)


@pytest.mark.parametrize(
    ("wish", "told"),
    [
        ({}, "model: expected a text"),
        ({"model": 5}, "model: expected a text"),
        ({"model": "m"}, "at least one unit price"),
        ({"model": "m", "rates": []}, "expected an object"),
        ({"model": "m", "rates": {"tokens": "1"}}, "unknown meter 'tokens'"),
        ({"model": "m", "rates": {"output": 0.1}}, "got float"),
        ({"model": "m", "rates": {"output": True}}, "got bool"),
        ({"model": "m", "rates": {"output": "NaN"}}, "expected a decimal number"),
        ({"model": "m", "rates": {"output": [["x", "1"]]}}, "must be a whole number"),
        ({"model": "m", "rates": {"output": [["1"]]}}, "expected steps"),
        ({"model": "m", "rates": {"output": "1"}, "output_cost_per_token": "1"}, "say the same"),
        ({"model": "m", "rates": {"output": "1"}, "valid_from": "soon"}, "valid_from: expected a moment"),
        ({"model": "m", "rates": {"output": "1"}, "price": 1}, "'price' is not known here"),
    ],
)
def test_wish_that_cannot_be_meant_is_refused(wish: dict[str, Any], told: str) -> None:
    with pytest.raises(PriceError, match=told):
        read_wish(wish)


def test_wish_takes_litellms_names_and_exact_json_numbers() -> None:
    body = json.loads('{"model": "m", "input_cost_per_token": 2.5e-06}', parse_float=Decimal)
    assert read_wish(body).rates == {"input_uncached": (Rate(0, Decimal("2.5e-06")),)}


def test_file_that_says_two_things_of_one_model_says_which_entry_is_too_many() -> None:
    twice = '[{"model": "m", "rates": {"output": "1"}}, {"model": "m", "tier": "default", "rates": {"output": "2"}}]'
    wishes, skipped, _is_map = read_price_file(twice.encode())
    assert len(wishes) == 1
    assert skipped == (("entry 2", "another entry sets 'm' (default) from the same moment; keep one"),)
    later = twice.replace('"tier": "default"', '"valid_from": "2027-01-01"')
    assert len(read_price_file(later.encode()).wishes) == 2
