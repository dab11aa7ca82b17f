"""A price that a person sets over the list: which names it holds for, and what it takes over from the price before.

It is an ordinary `Price` of origin "override"; to withdraw it is to publish it again with an end.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime

from ledger.money.book import PriceBook, Unpriced
from ledger.money.price import Match, Price, PriceError, Rates, canonical_tier, make_rates
from ledger.money.price_file import PriceWish
from ledger.money.usage import TOKEN_METERS, Meter

_INHERITING: tuple[Meter, ...] = ("input_cached", "input_cache_write")
_NEEDED = frozenset[Meter]({"input_uncached", "output"})


def wished_price(book: PriceBook, wish: PriceWish, *, now: datetime, actor: str) -> Price:
    """The price that a wish sets over the list, from now on where it names no moment; as `override_price`."""
    return override_price(
        book,
        wish.model,
        wish.tier,
        wish.rates,
        valid_from=wish.valid_from or now,
        valid_to=wish.valid_to,
        source=f"set by {actor}",
    )


def override_price(
    book: PriceBook,
    model: str,
    tier: str,
    rates: Mapping[Meter, Rates],
    *,
    valid_from: datetime,
    valid_to: datetime | None,
    source: str,
) -> Price:
    """The price that sets `rates` of a model and tier from a moment on.

    Meters that are not given keep the unit price that is in force at `valid_from`; where there is none, input and
    output are needed, and cached and written input costs what input costs. The names are those by which the list knows
    the model; for a name that the list does not have, itself and its dated snapshots. Revision 1, or the next one in
    its slot. Raises `PriceError`, also where nothing would change.
    """
    tier = canonical_tier(tier)
    base = book.find(model, tier, valid_from)
    merged: dict[Meter, Rates] = {} if isinstance(base, Unpriced) else dict(base.rates)
    merged.update(rates)
    if isinstance(base, Unpriced) and TOKEN_METERS & set(rates) and not set(rates) >= _NEEDED:
        raise PriceError(f"{base.reason}; a first price needs {' and '.join(sorted(_NEEDED))}")
    if valid_to is not None and valid_to <= valid_from:
        raise PriceError(f"valid_to {valid_to.isoformat()} does not lie behind valid_from {valid_from.isoformat()}")
    if "input_uncached" in merged:
        for meter in _INHERITING:
            merged.setdefault(meter, merged["input_uncached"])
    price = Price(
        model=model,
        matches=_matches(book, model),
        tier=tier,
        valid_from=valid_from,
        valid_to=valid_to,
        rates=make_rates(merged),
        source=source,
        origin="override",
    )
    return _next_revision(book, price)


def withdrawn(book: PriceBook, price_id: str, at: datetime) -> Price:
    """The override of that id, ending at `at` (or at its beginning, where that is later). Raises `PriceError`."""
    price = next((each for each in book.prices if each.price_id == price_id), None)
    if price is None:
        raise PriceError(f"there is no price {price_id[:80]!r} in force at any time")
    if price.origin != "override":
        where = "config" if price.deployment else "price list"
        raise PriceError(f"{price_id[:80]!r} stands in the {where}: set a price over it instead")
    if price.valid_to is not None and price.valid_to <= at:
        raise PriceError(f"price {price_id[:80]!r} has ended already, at {price.valid_to.isoformat()}")
    return _next_revision(book, replace(price, valid_to=max(at, price.valid_from)))


def _matches(book: PriceBook, model: str) -> tuple[Match, ...]:
    for price in book.prices:
        if price.model == model and not price.deployment:
            return price.matches
    return (Match("equals", model), Match("snapshot_of", model))


def _next_revision(book: PriceBook, price: Price) -> Price:
    former = next((each for each in book.prices if each.slot == price.slot), None)
    if former is None:
        return price
    if former.price_id == price.price_id:
        raise PriceError(f"that is the price of {price.model!r:.80} ({price.tier}) already")
    return replace(price, revision=former.revision + 1)
