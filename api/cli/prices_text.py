"""How prices are printed, and what a list of wishes would change."""

from collections.abc import Callable, Iterable
from datetime import datetime
from decimal import Decimal
from typing import Final, Literal, NamedTuple

import click

from ledger.money.book import PriceBook, Unpriced
from ledger.money.exact import EXACT, plain
from ledger.money.price import Price, Rates
from ledger.money.price_file import PriceWish
from ledger.money.usage import IMAGE_METERS, METERS, TOKEN_METERS, Meter

_MILLION: Final = Decimal(1_000_000)
_MAIN: Final[tuple[Meter, ...]] = ("input_uncached", "input_cached", "input_cache_write", "output")


class Difference(NamedTuple):
    """What a wish changes of a model and tier; `wish` None: the book has a price that was not wished for."""

    kind: Literal["new", "changed", "absent"]
    model: str
    tier: str
    changes: tuple[str, ...]
    wish: PriceWish | None


def print_prices(prices: Iterable[Price]) -> None:
    """Print a line a price: USD per million tokens, those of short prompts."""
    click.echo(f"{'model':32} {'tier':10} {'input':>10} {'cached':>10} {'written':>10} {'output':>10}  where")
    for price in prices:
        rates = dict(price.rates)
        cells = [_per_million(rates[meter][0].unit_price_usd) if meter in rates else "-" for meter in _MAIN]
        shown = " ".join(f"{cell:>10}" for cell in cells)
        where = price.deployment and f"deployment {price.deployment}"
        click.echo(f"{price.model:32} {price.tier:10} {shown}  {where or price.origin}")


def print_history(prices: Iterable[Price], is_in_force: Callable[[Price], bool]) -> None:
    """Print each price with all of its unit prices."""
    for price in sorted(prices, key=lambda each: (each.tier, each.deployment, each.valid_from)):
        until = "" if price.valid_to is None else f" until {price.valid_to:%Y-%m-%d %H:%M:%S}"
        now = "  (in force)" if is_in_force(price) else ""
        click.echo(f"{price.model} {price.tier} from {price.valid_from:%Y-%m-%d %H:%M:%S}{until}{now}")
        click.echo(f"  {price.price_id}, {price.origin}{price.deployment and f', deployment {price.deployment}'}")
        click.echo(f"  source: {price.source}")
        for meter, rates in price.rates:
            click.echo(f"  {meter:24} {_spelt(meter, rates)}")


def differences(book: PriceBook, wishes: Iterable[PriceWish], at: datetime) -> list[Difference]:
    """Compare wishes with what is in force for everybody at a moment."""
    found: list[Difference] = []
    wished: set[tuple[str, str]] = set()
    for wish in wishes:
        moment = wish.valid_from or at
        price = book.find(wish.model, wish.tier, moment)
        if isinstance(price, Unpriced):
            changes = tuple(f"{meter} {_spelt(meter, rates)}" for meter, rates in wish.rates.items())
            found.append(Difference("new", wish.model, wish.tier, changes, wish))
            continue
        wished.add((price.model, price.tier))
        before = dict(price.rates)
        changes = tuple(
            f"{meter} {_spelt(meter, before[meter]) if meter in before else 'none'} -> {_spelt(meter, rates)}"
            for meter, rates in wish.rates.items()
            if before.get(meter) != rates
        )
        if changes:
            found.append(Difference("changed", wish.model, wish.tier, changes, wish))
    found += [
        Difference("absent", price.model, price.tier, (), None)
        for price in book.prices
        if not price.deployment and (price.model, price.tier) not in wished and book.is_in_force(price, at)
    ]
    return sorted(found, key=lambda each: (each.kind != "new", each.kind, each.model, each.tier))


def print_differences(found: list[Difference], *, with_absent: bool) -> None:
    """Print them, and how many there are."""
    shown = [each for each in found if with_absent or each.kind != "absent"]
    for each in shown:
        click.echo(f"{each.kind:8} {each.model} ({each.tier})")
        for change in each.changes:
            click.echo(f"         {change}")
    counts = {kind: sum(each.kind == kind for each in shown) for kind in ("new", "changed", "absent")}
    click.echo(", ".join(f"{count} {kind}" for kind, count in counts.items() if with_absent or kind != "absent"))


def _spelt(meter: str, rates: Rates) -> str:
    """Unit prices with their unit; steps by the size of the input."""
    is_token = meter in TOKEN_METERS or meter in IMAGE_METERS
    unit = "/1M" if is_token else " each"
    assert meter in METERS  # noqa: S101 - a price has no others
    steps = [
        f"{_per_million(rate.unit_price_usd) if is_token else plain(rate.unit_price_usd)}{unit}"
        + (f" above {rate.above_input_tokens}" if rate.above_input_tokens else "")
        for rate in rates
    ]
    return ", ".join(steps)


def _per_million(usd: Decimal) -> str:
    return plain(EXACT.multiply(usd, _MILLION))
