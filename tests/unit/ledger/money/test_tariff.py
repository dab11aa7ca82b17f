"""The project's own price data: every number has a source, and becomes what it says it is."""

from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from ledger.money.book import PriceBook, Unpriced
from ledger.money.exact import parse
from ledger.money.price import Price
from ledger.money.seed import seed_prices
from ledger.money.tariff import (
    FILES,
    TOOLS_MODEL,
    container_memory_default,
    preview_meter,
    read,
    region_of_host,
    regional_factor,
    search_content_tokens,
)
from ledger.money.usage import METERS

NOW = datetime(2026, 11, 22, tzinfo=UTC)


def _entries(value: Any, where: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every entry of a data file; whatever is neither an entry nor a section of entries fails."""
    if isinstance(value, dict) and "value" in value:
        yield where, value
        return
    assert isinstance(value, dict | list), where
    assert value, where
    for name, member in value.items() if isinstance(value, dict) else enumerate(value):
        yield from _entries(member, f"{where}.{name}")


def test_tariff_every_number_has_a_unit_a_source_and_a_day() -> None:
    entries = [entry for name in FILES for entry in _entries(read(name), name)]
    assert len(entries) > 30
    for where, entry in entries:
        assert set(entry) <= {"value", "unit", "source", "checked_at", "note", "model", "tier", "valid_from"}, where
        assert entry["unit"], where
        assert any(known in entry["source"] for known in ("https://", "openai 3", "litellm 1", "genai-prices 0")), where
        assert date(2026, 11, 1) <= date.fromisoformat(entry["checked_at"]) <= date(2027, 12, 31), where
        assert not list(_floats(entry)), where


def _floats(value: Any) -> Iterator[float]:
    if isinstance(value, float):
        yield value
    for member in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from _floats(member)


def test_tariff_meters_are_known_and_every_tool_meter_has_a_price() -> None:
    priced = set(read("tools")["tool_prices"])
    for entry in [*read("image_models").values(), *read("tiers")]:
        priced |= set(entry["value"])
    assert priced <= set(METERS)
    assert set(METERS) - priced == {"search_content"}


@pytest.fixture(scope="module")
def book() -> PriceBook:
    return PriceBook(seed_prices())


def _usd(book: PriceBook, model: str, tier: str, meter: Any, input_tokens: int = 0) -> Decimal | None:
    price = book.find(model, tier, NOW)
    assert isinstance(price, Price), price
    return price.unit_price(meter, input_tokens)


def test_tariff_prices_of_tools_and_images_are_published_with_the_seed(book: PriceBook) -> None:
    assert _usd(book, TOOLS_MODEL, "default", "file_search") == Decimal("0.0025")
    assert _usd(book, TOOLS_MODEL, "default", "container_minutes_64g") == Decimal("0.096")
    assert _usd(book, "gpt-image-2-2026-04-21", "default", "image_output") == Decimal("0.00003")
    assert _usd(book, "gpt-image-1.5", "default", "image_text_output") == Decimal("0.00001")
    assert isinstance(book.find("gpt-image-2.6-sunburst", "default", NOW), Unpriced)


@pytest.mark.parametrize(
    ("tier", "meter", "short", "long"),
    [
        ("ultrafast", "input_uncached", "60", "120"),
        ("ultrafast", "input_cached", "6", "12"),
        ("ultrafast", "input_cache_write", "75", "150"),
        ("ultrafast", "input_cache_write_12h", "150", "300"),
        ("ultrafast", "output", "300", "450"),
        ("default", "input_cache_write_12h", "25", "50"),
        ("flex", "input_cache_write_12h", "12.5", "25"),
        ("fast", "input_cache_write_12h", "50", "100"),
    ],
)
def test_tariff_adds_tiers_and_cache_lifetimes(book: PriceBook, tier: str, meter: str, short: str, long: str) -> None:
    assert _usd(book, "gpt-6-astra", tier, meter, 272_000) == parse(short) / 1_000_000
    assert _usd(book, "gpt-6-astra", tier, meter, 272_001) == parse(long) / 1_000_000


def test_tariff_ultrafast_has_no_price_before_it_was_sold(book: PriceBook) -> None:
    start = datetime(2026, 9, 29, tzinfo=UTC)
    assert isinstance(book.find("gpt-6-astra", "ultrafast", start), Price)
    assert isinstance(book.find("gpt-6-astra", "ultrafast", start - timedelta(microseconds=1)), Unpriced)


def test_tariff_cache_lifetime_has_no_price_where_writes_have_none(book: PriceBook) -> None:
    assert _usd(book, "gpt-4o", "default", "input_cache_write_12h") is None


@pytest.mark.parametrize(
    ("model", "factor"),
    [
        ("gpt-5.4", "1.1"),
        ("gpt-6.1-sol", "1.1"),
        ("gpt-4o", "1"),
        ("gpt-5-mini", "1"),
        ("gpt-5.3-codex", "1"),
        ("o3", "1"),
        ("gpt-5.5-cyber", None),
        ("gpt-7", None),
        ("gpt-40", None),
    ],
)
def test_tariff_regional_factor_is_known_or_none(model: str, factor: str | None) -> None:
    assert regional_factor(model) == (None if factor is None else Decimal(factor))


@pytest.mark.parametrize(
    ("host", "region"),
    [
        ("eu.api.openai.com", "eu"),
        ("US.API.OpenAI.com", "us"),
        ("api.openai.com", ""),
        ("eu.api.openai.com.example", ""),
        ("evil-eu.api.openai.com", ""),
        ("localhost", ""),
        ("", ""),
    ],
)
def test_tariff_region_of_host_knows_regional_endpoints_only(host: str, region: str) -> None:
    assert region_of_host(host) == region


def test_tariff_search_rules_depend_on_the_model() -> None:
    assert search_content_tokens("gpt-4.1-mini-2025-04-14") == 8000
    assert search_content_tokens("gpt-4.1-2025-04-14") == 0
    assert preview_meter("gpt-4o-2024-08-06") == "web_search_preview"
    assert preview_meter("o4-mini") == "web_search_preview_reasoning"
    assert preview_meter("gpt-5-chat-latest") is None
    assert preview_meter("gpt-x") is None
    assert f"container_minutes_{container_memory_default()}" in METERS
