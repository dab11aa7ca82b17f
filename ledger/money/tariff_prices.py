"""Prices out of the project's own data files: tools, image models, and tiers that the seed's package lacks.

They are published like the seed's, with it (`seed.read_seed`), so that every line item can name the price it used.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

from ledger.money.exact import EXACT, parse
from ledger.money.price import Match, Price, Rate, make_rates
from ledger.money.tariff import TOOLS_MODEL, data_id, read
from ledger.money.usage import Meter

_FIRST_VALID_FROM: Final = datetime(2020, 1, 1, tzinfo=UTC)
_MILLION: Final = Decimal(1_000_000)


def tariff_prices(known: Sequence[Price] = ()) -> list[Price]:
    """All prices of the data files; a further tier of a model matches the names by which `known` prices match it."""
    return [_tools(), *_image_models(), *_tiers(known)]


def _tools() -> Price:
    tools = read("tools")
    rates: dict[Meter, Sequence[Rate]] = {
        meter: (Rate(0, parse(entry["value"])),) for meter, entry in tools["tool_prices"].items()
    }
    valid_from = datetime.fromisoformat(tools["tool_prices_valid_from"]["value"])
    sources = sorted({entry["source"] for entry in tools["tool_prices"].values()})
    matches = (Match("equals", TOOLS_MODEL),)
    return Price(TOOLS_MODEL, matches, "default", valid_from, None, make_rates(rates), _source("; ".join(sources)))


def _image_models() -> list[Price]:
    return [
        Price(
            model,
            (Match("equals", model), Match("snapshot_of", model)),
            "default",
            _FIRST_VALID_FROM,
            None,
            make_rates({meter: (_per_million(0, text),) for meter, text in entry["value"].items()}),
            _source(entry["source"]),
        )
        for model, entry in read("image_models").items()
    ]


def _tiers(known: Sequence[Price]) -> list[Price]:
    matches = {price.model: price.matches for price in known}
    prices: list[Price] = []
    for entry in read("tiers"):
        model: str = entry["model"]
        prices.append(
            Price(
                model,
                matches.get(model, (Match("equals", model), Match("snapshot_of", model))),
                entry["tier"],
                datetime.fromisoformat(entry["valid_from"]),
                None,
                _tier_rates(entry["value"]),
                _source(entry["source"]),
            )
        )
    return prices


def _tier_rates(value: Mapping[Any, Any]) -> tuple[tuple[Meter, tuple[Rate, ...]], ...]:
    return make_rates({meter: [_per_million(above, text) for above, text in rates] for meter, rates in value.items()})


def _per_million(above: int, text: str) -> Rate:
    return Rate(above, EXACT.divide(parse(text), _MILLION))


def _source(text: str) -> str:
    return f"responses-ledger {data_id()}: {text}"
