"""The first price list: OpenAI's prices out of the installed package `genai-prices` and the project's own data files.

Read once, when a book has no prices yet; from then on the published events count and an upgrade of the package changes
nothing. Only what the package says outright is taken: a tier without a variant gets no price here. What it lacks
(tools, cache lifetimes, image models) comes from `tariff`, where each number has a source.
"""

import re
from collections.abc import Iterator
from datetime import UTC, datetime, time
from decimal import Decimal
from importlib.metadata import version
from typing import NamedTuple

from genai_prices.data import providers
from genai_prices.types import (
    ClauseEquals,
    ClauseOr,
    ClauseRegex,
    ClauseStartsWith,
    MatchLogic,
    ModelInfo,
    ModelPrice,
    StartDateConstraint,
    TieredPrices,
)

from ledger.money.exact import EXACT
from ledger.money.price import Match, Price, PriceError, Rate, make_rates
from ledger.money.tariff import cache_write_12h_factor
from ledger.money.tariff_prices import tariff_prices
from ledger.money.usage import Meter

FIRST_VALID_FROM = datetime(2020, 1, 1, tzinfo=UTC)
"""Start of prices that the package does not date: before any call that a book can hold."""
TIERS = ("default", "flex", "priority")

_MILLION = Decimal(1_000_000)
_THOUSAND = Decimal(1_000)
_KEYS: dict[str, tuple[Meter, Decimal]] = {
    "input_mtok": ("input_uncached", _MILLION),
    "cache_read_mtok": ("input_cached", _MILLION),
    "cache_write_mtok": ("input_cache_write", _MILLION),
    "output_mtok": ("output", _MILLION),
    "web_searches_kcount": ("web_search", _THOUSAND),
    "storage_searches_kcount": ("file_search", _THOUSAND),
}
_INHERITING: tuple[Meter, ...] = ("input_cached", "input_cache_write")
# Their tokens are text, audio and images at different prices, which the usage of /responses does not tell apart.
_MIXED = re.compile(r"audio|image|tts|transcribe|realtime")
_DATED = r"-\d{4}-\d{2}-\d{2}$"


class Seed(NamedTuple):
    """The prices, and for each model that was left out (model, reason)."""

    prices: tuple[Price, ...]
    skipped: tuple[tuple[str, str], ...]


def seed_prices() -> list[Price]:
    """All prices for `/responses` that package and data files give without guessing, the package's first."""
    return list(read_seed().prices)


def read_seed() -> Seed:
    """Like `seed_prices`, with the models that were left out and why.

    Semantics of the source: a price key that a tier variant does not override keeps the model's standard value; of
    several dated prices the last active one holds (`genai_prices.types.ModelInfo.get_prices`).
    """
    openai = next(provider for provider in providers if provider.id == "openai")
    prices: list[Price] = []
    skipped: list[tuple[str, str]] = []
    for model in openai.models:
        try:
            prices += _read_model(model)
        except PriceError as error:
            skipped.append((model.id, str(error)))
    return Seed((*prices, *tariff_prices(prices)), tuple(skipped))


def _read_model(model: ModelInfo) -> list[Price]:
    if _MIXED.search(model.id):
        raise PriceError("priced by modality, which the usage of /responses does not tell")
    matches = tuple(_read_matches(model.match))
    starts = _read_starts(model)
    prices: list[Price] = []
    for tier in TIERS:
        previous = None
        for start in starts:
            resolved = _resolve(model, tier, start)
            rates = None if resolved is None else _read_rates(resolved)
            if rates is None or rates == previous:
                continue
            previous = rates
            source = f"genai-prices {version('genai-prices')}, openai/{model.id}"
            prices.append(Price(model.id, matches, tier, start, None, make_rates(rates), source))
    return prices


def _read_matches(clause: MatchLogic) -> Iterator[Match]:
    match clause:
        case ClauseOr():
            for part in clause.or_:
                yield from _read_matches(part)
        case ClauseEquals():
            yield Match("equals", clause.equals)
        case ClauseStartsWith():
            yield Match("starts_with", clause.starts_with)
        case ClauseRegex():
            # Patterns are not taken over as such: a price list must not be able to run a costly regular expression.
            stem = clause.regex.removeprefix("^").removesuffix(_DATED).replace(r"\.", ".")
            if f"^{stem.replace('.', chr(92) + '.')}{_DATED}" != clause.regex:
                raise PriceError(f"its names are given by a pattern other than a dated snapshot: {clause.regex!r}")
            yield Match("snapshot_of", stem)
        case _:
            raise PriceError(f"its names are given by {type(clause).__name__}, which is not supported")


def _read_starts(model: ModelInfo) -> list[datetime]:
    """All moments at which some price of the model starts, the undated one first."""
    conditional = () if isinstance(model.prices, ModelPrice) else model.prices
    constraints = [price.constraint for price in conditional]
    constraints += [variant.constraint for variant in model.price_variants or ()]
    starts = {FIRST_VALID_FROM}
    for constraint in constraints:
        if isinstance(constraint, StartDateConstraint):
            starts.add(datetime.combine(constraint.start_date, time(tzinfo=UTC)))
        elif constraint is not None:
            raise PriceError("its price depends on the time of day, which is not supported")
    return sorted(starts)


def _resolve(model: ModelInfo, tier: str, start: datetime) -> ModelPrice | None:
    """The package's price at that moment; None for a tier for which it has no variant (it would fall back silently)."""
    if tier == "default":
        return model.get_prices(start, {"service_tier": tier})
    for variant in model.price_variants or ():
        if variant.when == {"service_tier": tier} and (variant.constraint is None or variant.constraint.active(start)):
            return model.get_prices(start, {"service_tier": tier})
    return None


def _read_rates(resolved: ModelPrice) -> dict[Meter, tuple[Rate, ...]]:
    rates: dict[Meter, tuple[Rate, ...]] = {}
    for key, value in vars(resolved).items():
        if value is None:
            continue
        if key not in _KEYS:
            raise PriceError(f"its price {key} is for something that the usage of /responses does not tell")
        meter, per = _KEYS[key]
        rates[meter] = _read_value(value, per)
    if "input_uncached" not in rates or "output" not in rates:
        raise PriceError(f"it has no price for both input and output (has {sorted(rates)})")
    if "input_cache_write" in rates:
        factor = cache_write_12h_factor()
        written = rates["input_cache_write"]
        rates["input_cache_write_12h"] = tuple(
            Rate(rate.above_input_tokens, EXACT.multiply(rate.unit_price_usd, factor)) for rate in written
        )
    for meter in _INHERITING:
        # In this package, as on OpenAI's pricing page, input tokens without a price of their own are input tokens.
        rates.setdefault(meter, rates["input_uncached"])
    return rates


def _read_value(value: Decimal | TieredPrices, per: Decimal) -> tuple[Rate, ...]:
    if isinstance(value, Decimal):
        return (Rate(0, EXACT.divide(value, per)),)
    tiers = [(0, value.base), *((tier.start, tier.price) for tier in value.tiers)]
    return tuple(Rate(start, EXACT.divide(unit_price, per)) for start, unit_price in tiers)
