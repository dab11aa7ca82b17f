"""A price out of a deployment's entry in the config file, each number taken from its text, never from a float.

Such a price holds for that deployment alone and for the standard tier: the config gives no others. Finding the text in
the file, with its line, is the config loader's work.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from ledger.money.exact import parse
from ledger.money.price import Match, Price, PriceError, Rate, make_rates
from ledger.money.usage import Meter

_INPUT = "input_cost_per_token"
_OUTPUT = "output_cost_per_token"
_METERS: dict[str, Meter] = {
    _INPUT: "input_uncached",
    "cache_read_input_token_cost": "input_cached",
    "cache_creation_input_token_cost": "input_cache_write",
    _OUTPUT: "output",
}
CONFIG_KEYS = tuple(_METERS)
"""The keys of `llm_params` that make a price, in USD per token."""


def config_price(texts: Mapping[str, str], *, deployment: str, model: str, valid_from: datetime) -> Price | None:
    """Build a deployment's own price from the config's texts, such as {"input_cost_per_token": "2.5e-06", ...}.

    None when no key of `CONFIG_KEYS` is given. Cached and cache-write tokens without a price of their own cost what
    input tokens cost. Raises `PriceError` naming the key for a text that is no price and for one of input and output
    without the other.
    """
    given = {key: texts[key] for key in CONFIG_KEYS if key in texts}
    if not given:
        return None
    missing = [key for key in (_INPUT, _OUTPUT) if key not in given]
    if missing:
        raise PriceError(f"a price of {model!r:.80} needs {_INPUT} and {_OUTPUT}; missing: {', '.join(missing)}")
    unit_prices: dict[str, Decimal] = {}
    for key, text in given.items():
        try:
            unit_prices[key] = parse(text)
        except ValueError as error:
            raise PriceError(f"{key}: {error}") from error
    rates: dict[Meter, tuple[Rate, ...]] = {
        meter: (Rate(0, unit_prices.get(key, unit_prices[_INPUT])),) for key, meter in _METERS.items()
    }
    inherited = [key for key in CONFIG_KEYS if key not in given]
    note = f"; {', '.join(inherited)} not given: {_INPUT}" if inherited else ""
    return Price(
        model=model,
        matches=(Match("any", ""),),
        tier="default",
        valid_from=valid_from,
        valid_to=None,
        rates=make_rates(rates),
        source=f"config{note}",
        deployment=deployment,
    )
