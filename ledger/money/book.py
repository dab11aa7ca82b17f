"""The price book: which of the published prices applies to a model, a served tier and a moment.

Immutable: a new price means a new book. A missing price is an answer of its own (`Unpriced`), never the price of
another tier or model.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from ledger.money.price import MatchKind, Origin, Price, canonical_tier

_CACHE_MAX = 4096  # model names come from upstreams, so what is remembered about them is bounded
_DATE_CHARS = 11


class Unpriced(NamedTuple):
    """No price applies; the reason is a sentence for a person."""

    reason: str


#: Whose prices: a deployment's ("" for everybody's), and where they stand.
_Scope = tuple[str, Origin]
_SHARED: tuple[_Scope, ...] = (("", "override"), ("", "list"))


class PriceBook:
    """Prices by model, tier and time.

    A price of a higher `revision` takes the place of those in the same slot. A deployment that has prices of its own is
    priced by these alone; everybody else by what people set over the list (`origin` "override"), where that says
    anything about model, tier and moment, else by the list. Between models, the most exact name wins: equal, then
    dated snapshot, then longest beginning.
    """

    def __init__(self, prices: Iterable[Price] = ()) -> None:
        newest: dict[str, Price] = {}
        for price in prices:
            rival = newest.get(price.slot)
            # The same revision twice is the same event read twice, or two proxies that seeded at once: any fixed
            # choice will do as long as every process makes the same one.
            if rival is None or (price.revision, price.price_id) > (rival.revision, rival.price_id):
                newest[price.slot] = price
        self._prices = tuple(sorted(newest.values(), key=lambda price: price.valid_from, reverse=True))
        self._by_model: dict[_Scope, dict[str, list[Price]]] = defaultdict(lambda: defaultdict(list))
        for price in self._prices:
            self._by_model[price.deployment, price.origin][price.model].append(price)
        self._cache: dict[tuple[str, str, str], tuple[tuple[Price, ...] | Unpriced, ...]] = {}

    @property
    def prices(self) -> tuple[Price, ...]:
        """The prices in force at some time, latest first; superseded revisions are left out."""
        return self._prices

    def find(self, model: str, tier: str, at: datetime, *, deployment: str = "") -> Price | Unpriced:
        """The price with the latest `valid_from` that is valid at `at` (aware), or why there is none."""
        key = (model, tier, deployment)
        layers = self._cache.get(key)
        if layers is None:
            own: _Scope = (deployment, "list")
            scopes: tuple[_Scope, ...] = (own,) if deployment and own in self._by_model else _SHARED
            layers = tuple(self._candidates(model, canonical_tier(tier), scope) for scope in scopes)
            if len(self._cache) >= _CACHE_MAX:
                self._cache.clear()
            self._cache[key] = layers
        for candidates in layers:
            for price in () if isinstance(candidates, Unpriced) else candidates:
                if price.is_valid(at):
                    return price
        last = layers[-1]
        if isinstance(last, Unpriced):
            return last
        return Unpriced(
            f"tier {tier[:64]!r} of model {model[:120]!r} has no price at {at.isoformat()}; "
            f"the earliest starts {last[-1].valid_from.isoformat()}"
        )

    def matching(self, model: str) -> tuple[Price, ...]:
        """Every price that could hold for a model by that name, of each deployment, origin, tier and time."""
        found: list[Price] = []
        for models in self._by_model.values():
            priced = _resolve(models, model)
            found += [] if priced is None else models[priced]
        return tuple(found)

    def is_in_force(self, price: Price, at: datetime) -> bool:
        """Whether it is what its model and tier cost at a moment."""
        found = self.find(price.model, price.tier, at, deployment=price.deployment)
        return isinstance(found, Price) and found.price_id == price.price_id

    def _candidates(self, model: str, tier: str, scope: _Scope) -> tuple[Price, ...] | Unpriced:
        models = self._by_model.get(scope, {})
        priced = _resolve(models, model)
        if priced is None:
            return Unpriced(f"no price is known for model {model[:120]!r}")
        of_tier = tuple(price for price in models[priced] if price.tier == tier)
        if of_tier:
            return of_tier
        known = sorted({price.tier for price in models[priced]})
        return Unpriced(f"tier {tier[:64]!r} has no price for model {model[:120]!r} (priced as {priced!r}: {known})")


def _resolve(models: Mapping[str, Sequence[Price]], model: str) -> str | None:
    """The price list's own name of a model, the same for all tiers and times."""
    name = model.lower()
    best: tuple[int, int, str] | None = None
    for priced, prices in models.items():
        for kind, text in {match for price in prices for match in price.matches}:
            rank = _RANK[kind]
            if _is_match(kind, text.lower(), name) and (best is None or (rank, len(text), priced) > best):
                best = (rank, len(text), priced)
    return None if best is None else best[2]


_RANK: dict[MatchKind, int] = {"equals": 3, "snapshot_of": 2, "starts_with": 1, "any": 0}


def _is_match(kind: MatchKind, text: str, name: str) -> bool:
    if kind == "equals":
        return name == text
    if kind == "snapshot_of":
        return name[:-_DATE_CHARS] == text and _is_date_suffix(name[-_DATE_CHARS:])
    return name.startswith(text)


def _is_date_suffix(text: str) -> bool:
    digits = text[1:5] + text[6:8] + text[9:11]
    return text[0] + text[5] + text[8] == "---" and digits.isascii() and digits.isdigit()
