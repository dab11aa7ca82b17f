"""What tools add to a charge: a line item each, estimated where a quantity is not certain, unknown where none is."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from ledger.money.answer import charge_answer
from ledger.money.book import PriceBook
from ledger.money.cost import Charge
from ledger.money.exact import plain
from ledger.money.request import NO_REQUEST, RequestFacts, read_request
from ledger.money.seed import seed_prices

AT = datetime(2026, 11, 22, tzinfo=UTC)
BOOK = PriceBook(seed_prices())


def _charge(response: dict[str, Any], request: dict[str, Any] | None = None, **changes: Any) -> Charge:
    usage = {"input_tokens": 0, "output_tokens": 0}
    body = {"object": "response", "model": "gpt-4.1", "service_tier": "default", "usage": usage, **response}
    return charge_answer(body, request=read_request(request or {}), at=AT, prices=BOOK, **changes)


def _items(charged: Charge) -> dict[str, tuple[int, str]]:
    return {item.meter: (item.quantity, plain(item.unit_price_usd)) for item in charged.items}


def _search(kind: str = "search") -> dict[str, Any]:
    return {"type": "web_search_call", "action": {"type": kind}}


def _tool(kind: str, **members: Any) -> dict[str, Any]:
    return {"tools": [{"type": kind, **members}]}


@pytest.mark.parametrize(
    ("model", "tool", "meter", "usd"),
    [
        ("gpt-4.1", "web_search", "web_search", "0.01"),
        ("gpt-4.1", "web_search_preview", "web_search_preview", "0.025"),
        ("gpt-5", "web_search_preview_2025_03_11", "web_search_preview_reasoning", "0.01"),
        ("o3", "web_search_2025_08_26", "web_search", "0.01"),
    ],
)
def test_tools_counted_searches_are_billed_at_their_tool_and_model(model: str, tool: str, meter: str, usd: str) -> None:
    charged = _charge({"model": model, "tool_usage": {"web_search": {"num_requests": 3}}}, _tool(tool))
    assert (charged.state, _items(charged)) == ("billed", {meter: (3, usd)})
    assert charged.billed_usd == 3 * Decimal(usd)


def test_tools_searches_that_the_answer_does_not_count_are_estimated_without_page_views() -> None:
    charged = _charge({"output": [_search(), _search("open_page"), _search()]}, _tool("web_search"))
    assert (charged.state, charged.billed_usd, charged.estimated_usd) == ("estimated", 0, Decimal("0.02"))
    assert "does not count them" in (charged.reason or "")


def test_tools_search_content_of_small_models_is_estimated_beside_the_billed_searches() -> None:
    usage = {"tool_usage": {"web_search": {"num_requests": 2}}}
    charged = _charge({"model": "gpt-4.1-mini", **usage}, _tool("web_search"))
    assert _items(charged) == {"web_search": (2, "0.01"), "search_content": (16000, "0.0000004")}
    assert (charged.billed_usd, charged.estimated_usd) == (Decimal("0.02"), Decimal("0.0064"))


@pytest.mark.parametrize("kinds", [["web_search_x"], ["web_search", "web_search_preview"]])
def test_tools_searches_by_unclear_tools_are_unknown(kinds: list[str]) -> None:
    charged = _charge(
        {"tool_usage": {"web_search": {"num_requests": 1}}}, {"tools": [{"type": kind} for kind in kinds]}
    )
    assert (charged.state, charged.items) == ("unknown", ())


def test_tools_file_searches_are_billed_by_call() -> None:
    charged = _charge({"output": [{"type": "file_search_call"}] * 3})
    assert (charged.state, charged.billed_usd, _items(charged)) == (
        "billed",
        Decimal("0.0075"),
        {"file_search": (3, "0.0025")},
    )


def test_tools_containers_are_estimated_by_their_least_time_once_each() -> None:
    output = [{"type": "code_interpreter_call", "container_id": name} for name in ("cntr_1", "cntr_1", "cntr_2")]
    container = {"type": "auto", "memory_limit": "4g"}
    charged = _charge({"output": output}, _tool("code_interpreter", container=container))
    assert (charged.state, _items(charged)) == ("estimated", {"container_minutes_4g": (10, "0.006")})
    assert (charged.billed_usd, charged.estimated_usd) == (0, Decimal("0.06"))
    assert "least time of 5 minutes" in (charged.reason or "")


def test_tools_container_of_the_default_size_costs_its_price() -> None:
    output = [{"type": "code_interpreter_call", "container_id": "cntr_1"}]
    charged = _charge({"output": output, **_tool("code_interpreter", container={"type": "auto"})})
    assert charged.estimated_usd == Decimal("0.0075")


@pytest.mark.parametrize("container", ["cntr_1", {"type": "auto", "memory_limit": "2g"}])
def test_tools_container_of_another_size_is_unknown(container: Any) -> None:
    output = [{"type": "code_interpreter_call", "container_id": "cntr_1"}]
    charged = _charge({"output": output}, _tool("code_interpreter", container=container))
    assert (charged.state, charged.items) == ("unknown", ())


def test_tools_hosted_shell_is_a_container_and_a_local_one_is_free() -> None:
    place = {"type": "container_reference", "container_id": "cntr_1"}
    calls = [{"type": "shell_call", "environment": place}, {"type": "shell_call_output"}] * 2
    hosted = _charge({"output": calls}, _tool("shell", environment={"type": "container_auto"}))
    assert (hosted.state, hosted.estimated_usd) == ("estimated", Decimal("0.0075"))
    local = _charge({"output": [{"type": "shell_call"}]}, _tool("shell"))
    assert (local.state, local.billed_usd, local.items) == ("billed", 0, ())
    referred = _charge({"output": calls}, _tool("shell", environment=place))
    assert (referred.state, referred.unknown) == ("unknown", 1)


IMAGE_GEN = {
    "input_tokens": 300,
    "input_tokens_details": {"text_tokens": 100, "image_tokens": 200},
    "output_tokens": 1000,
    "total_tokens": 1300,
}
WHOLE = {
    **IMAGE_GEN,
    "cached_tokens": 90,
    "cached_tokens_details": {"cached_text_tokens": 40, "cached_image_tokens": 50},
    "output_tokens_details": {"text_tokens": 10, "image_tokens": 990},
}


def _image(image_gen: dict[str, Any], model: str | None = "gpt-image-1.5") -> Charge:
    tool = _tool("image_generation", **({} if model is None else {"model": model}))
    return _charge({"tool_usage": {"image_gen": image_gen}, "output": [{"type": "image_generation_call"}]}, tool)


def test_tools_image_tokens_are_billed_at_the_image_models_prices() -> None:
    charged = _image(WHOLE)
    assert charged.state == "billed", charged.reason
    # 60*5 + 40*1.25 + 150*8 + 50*2 + 10*10 + 990*32 USD a million
    assert charged.billed_usd == Decimal("0.03343")
    assert len(charged.items) == 6
    assert len({item.price_id for item in charged.items}) == 1
    assert charged.items[0].price_id not in {None, charged.price_id}


def test_tools_image_tokens_whose_parts_are_not_said_are_estimated() -> None:
    charged = _image(IMAGE_GEN)
    # 100*5 + 200*8, whether cached is not said; 1000*32, whether text is not said
    assert (charged.state, charged.billed_usd, charged.estimated_usd) == ("estimated", 0, Decimal("0.0341"))


@pytest.mark.parametrize(
    ("image_gen", "model", "told"),
    [
        (WHOLE, None, "'gpt-image-2.6-sunburst'"),
        (WHOLE, "gpt-image-9", "'gpt-image-9'"),
        ({**WHOLE, "input_tokens": 301}, "gpt-image-1.5", "cannot be read"),
        ({**WHOLE, "output_tokens": "1"}, "gpt-image-1.5", "cannot be read"),
        (
            {**WHOLE, "cached_tokens_details": {"cached_text_tokens": 101, "cached_image_tokens": 0}},
            "gpt-image-1.5",
            "contradicts",
        ),
        ({**WHOLE, "output_tokens_details": {"text_tokens": 10, "image_tokens": 1}}, "gpt-image-1.5", "cannot be read"),
        ({"total_tokens": 0}, "gpt-image-1.5", "does not count its tokens"),
        (WHOLE, "gpt-image-2", "image_text_output (10) has no price"),
    ],
)
def test_tools_image_tokens_without_a_price_are_unknown(
    image_gen: dict[str, Any], model: str | None, told: str
) -> None:
    charged = _image(image_gen, model)
    assert (charged.state, charged.unknown) == ("unknown", 1)
    assert told in (charged.reason or "")


def test_tools_an_unknown_charge_keeps_what_a_later_price_could_complete() -> None:
    charged = _image(WHOLE, "gpt-image-9")
    assert charged.missing is not None
    facts = charged.to_facts()["missing"]
    assert facts["model"] == "gpt-4.1"
    assert ["image_output", 990, "gpt-image-9", ""] in facts["quantities"]
    assert facts["gaps"] == []


@pytest.mark.parametrize(
    ("model", "region", "usd"),
    [
        ("gpt-5.4", "eu", "0.00275"),
        ("gpt-5.4", "", "0.0025"),
        ("gpt-4o", "us", "0.0025"),
        ("gpt-5.5-cyber", "eu", None),
    ],
)
def test_tools_region_makes_tokens_of_newer_models_dearer(model: str, region: str, usd: str | None) -> None:
    usage = {"input_tokens": 1000, "output_tokens": 0}
    charged = _charge({"model": model, "usage": usage, "output": [{"type": "file_search_call"}]}, region=region)
    if usd is None:
        assert charged.state == "unknown"
        assert "whether region 'eu' makes" in (charged.reason or "")
        return
    assert (charged.state, charged.billed_usd) == ("billed", Decimal(usd) + Decimal("0.0025"))


def test_tools_window_and_region_multiply() -> None:
    request = {"background": True, "background_options": {"completion_window": "8h"}}
    charged = _charge({"model": "gpt-5.4", "usage": {"input_tokens": 1000, "output_tokens": 0}}, request, region="eu")
    assert charged.billed_usd == Decimal("0.0025") * Decimal("0.6") * Decimal("1.1")
    assert charged.reason == (
        "completion window 8h: 0.6 of the standard token prices; region eu: 1.1 of the token prices"
    )


def test_tools_cache_writes_cost_by_their_lifetime_also_when_prewarmed() -> None:
    details = {"cache_write_tokens": 300, "cache_write_tokens_details": {"ttl_30m_tokens": 100, "ttl_12h_tokens": 200}}
    usage = {"input_tokens": 300, "input_tokens_details": details, "output_tokens": 0}
    charged = _charge({"model": "gpt-6-astra", "usage": usage}, {"prompt_cache_options": {"prewarm": True}})
    assert _items(charged) == {"input_cache_write": (100, "0.0000125"), "input_cache_write_12h": (200, "0.000025")}
    assert (charged.state, charged.billed_usd) == ("billed", Decimal("0.00625"))


def test_request_facts_read_back_from_what_the_attempt_keeps() -> None:
    request = read_request(
        {
            "model": "gpt-5",
            "service_tier": "flex",
            "background": True,
            "background_options": {"completion_window": "2h"},
            "tools": [
                {"type": "web_search"},
                {"type": "code_interpreter", "container": {"type": "auto"}},
                {"type": "shell", "environment": {"type": "container_auto", "memory_limit": "4g"}},
                {"type": "image_generation", "model": "gpt-image-2"},
            ],
        }
    )
    assert RequestFacts.from_facts(request.to_facts()) == request
    assert NO_REQUEST.to_facts() == {}
