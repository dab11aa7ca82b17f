"""A price: what one model costs in one service tier from one moment on, as data that an event can carry.

Prices are never changed, only followed by others. Their identity is the hash of their content, so that a charge names
exactly the numbers it used. Which price applies to a call is `book`'s question, what follows from it `cost`'s.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from functools import cached_property
from typing import Any, Literal, NamedTuple, cast, get_args

from ledger.money.exact import DECIMALS_MAX, fits, parse, plain
from ledger.money.usage import METERS, TOKENS_MAX, Meter

UNIT_PRICE_MAX = Decimal(100)  # USD for one token or one call: far above any, and keeps amounts inside NUMERIC(24,12)
MATCHES_MAX = 64
RATES_MAX = 16
TEXT_MAX = 2000
NAME_MAX = 256

MatchKind = Literal["equals", "snapshot_of", "starts_with", "any"]
Origin = Literal["list", "override"]
"""Where a price stands: in the price list (or in a deployment's config), or set over it by a person."""
_TIERS = {"standard": "default", "fast": "priority"}


class PriceError(ValueError):
    """A price that cannot be published or read; the message names the price, the value and what was expected."""


class Match(NamedTuple):
    """One name of a model: exact, `text` plus "-YYYY-MM-DD", a beginning, or (text "") every name."""

    kind: MatchKind
    text: str


class Rate(NamedTuple):
    """USD per unit for a whole request whose input is larger than `above_input_tokens`; the first rate is at 0."""

    above_input_tokens: int
    unit_price_usd: Decimal


Rates = tuple[Rate, ...]


def canonical_tier(tier: str) -> str:
    """One name for each tier: "standard" is "default", "fast" is "priority"; others stay as they are."""
    return _TIERS.get(tier, tier)


@dataclass(frozen=True)
class Price:
    """Unit prices of `model` in `tier` at times `valid_from <= at < valid_to`.

    `rates` are (meter, rates) pairs in the order of `METERS`; a cliff, not a staircase: the last rate whose threshold
    the input exceeds prices the whole request. `deployment` is "" for everybody; otherwise the price holds for that
    deployment alone. `revision` orders prices of the same `slot`; it lies beside the price in its event, not in it.
    Raises `PriceError` on construction, for a unit price of more than 12 decimals above all.
    """

    model: str
    matches: tuple[Match, ...]
    tier: str
    valid_from: datetime
    valid_to: datetime | None
    rates: tuple[tuple[Meter, Rates], ...]
    source: str
    deployment: str = ""
    revision: int = field(default=1, compare=False)
    origin: Origin = "list"

    def __post_init__(self) -> None:
        _check(self)

    @cached_property
    def price_id(self) -> str:
        """The word "sha256:" and the hash of the canonical JSON of everything but the revision."""
        content = json.dumps(self._content(), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        return "sha256:" + hashlib.sha256(content.encode()).hexdigest()

    @property
    def slot(self) -> str:
        """What a later revision of this price takes the place of."""
        place = [self.deployment, self.model, self.tier, _spell_time(self.valid_from)]
        return json.dumps(place if self.origin == "list" else [*place, self.origin])

    def is_valid(self, at: datetime) -> bool:
        """Whether a moment (aware) lies in its period."""
        return self.valid_from <= at and (self.valid_to is None or at < self.valid_to)

    def unit_price(self, meter: Meter, input_tokens: int) -> Decimal | None:
        """USD per unit of `meter` in a request of so many input tokens in total; None when it has no price."""
        rates = self._by_meter.get(meter)
        if rates is None:
            return None
        if len(rates) == 1:
            return rates[0].unit_price_usd
        chosen = rates[0]
        for rate in rates[1:]:
            if input_tokens > rate.above_input_tokens:
                chosen = rate
        return chosen.unit_price_usd

    def to_facts(self) -> dict[str, Any]:
        """The `price` of a `price.published` event: strings for money and times, no floats."""
        return {"price_id": self.price_id, **self._content()}

    @staticmethod
    def from_facts(facts: Mapping[str, Any], *, revision: int = 1) -> "Price":
        """Read back what `to_facts` wrote. Raises `PriceError` when a part is missing or the content was altered."""
        try:
            price = Price(
                model=facts["model"],
                matches=tuple(Match(kind, text) for kind, text in facts["match"]),
                tier=facts["tier"],
                valid_from=_read_time(facts["valid_from"]),
                valid_to=None if facts["valid_to"] is None else _read_time(facts["valid_to"]),
                rates=tuple((meter, _read_rates(facts["rates"][meter])) for meter in _ordered(facts["rates"])),
                source=facts["source"],
                deployment=facts["deployment"],
                revision=revision,
                origin=facts.get("origin", "list"),
            )
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
            if isinstance(error, PriceError):
                raise
            raise PriceError(f"not the facts of a price ({type(error).__name__}: {error})") from error
        if facts.get("price_id") != price.price_id:
            raise PriceError(
                f"the content of price {str(facts.get('price_id'))[:80]!r} hashes to {price.price_id}: it was altered, "
                f"or written by a version of the program that spells prices differently"
            )
        return price

    @cached_property
    def _by_meter(self) -> dict[Meter, Rates]:
        return dict(self.rates)

    def _content(self) -> dict[str, Any]:
        content: dict[str, Any] = {
            "model": self.model,
            "match": [list(match) for match in self.matches],
            "tier": self.tier,
            "valid_from": _spell_time(self.valid_from),
            "valid_to": None if self.valid_to is None else _spell_time(self.valid_to),
            "rates": {
                meter: [
                    {"above_input_tokens": rate.above_input_tokens, "unit_price_usd": plain(rate.unit_price_usd)}
                    for rate in rates
                ]
                for meter, rates in self.rates
            },
            "source": self.source,
            "deployment": self.deployment,
        }
        return content if self.origin == "list" else {**content, "origin": self.origin}


def make_rates(rates: Mapping[Meter, Sequence[Rate]]) -> tuple[tuple[Meter, Rates], ...]:
    """Put rates by meter into the order in which a `Price` keeps them."""
    return tuple((meter, tuple(rates[meter])) for meter in _ordered(rates))


def _ordered(rates: Mapping[Any, Any]) -> list[Meter]:
    unknown = [str(meter)[:40] for meter in rates if meter not in METERS]
    if unknown:
        raise PriceError(f"unknown meters {unknown}; known are {list(METERS)}")
    return [meter for meter in METERS if meter in rates]


def _check(price: Price) -> None:
    label = f"price of {price.model!r:.80} ({price.tier!r:.40})"
    texts = (("model", price.model, NAME_MAX), ("tier", price.tier, 64), ("source", price.source, TEXT_MAX))
    for name, text, length_max in texts:
        if not text or len(text) > length_max:
            raise PriceError(f"{label}: {name} must have 1 to {length_max} characters, has {len(text)}")
        if not text.isprintable():
            raise PriceError(f"{label}: {name} has characters that cannot be printed: {text[:80]!r}")
    if canonical_tier(price.tier) != price.tier:
        raise PriceError(f"{label}: write the tier as {canonical_tier(price.tier)!r}")
    if len(price.deployment) > NAME_MAX:
        raise PriceError(f"{label}: deployment must have at most {NAME_MAX} characters")
    for name, moment in (("valid_from", price.valid_from), ("valid_to", price.valid_to)):
        if moment is not None and moment.utcoffset() is None:
            raise PriceError(f"{label}: {name} {moment} has no time zone")
    _check_origin(price, label)
    _check_matches(price, label)
    if not price.rates:
        raise PriceError(f"{label}: no unit prices")
    for meter, rates in price.rates:
        _check_rates(f"{label}, {meter}", rates)


def _check_origin(price: Price, label: str) -> None:
    if price.origin not in get_args(Origin) or (price.origin == "override" and price.deployment):
        raise PriceError(f"{label}: a deployment's own price comes from the config, and overrides nothing")


def _check_matches(price: Price, label: str) -> None:
    if not 1 <= len(price.matches) <= MATCHES_MAX:
        raise PriceError(f"{label}: expected 1 to {MATCHES_MAX} names to match, got {len(price.matches)}")
    for kind, text in price.matches:
        if kind not in get_args(MatchKind) or len(text) > NAME_MAX or (kind == "any") != (text == ""):
            raise PriceError(f"{label}: cannot match a name by {kind!r} {text[:80]!r}")
        if kind == "any" and not price.deployment:
            raise PriceError(f"{label}: only a deployment's own price may match every model")


def _check_rates(label: str, rates: Rates) -> None:
    thresholds = [rate.above_input_tokens for rate in rates]
    if not 1 <= len(rates) <= RATES_MAX or thresholds[0] != 0 or thresholds != sorted(set(thresholds)):
        raise PriceError(f"{label}: thresholds must rise from 0, at most {RATES_MAX} of them, got {thresholds[:20]}")
    if thresholds[-1] > TOKENS_MAX:
        raise PriceError(f"{label}: threshold {thresholds[-1]} is above {TOKENS_MAX}")
    for rate in rates:
        unit_price = rate.unit_price_usd
        if not unit_price.is_finite() or not 0 <= unit_price <= UNIT_PRICE_MAX:
            raise PriceError(f"{label}: a unit price lies between 0 and {UNIT_PRICE_MAX} USD, got {unit_price!s:.60}")
        if not fits(unit_price):
            raise PriceError(
                f"{label}: {plain(unit_price)[:80]} USD needs more than {DECIMALS_MAX} decimals and would be rounded"
            )


def _read_rates(facts: Sequence[Mapping[str, Any]]) -> Rates:
    rates: list[Rate] = []
    for rate in facts:
        threshold = rate["above_input_tokens"]
        if type(threshold) is not int:
            raise TypeError(f"above_input_tokens must be a whole number, got {type(threshold).__name__}")
        rates.append(Rate(threshold, parse(cast("str", rate["unit_price_usd"]))))
    return tuple(rates)


def _spell_time(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _read_time(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    if moment.utcoffset() is None:
        raise ValueError(f"{text[:40]!r} has no time zone")
    return moment.astimezone(UTC)
