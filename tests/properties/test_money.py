"""Money over arbitrary usage and prices: nothing lost, nothing twice, nothing rounded, no float anywhere."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from ledger.money.billable import Billable, ToolUse
from ledger.money.book import PriceBook
from ledger.money.correction import accumulate, correction
from ledger.money.cost import Charge, as_estimate, charge, unknown_cost
from ledger.money.exact import parse, plain
from ledger.money.price import Match, Price, Rate, make_rates
from ledger.money.request import RequestFacts
from ledger.money.usage import TOKEN_METERS, TOKENS_MAX, Meter, Usage, decompose, read_usage

START = datetime(2026, 1, 1, tzinfo=UTC)
TOKEN_METERS_SORTED = sorted(TOKEN_METERS)

unit_prices = st.decimals(min_value=0, max_value=100, places=12) | st.sampled_from([Decimal(0), Decimal("2.5E-6")])
times = st.datetimes(datetime(2020, 1, 1), datetime(2030, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - hypothesis adds the zone


@st.composite
def usages(draw: st.DrawFn) -> Usage:
    cached, written, uncached, output = (draw(st.integers(0, TOKENS_MAX // 4)) for _ in range(4))
    write_12h = draw(st.none() | st.integers(0, written))
    return Usage(
        input_tokens=uncached + cached + written,
        cached_tokens=cached,
        cache_write_tokens=written,
        output_tokens=output,
        reasoning_tokens=draw(st.integers(0, output)),
        cache_write_30m=None if write_12h is None else written - write_12h,
        cache_write_12h=write_12h,
    )


@st.composite
def prices(draw: st.DrawFn) -> Price:
    thresholds = draw(st.lists(st.integers(1, TOKENS_MAX), max_size=3, unique=True).map(sorted))
    meters = draw(st.sets(st.sampled_from([*TOKEN_METERS_SORTED, "web_search"]), min_size=1))
    rates: dict[Any, Any] = {
        meter: [Rate(threshold, draw(unit_prices)) for threshold in (0, *thresholds)] for meter in meters
    }
    return Price(
        model=draw(st.sampled_from(["gpt-x", "gpt-é", 'a"b'])),
        matches=(Match("starts_with", "gpt-x"), Match("equals", "other")),
        tier=draw(st.sampled_from(["default", "flex", "priority"])),
        valid_from=draw(times),
        valid_to=draw(st.none() | times),
        rates=make_rates(rates),
        source="test",
        deployment=draw(st.sampled_from(["", "d1"])),
    )


@st.composite
def tool_uses(draw: st.DrawFn) -> ToolUse:
    """Each meter once at most, as an answer has it; some certain, some not, some without a price."""
    known: list[Meter] = ["web_search", "file_search", "container_minutes_1g", "image_output"]
    meters = draw(st.sets(st.sampled_from(known)))
    billables = [
        Billable(meter, draw(st.integers(1, TOKENS_MAX)), "gpt-image-x", draw(st.sampled_from(["", "drawn doubt"])))
        for meter in sorted(meters)
    ]
    return ToolUse(tuple(billables), draw(st.sampled_from([(), ("x",)])))


@st.composite
def charges(draw: st.DrawFn) -> Charge:
    if draw(st.integers(0, 9)) == 0:
        return unknown_cost("drawn")
    rates = draw(prices()).rates
    image_rates = make_rates({"image_output": [Rate(0, draw(unit_prices))]})
    tool_rates = make_rates({"web_search": [Rate(0, draw(unit_prices))], "file_search": [Rate(0, draw(unit_prices))]})
    names = [("gpt-5.4", rates), ("gpt-image-x", image_rates), ("openai-tools", tool_rates)]
    book = PriceBook([Price(name, (Match("equals", name),), "default", START, None, of, "drawn") for name, of in names])
    window = draw(st.sampled_from(["", "2h", "8h", "4h"]))
    charged = charge(
        draw(usages()),
        model="gpt-5.4",
        tier="default",
        at=START + timedelta(days=1),
        prices=book,
        request=RequestFacts(background=True, completion_window=window),
        tools=draw(tool_uses()),
        region=draw(st.sampled_from(["", "eu"])),
    )
    return as_estimate(charged, "drawn") if draw(st.booleans()) else charged


def _walk(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for member in value.values() for leaf in _walk(member)]
    if isinstance(value, list):
        return [leaf for member in value for leaf in _walk(member)]
    return [value]


def _money(facts: dict[str, Any]) -> dict[str, Any]:
    """What a fold adds up; absent usage adds nothing."""
    usage = facts["usage"] or dict.fromkeys(Usage(0, 0, 0, 0, 0).to_facts(), 0)
    items: dict[tuple[str, Decimal, str], tuple[int, Decimal]] = {}
    for item in facts["items"]:
        key = (item["meter"], Decimal(item["unit_price_usd"]), item.get("price_id", ""))
        assert key not in items
        items[key] = (item["quantity"], Decimal(item["amount_usd"]))
    sums = {name: Decimal(facts[name]) for name in ("billed_usd", "estimated_usd")}
    after = {name: facts.get(name) for name in ("unknown", "state", "missing")}
    return {"usage": usage, "items": items, **sums, **after}


@given(usages())
def test_decomposition_sums_to_input_and_output(usage: Usage) -> None:
    quantities = decompose(usage)
    assert sum(quantity for _, quantity in quantities) == usage.input_tokens + usage.output_tokens
    assert sum(quantity for meter, quantity in quantities if meter != "output") == usage.input_tokens
    assert all(quantity > 0 for _, quantity in quantities)
    assert len({meter for meter, _ in quantities}) == len(quantities)


@given(usages(), prices())
def test_charge_at_list_price_is_that_of_all_terms(usage: Usage, price: Price) -> None:
    def of(request: RequestFacts) -> Charge:
        book = PriceBook([replace(price, valid_to=None)])
        return charge(
            usage, model="gpt-x", tier=price.tier, at=price.valid_from, prices=book, request=request, deployment="d1"
        )

    # A background response without a window has no discount, but goes the long way.
    assert of(RequestFacts()) == of(RequestFacts(background=True))


@given(usages())
def test_usage_as_the_wire_spells_it_reads_back(usage: Usage) -> None:
    details: dict[str, Any] = {"cached_tokens": usage.cached_tokens, "cache_write_tokens": usage.cache_write_tokens}
    if usage.cache_write_12h is not None:
        details["cache_write_tokens_details"] = {
            "ttl_30m_tokens": usage.cache_write_30m,
            "ttl_12h_tokens": usage.cache_write_12h,
        }
    wire = {
        "input_tokens": usage.input_tokens,
        "input_tokens_details": details,
        "output_tokens": usage.output_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.reasoning_tokens},
        "total_tokens": usage.input_tokens + usage.output_tokens,
    }
    assert read_usage({"usage": json.loads(json.dumps(wire))}) == usage


@given(prices())
def test_price_reads_back_from_its_facts(price: Price) -> None:
    facts = json.loads(json.dumps(price.to_facts()))
    again = Price.from_facts(facts, revision=4)
    assert again == price
    assert again.price_id == price.price_id
    assert again.to_facts() == facts
    assert not [leaf for leaf in _walk(facts) if isinstance(leaf, float)]


@given(st.lists(prices(), max_size=6), times, st.randoms(use_true_random=False))
def test_book_answers_the_same_in_whatever_order_prices_come(known: list[Price], at: datetime, random: Any) -> None:
    shuffled = list(known)
    random.shuffle(shuffled)
    for tier in ("default", "fast"):
        for deployment in ("", "d1"):
            one = PriceBook(known).find("gpt-x-1", tier, at, deployment=deployment)
            assert one == PriceBook(shuffled).find("gpt-x-1", tier, at, deployment=deployment)


@given(charges())
def test_charge_is_the_exact_sum_of_its_items_and_has_no_float(charged: Charge) -> None:
    facts = charged.to_facts()
    total = sum((Decimal(item["quantity"]) * Decimal(item["unit_price_usd"]) for item in facts["items"]), Decimal(0))
    assert Decimal(facts["billed_usd"]) + Decimal(facts["estimated_usd"]) == total
    assert (facts["state"] == "unknown") == (facts["unknown"] == 1) == (charged.unknown == 1)
    assert facts["state"] != "billed" or facts["estimated_usd"] == "0"
    assert not [leaf for leaf in _walk(facts) if isinstance(leaf, float | Decimal)]
    assert json.loads(json.dumps(facts)) == facts
    for spelled in (facts["billed_usd"], facts["estimated_usd"], *(item["amount_usd"] for item in facts["items"])):
        assert "e" not in spelled.lower()
        assert len(spelled.partition(".")[2]) <= 12
        assert len(spelled.partition(".")[0]) <= 12


@given(st.lists(charges(), min_size=2, max_size=5))
def test_charge_and_its_corrections_add_up_to_the_last_charge(history: list[Charge]) -> None:
    recorded = history[0].to_facts()
    corrections: list[dict[str, Any]] = []
    for _, later in pairwise(history):
        in_force = accumulate(recorded, corrections)
        corrections.append(json.loads(json.dumps(correction(in_force, later))))
    result = accumulate(recorded, corrections)
    assert _money(result) == _money(history[-1].to_facts())
    assert sum(delta["unknown"] for delta in corrections) + recorded["unknown"] == history[-1].unknown


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=12))
def test_plain_spelling_reads_back(value: Decimal) -> None:
    assert parse(plain(value)) == value
