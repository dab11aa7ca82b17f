"""The charge: what is unknown stays unknown, what is known is exact."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from ledger.money.answer import charge_answer
from ledger.money.billable import Billable, ToolUse
from ledger.money.book import PriceBook
from ledger.money.correction import accumulate, correction
from ledger.money.cost import Charge, as_estimate, charge, no_charge, unknown_cost
from ledger.money.price import Match, Price, Rate, make_rates
from ledger.money.request import NO_REQUEST, RequestFacts, read_request
from ledger.money.usage import Usage

AT = datetime(2026, 11, 22, tzinfo=UTC)
START = datetime(2026, 1, 1, tzinfo=UTC)
USAGE = Usage(1000, 400, 100, 10, 5)


def _price(tier: str = "default", factor: str = "1", **changes: Any) -> Price:
    rates = {"input_uncached": "2", "input_cached": "0.5", "input_cache_write": "3", "output": "7"}
    parts: dict[str, Any] = {
        "model": "gpt-x",
        "matches": (Match("equals", "gpt-x"),),
        "tier": tier,
        "valid_from": START,
        "valid_to": None,
        "rates": make_rates(
            {
                **{meter: [Rate(0, Decimal(usd) * Decimal(factor) / 1_000_000)] for meter, usd in rates.items()},  # pyright: ignore[reportArgumentType]  # literals widened to str
                "web_search": [Rate(0, Decimal("0.01"))],
            }
        ),
        "source": "test",
        **changes,
    }
    return Price(**parts)


BOOK = PriceBook([_price(), _price("flex", "0.5")])


def _searches(count: int, *unpriced: str) -> ToolUse:
    return ToolUse((Billable("web_search", count),) if count else (), unpriced)


def _charge(usage: Usage | None = USAGE, **changes: Any) -> Charge:
    arguments: dict[str, Any] = {"model": "gpt-x", "tier": "default", "at": AT, "prices": BOOK, **changes}
    return charge(usage, **arguments)


def _answer(response: dict[str, Any], request: dict[str, Any] | None = None) -> Charge:
    usage = {"input_tokens": 1000, "output_tokens": 10}
    body = {"object": "response", "model": "gpt-x", "service_tier": "default", "usage": usage, **response}
    return charge_answer(body, request=read_request(request or {}), at=AT, prices=BOOK)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"usage": None}, "carries no usage"),
        ({"model": "gpt-y"}, "no price is known for model 'gpt-y'"),
        ({"tier": "ultrafast"}, "tier 'ultrafast' has no price"),
        ({"tier": "auto"}, "tier 'auto' has no price"),
        ({"at": datetime(2025, 1, 1, tzinfo=UTC)}, "has no price at 2025-01-01"),
        ({"tier": None, "request": RequestFacts(requested_tier="flex")}, "although the request asked for 'flex'"),
    ],
)
def test_charge_without_a_price_is_unknown_and_keeps_the_usage(changes: dict[str, Any], told: str) -> None:
    charged = _charge(**changes)
    assert (charged.state, charged.unknown, charged.billed_usd, charged.items) == ("unknown", 1, 0, ())
    assert charged.price_id is None
    assert charged.usage == changes.get("usage", USAGE)
    assert told in (charged.reason or "")


def test_charge_of_a_meter_without_a_price_bills_the_rest_and_is_unknown() -> None:
    charged = _charge(Usage(1000, 0, 100, 10, 0, 0, 100))
    assert (charged.state, charged.unknown) == ("unknown", 1)
    assert charged.billed_usd == Decimal("0.00187")
    assert charged.reason == "input_cache_write_12h (100) has no price for 'gpt-x'"


def test_charge_of_tools_without_a_price_bills_the_tokens_and_is_unknown() -> None:
    charged = _charge(tools=_searches(2, "program (1) has no price"))
    assert (charged.state, charged.unknown, charged.reason) == ("unknown", 1, "program (1) has no price")
    assert charged.billed_usd == Decimal("0.02157")


def test_charge_multiplies_each_meter_exactly() -> None:
    facts = _charge(tools=_searches(3)).to_facts()
    assert facts["items"] == [
        {"meter": "input_uncached", "quantity": 500, "unit_price_usd": "0.000002", "amount_usd": "0.001"},
        {"meter": "input_cached", "quantity": 400, "unit_price_usd": "0.0000005", "amount_usd": "0.0002"},
        {"meter": "input_cache_write", "quantity": 100, "unit_price_usd": "0.000003", "amount_usd": "0.0003"},
        {"meter": "output", "quantity": 10, "unit_price_usd": "0.000007", "amount_usd": "0.00007"},
        {"meter": "web_search", "quantity": 3, "unit_price_usd": "0.01", "amount_usd": "0.03"},
    ]
    assert (facts["billed_usd"], facts["estimated_usd"], facts["unknown"]) == ("0.03157", "0", 0)
    assert (facts["state"], facts["reason"], facts["tier"]) == ("billed", None, "default")
    assert (facts["price_id"], facts["priced_model"]) == (_price().price_id, "gpt-x")


def test_charge_is_priced_by_the_served_tier_not_the_requested_one() -> None:
    charged = _charge(tier="flex", request=RequestFacts(requested_tier="priority"))
    assert (charged.billed_usd, charged.tier, charged.requested_tier) == (Decimal("0.000785"), "flex", "priority")


@pytest.mark.parametrize("asked", ["", "auto", "default", "standard"])
def test_charge_without_a_served_tier_assumes_the_default_and_says_so(asked: str) -> None:
    charged = _charge(tier=None, request=RequestFacts(requested_tier=asked))
    assert (charged.state, charged.tier, charged.tier_assumed) == ("billed", "default", True)


@pytest.mark.parametrize(("window", "billed"), [("2h", "0.001099"), ("8h", "0.000942"), ("soonest", "0.00157")])
def test_charge_in_a_background_window_discounts_tokens(window: str, billed: str) -> None:
    charged = _charge(request=RequestFacts(background=True, completion_window=window))
    assert (charged.state, charged.billed_usd) == ("billed", Decimal(billed))
    assert (charged.reason is None) == (window == "soonest")


@pytest.mark.parametrize(
    ("tier", "request_facts", "billed"),
    [
        ("default", RequestFacts(background=False, completion_window="2h"), "0.00157"),
        ("default", RequestFacts(background=True, stream=True, completion_window="2h"), "0.00157"),
        ("flex", RequestFacts(background=True, completion_window="2h"), "0.000785"),
    ],
)
def test_charge_outside_the_conditions_of_a_window_has_no_discount(
    tier: str, request_facts: RequestFacts, billed: str
) -> None:
    assert _charge(tier=tier, request=request_facts).billed_usd == Decimal(billed)


def test_charge_in_an_unheard_of_window_is_unknown_but_for_its_tools() -> None:
    charged = _charge(request=RequestFacts(background=True, completion_window="4h"), tools=_searches(1))
    assert (charged.state, charged.billed_usd) == ("unknown", Decimal("0.01"))
    assert charged.reason == "completion window '4h' has no known price"


def test_charge_whose_discounted_price_needs_a_thirteenth_decimal_is_unknown() -> None:
    rates = make_rates({"input_uncached": [Rate(0, Decimal("0.000000000001"))], "output": [Rate(0, Decimal(1))]})
    book = PriceBook([_price(rates=rates)])
    charged = _charge(Usage(1, 0, 0, 1, 0), prices=book, request=RequestFacts(background=True, completion_window="2h"))
    assert (charged.state, charged.billed_usd) == ("unknown", Decimal("0.7"))
    assert "more than 12 decimals" in (charged.reason or "")


def test_charge_reason_is_bounded() -> None:
    assert len(_charge(tools=_searches(0, *(str(n) * 400 for n in range(9)))).reason or "") == 500
    assert len(unknown_cost("x" * 9000).reason or "") == 500


@pytest.mark.parametrize(
    ("response", "told"),
    [
        ({"usage": {"input_tokens": -1, "output_tokens": 1}}, "usage cannot be priced: usage.input_tokens"),
        ({"output": [{"type": "program"}] * 2}, "program (2) has no price"),
        ({"output": [{"type": "teleport_call"}]}, "teleport_call (1) has no price"),
        ({"output": [{"type": ["x"]}]}, "untyped item (1) has no price"),
        ({"output": [{"type": "web_search_call", "action": {"type": "search"}}]}, "no search tool named"),
        ({"tool_usage": {"web_search": {"num_requests": "1"}}}, "is not a count"),
        ({"tool_usage": {"web_search": {"num_requests": 1}}}, "no search tool named"),
        (
            {"tool_usage": {"web_search": {"num_requests": 1}}, "tools": [{"type": "web_search_preview"}]},
            "['web_search_preview'] on 'gpt-x' has no price",
        ),
        ({"tool_usage": {"image_gen": {"total_tokens": 9}}}, "tool_usage.image_gen cannot be read"),
        ({"output": [{"type": "image_generation_call"}]}, "the answer does not count its tokens"),
        ({"output": [{"type": "shell_call", "environment": None}]}, "shell_call (1): its container is not named"),
        ({"output": [{"type": "code_interpreter_call", "container_id": "cntr_1"}]}, "its memory (not said) has no"),
    ],
)
def test_answer_with_something_that_has_no_price_is_unknown(response: dict[str, Any], told: str) -> None:
    charged = _answer(response)
    assert (charged.state, charged.unknown) == ("unknown", 1)
    assert told in (charged.reason or "")


@pytest.mark.parametrize(
    "response",
    [
        {"output": [{"type": "message"}, {"type": "mcp_call"}, {"type": "function_call"}], "tool_usage": None},
        {"output": [{"type": "web_search_call", "action": {"type": "open_page"}}]},
        {"output": [{"type": "shell_call", "environment": {"type": "local"}}, "noise"]},
        {"tool_usage": {"web_search": {"num_requests": 0}, "image_gen": {"total_tokens": 0}}},
        {"output": {"not": "a list"}},
    ],
)
def test_answer_whose_tools_are_free_costs_its_tokens(response: dict[str, Any]) -> None:
    charged = _answer(response)
    assert (charged.state, charged.billed_usd, charged.reason) == ("billed", Decimal("0.00207"), None)


def test_answer_with_counted_searches_costs_them() -> None:
    response = {"tool_usage": {"web_search": {"num_requests": 2}}, "tools": [{"type": "web_search"}]}
    assert _answer(response).billed_usd == Decimal("0.02207")


def test_answer_of_a_compaction_takes_model_and_tier_from_the_request() -> None:
    response = {"object": "response.compaction", "model": None, "service_tier": None}
    charged = _answer(response, {"model": "gpt-x", "service_tier": "flex"})
    assert (charged.billed_usd, charged.tier, charged.tier_assumed) == (Decimal("0.001035"), "flex", True)
    plain_one = _answer(response, {"model": "gpt-x", "service_tier": "auto"})
    assert (plain_one.tier, plain_one.tier_assumed) == ("default", True)


def test_request_with_members_of_wrong_types_reads_as_absent() -> None:
    noise = {"service_tier": 5, "background": 1, "stream": "true", "background_options": [], "model": {}, "tools": "x"}
    assert read_request(noise) == NO_REQUEST
    assert read_request({"tools": [{"type": "web_search_x"}, {"type": 5}, "b"]}).tools.search == {"web_search_x"}
    assert len(read_request({"service_tier": "x" * 9999}).requested_tier) == 64


def test_estimate_moves_the_sum_and_keeps_the_unknown() -> None:
    estimated = as_estimate(_charge(), "cut")
    assert (estimated.state, estimated.billed_usd, estimated.estimated_usd) == ("estimated", 0, Decimal("0.00157"))
    partly = as_estimate(_charge(tools=_searches(0, "x")), "cut")
    assert (partly.state, partly.unknown, partly.reason) == ("unknown", 1, "cut; x")


def test_correction_of_an_unknown_charge_takes_the_unknown_back() -> None:
    old = unknown_cost("the stream was cut").to_facts()
    delta = correction(old, _charge())
    assert (delta["unknown"], delta["billed_usd"], delta["state"], delta["reason"]) == (-1, "0.00157", "billed", None)
    assert delta["usage"] == USAGE.to_facts()
    assert (delta["tier"], delta["tier_served"]) == ("", "default")


def test_correction_of_an_estimate_carries_only_what_changes() -> None:
    old = as_estimate(_charge(Usage(1000, 400, 100, 12, 0)), "cut").to_facts()
    delta = correction(old, _charge())
    assert delta["items"] == [
        {"meter": "output", "quantity": -2, "unit_price_usd": "0.000007", "amount_usd": "-0.000014"}
    ]
    assert (delta["billed_usd"], delta["estimated_usd"], delta["unknown"]) == ("0.00157", "-0.001584", 0)
    assert accumulate(old, [delta])["estimated_usd"] == "0"


def test_correction_to_the_same_charge_adds_nothing() -> None:
    old = _charge().to_facts()
    delta = correction(old, _charge())
    assert (delta["items"], delta["billed_usd"], delta["unknown"]) == ([], "0", 0)
    assert set(delta["usage"].values()) == {0}


def test_no_charge_is_billed_as_nothing_with_its_reason() -> None:
    facts = no_charge("refused by the upstream with 400", request=RequestFacts(requested_tier="flex")).to_facts()
    assert (facts["state"], facts["billed_usd"], facts["unknown"], facts["usage"]) == ("billed", "0", 0, None)
    assert (facts["reason"], facts["requested_tier"]) == ("refused by the upstream with 400", "flex")
