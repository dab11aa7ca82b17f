"""The seed takes what genai-prices says outright, and nothing that it would fall back on."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal

import pytest

from ledger.money.book import PriceBook, Unpriced
from ledger.money.price import Price
from ledger.money.seed import Seed, read_seed, seed_prices

NOW = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.fixture(scope="module")
def seed() -> Seed:
    return read_seed()


def _unit_price(book: PriceBook, model: str, tier: str, at: datetime, input_tokens: int = 1) -> Decimal | None:
    price = book.find(model, tier, at)
    assert isinstance(price, Price), price
    return price.unit_price("input_uncached", input_tokens)


def test_seed_leaves_out_what_it_cannot_say_and_names_it(seed: Seed) -> None:
    skipped = dict(seed.skipped)
    assert "modality" in skipped["gpt-image-1"]
    assert "both input and output" in skipped["text-embedding-3-small"]
    of_package = [price for price in seed.prices if price.source.startswith("genai-prices ")]
    assert not {price.model for price in of_package} & set(skipped)
    assert (len(of_package), len(seed.prices)) == (129, 139)


@pytest.mark.parametrize(
    ("model", "tier"),
    [("gpt-6-sol", "ultrafast"), ("gpt-4o", "flex"), ("gpt-5-pro", "flex"), ("gpt-4o", "scale")],
)
def test_seed_has_no_price_where_the_package_falls_back_silently(seed: Seed, model: str, tier: str) -> None:
    assert isinstance(PriceBook(seed.prices).find(model, tier, NOW), Unpriced)


def test_seed_has_no_tier_price_before_the_package_has_one(seed: Seed) -> None:
    book = PriceBook(seed.prices)
    start = datetime(2026, 10, 12, tzinfo=UTC)
    assert _unit_price(book, "gpt-4o", "fast", start) == Decimal("0.00000425")
    assert isinstance(book.find("gpt-4o", "fast", start - timedelta(microseconds=1)), Unpriced)


def test_seed_keeps_the_history_of_a_price(seed: Seed) -> None:
    book = PriceBook(seed.prices)
    cut = datetime(2025, 6, 10, tzinfo=UTC)
    assert _unit_price(book, "o3-2025-04-16", "default", cut - timedelta(microseconds=1)) == Decimal("0.00001")
    assert _unit_price(book, "o3-2025-04-16", "default", cut) == Decimal("0.000002")


def test_seed_keeps_the_long_context_cliff(seed: Seed) -> None:
    book = PriceBook(seed.prices)
    assert _unit_price(book, "gpt-5.6-sol-2026-06-26", "default", NOW, 272_000) == Decimal("0.000004")
    assert _unit_price(book, "gpt-5.6", "default", NOW, 272_001) == Decimal("0.000008")


def test_seed_prices_are_the_same_each_time(seed: Seed) -> None:
    again = seed_prices()
    assert [price.price_id for price in again] == [price.price_id for price in seed.prices]
    assert len({price.slot for price in again}) == len(again)
