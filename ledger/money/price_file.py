"""Prices as people write them: one wish for a price out of an object, and whole files, ours or LiteLLM's price map.

Every number is taken as its text, never through a float. What is to be published is `override`'s business.
"""

import json
import re
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple, cast

import yaml

from ledger.money.exact import parse
from ledger.money.price import NAME_MAX, PriceError, Rate, Rates, canonical_tier
from ledger.money.usage import METERS, Meter

FILE_BYTES_MAX = 64 * 1024 * 1024
WISH_FIELDS = ("model", "tier", "rates", "valid_from", "valid_to")
#: LiteLLM's names of the same, in USD per token; other keys of a wish are refused.
PER_TOKEN_KEYS: dict[str, Meter] = {
    "input_cost_per_token": "input_uncached",
    "output_cost_per_token": "output",
    "cache_read_input_token_cost": "input_cached",
    "cache_creation_input_token_cost": "input_cache_write",
    "cache_creation_input_token_cost_above_12hr": "input_cache_write_12h",
}
_BASES = "|".join(sorted(PER_TOKEN_KEYS, key=len, reverse=True))
_MAP_KEY = re.compile(rf"({_BASES})(?:_above_(\d{{1,6}})k_tokens)?(?:_(flex|priority|ultrafast))?")
_MODES = frozenset({"chat", "responses"})


class PriceWish(NamedTuple):
    """Unit prices that somebody wants for a model and tier; None: from now on, and without an end."""

    model: str
    tier: str
    rates: dict[Meter, Rates]
    valid_from: datetime | None = None
    valid_to: datetime | None = None


class PriceFile(NamedTuple):
    """What a file wishes, and for each entry that cannot be used (its name, why).

    `is_map`: it is LiteLLM's price map, whose entries are not ours to mend.
    """

    wishes: tuple[PriceWish, ...]
    skipped: tuple[tuple[str, str], ...]
    is_map: bool = False


def read_wish(value: Mapping[str, Any]) -> PriceWish:
    """Read one wish: model, tier ("default"), rates by meter or LiteLLM's keys, valid_from and valid_to (RFC 3339).

    A rate is a number or text in USD per unit, or a list of [above_input_tokens, USD]. Raises `PriceError` naming the
    member.
    """
    unknown = [name for name in value if name not in WISH_FIELDS and name not in PER_TOKEN_KEYS]
    if unknown:
        known = ", ".join([*WISH_FIELDS, *PER_TOKEN_KEYS])
        raise PriceError(f"{unknown[0][:60]!r} is not known here; known are {known}")
    model, tier = _text(value, "model"), _text(value, "tier", "default")
    given = value.get("rates", {})
    if not isinstance(given, Mapping):
        raise PriceError("rates: expected an object of unit prices by meter")
    rates: dict[Meter, Rates] = {}
    for name, rate in cast("Mapping[str, Any]", given).items():
        if name not in METERS:
            raise PriceError(f"rates: unknown meter {name[:60]!r}; known are {', '.join(METERS)}")
        rates[name] = _rates(f"rates.{name}", rate)
    for key, meter in PER_TOKEN_KEYS.items():
        if key in value and meter in rates:
            raise PriceError(f"{key} and rates.{meter} say the same; give one of the two")
        if key in value:
            rates[meter] = _rates(key, value[key])
    if not rates:
        raise PriceError("rates: expected at least one unit price")
    return PriceWish(model, canonical_tier(tier), rates, _moment(value, "valid_from"), _moment(value, "valid_to"))


def read_price_file(data: bytes) -> PriceFile:
    """Read a file: a JSON or YAML list of wishes (or {"prices": [...]}), or LiteLLM's price map in JSON.

    Of the map, OpenAI's chat and response models are taken; entries that cannot be used are told. Raises `PriceError`
    for a file that is none of these.
    """
    if len(data) > FILE_BYTES_MAX:
        raise PriceError(f"the file has {len(data)} bytes, more than {FILE_BYTES_MAX}")
    value = _parse(data)
    if isinstance(value, Mapping) and "prices" in value:
        value = cast("Mapping[str, Any]", value)["prices"]
    if isinstance(value, list):
        return _own(cast("list[Any]", value))
    if isinstance(value, Mapping):
        return _map(cast("Mapping[str, Any]", value))
    raise PriceError("expected a list of prices, or a price map by model")


def _parse(data: bytes) -> Any:
    try:
        text = data.decode()
        if text.lstrip()[:1] in {"[", "{"}:
            return json.loads(text, parse_float=Decimal)
        # The base loader leaves every scalar its text.
        return yaml.load(text, Loader=yaml.BaseLoader)  # noqa: S506 - the base loader makes texts, lists and mappings only
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        raise PriceError(f"the file is neither JSON nor YAML: {str(error)[:200]}") from error


def _own(values: list[Any]) -> PriceFile:
    wishes: dict[tuple[str, str, datetime | None], PriceWish] = {}
    skipped: list[tuple[str, str]] = []
    for number, value in enumerate(values, 1):
        if not isinstance(value, Mapping):
            skipped.append((f"entry {number}", "expected an object"))
            continue
        try:
            wish = read_wish(cast("Mapping[str, Any]", value))
        except PriceError as error:
            skipped.append((f"entry {number}", str(error)))
            continue
        if wishes.setdefault((wish.model, wish.tier, wish.valid_from), wish) is not wish:
            reason = f"another entry sets {wish.model!r} ({wish.tier}) from the same moment; keep one"
            skipped.append((f"entry {number}", reason))
    return PriceFile(tuple(wishes.values()), tuple(skipped))


def _map(entries: Mapping[str, Any]) -> PriceFile:
    wishes: list[PriceWish] = []
    skipped: list[tuple[str, str]] = []
    for model, entry in entries.items():
        members = cast("Mapping[str, Any]", entry) if isinstance(entry, Mapping) else {}
        if members.get("litellm_provider") != "openai" or members.get("mode") not in _MODES or "/" in model:
            continue
        try:
            wishes += _of_entry(model, members)
        except PriceError as error:
            skipped.append((model, str(error)))
    if not wishes and not skipped:
        raise PriceError("no price of OpenAI's is in it: expected entries with litellm_provider openai, or a list")
    return PriceFile(tuple(wishes), tuple(skipped), is_map=True)


def _of_entry(model: str, entry: Mapping[str, Any]) -> Iterator[PriceWish]:
    tiers: dict[str, dict[Meter, dict[int, Decimal]]] = {}
    for key, value in entry.items():
        match = _MAP_KEY.fullmatch(key)
        if match and value is not None:
            base, thousands, tier = match.groups()
            rates = tiers.setdefault(tier or "default", {}).setdefault(PER_TOKEN_KEYS[base], {})
            rates[int(thousands or 0) * 1000] = _number(key, value)
    for tier, by_meter in tiers.items():
        if not {"input_uncached", "output"} <= by_meter.keys():
            raise PriceError(f"tier {tier}: it has no price for both input and output")
        yield PriceWish(
            model,
            tier,
            {meter: tuple(Rate(above, rates[above]) for above in sorted(rates)) for meter, rates in by_meter.items()},
        )


def _rates(where: str, value: Any) -> Rates:
    if not isinstance(value, list):
        return (Rate(0, _number(where, value)),)
    rates: list[Rate] = []
    for step in cast("list[Any]", value):
        if isinstance(step, Mapping):
            members = cast("Mapping[str, Any]", step)
            above, usd = members.get("above_input_tokens"), members.get("unit_price_usd")
        elif isinstance(step, list) and len(cast("list[Any]", step)) == 2:  # noqa: PLR2004 - a pair
            above, usd = cast("list[Any]", step)
        else:
            raise PriceError(f"{where}: expected steps of [above_input_tokens, USD]")
        above = int(above) if isinstance(above, str) and above.isdecimal() and len(above) < 12 else above  # noqa: PLR2004 - far above any
        if type(above) is not int:
            raise PriceError(f"{where}: above_input_tokens must be a whole number")
        rates.append(Rate(above, _number(where, usd)))
    return tuple(rates)


def _number(where: str, value: Any) -> Decimal:
    """An exact number from text, a whole number or a Decimal; a float has lost its text and is refused."""
    if isinstance(value, Decimal):
        return value
    if type(value) is int or isinstance(value, str):
        try:
            return parse(str(value))
        except ValueError as error:
            raise PriceError(f"{where}: {error}") from error
    raise PriceError(f"{where}: expected a decimal number, such as 0.0000025 or its text, got {type(value).__name__}")


def _text(value: Mapping[str, Any], name: str, default: str = "") -> str:
    text = value.get(name, default)
    if not isinstance(text, str) or not 1 <= len(text) <= NAME_MAX:
        raise PriceError(f"{name}: expected a text of 1 to {NAME_MAX} characters")
    return text


def _moment(value: Mapping[str, Any], name: str) -> datetime | None:
    text = value.get(name)
    if text is None or text == "":
        return None
    try:
        moment = datetime.fromisoformat(text)
    except (TypeError, ValueError) as error:
        raise PriceError(f"{name}: expected a moment such as 2026-11-22T00:00:00Z, got {text!r:.60}") from error
    return (moment if moment.utcoffset() is not None else moment.replace(tzinfo=UTC)).astimezone(UTC)
