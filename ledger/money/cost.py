"""The charge: quantities times unit prices, or why that cannot be said.

`charge` is the one price function. It only multiplies and adds exactly; what it does not know it books as unknown, with
the reason, beside what it does know. Neighbours: `answer` reads an answer into its arguments, `correction` turns a
later charge of the same attempt into a delta.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from ledger.money.book import PriceBook, Unpriced
from ledger.money.exact import EXACT, ZERO, fits, plain
from ledger.money.price import Price, canonical_tier
from ledger.money.request import NO_REQUEST, TEXT_MAX, RequestFacts
from ledger.money.tools import NO_TOOLS, ToolUse
from ledger.money.usage import TOKEN_METERS, Meter, Quantity, Usage, decompose

State = Literal["billed", "estimated", "unknown"]
REASON_MAX = 500

# Off the standard token prices, https://developers.openai.com/api/docs/guides/background
_WINDOW_FACTORS = {"2h": Decimal("0.7"), "8h": Decimal("0.6")}
_WINDOWS_WITHOUT_DISCOUNT = frozenset({"", "soonest"})
_UNSAID_TIERS = frozenset({"", "auto", "default"})


class LineItem(NamedTuple):
    """So many units of a meter at a unit price; the amount is their exact product, in USD."""

    meter: Meter
    quantity: int
    unit_price_usd: Decimal
    amount_usd: Decimal

    def to_facts(self) -> dict[str, Any]:
        """One of `items` in `cost.recorded`."""
        return {
            "meter": self.meter,
            "quantity": self.quantity,
            "unit_price_usd": plain(self.unit_price_usd),
            "amount_usd": plain(self.amount_usd),
        }


@dataclass(frozen=True, slots=True)
class Charge:
    """What one attempt costs. `unknown` is 1 when something in it could not be priced; the sums hold the rest.

    `tier` is the served tier ("" when not known), `tier_assumed` says that the answer did not name it. `price_id` and
    `priced_model` name the price that was used, None when none was.
    """

    state: State
    reason: str | None = None
    usage: Usage | None = None
    items: tuple[LineItem, ...] = ()
    billed_usd: Decimal = ZERO
    estimated_usd: Decimal = ZERO
    unknown: int = 0
    price_id: str | None = None
    priced_model: str | None = None
    tier: str = ""
    requested_tier: str = ""
    tier_assumed: bool = False

    def to_facts(self) -> dict[str, Any]:
        """The money part of `cost.recorded`; attempt, revision, `final`, `calls` and `dims` are the caller's."""
        return {
            "state": self.state,
            "reason": self.reason,
            "usage": None if self.usage is None else self.usage.to_facts(),
            "items": [item.to_facts() for item in self.items],
            "billed_usd": plain(self.billed_usd),
            "estimated_usd": plain(self.estimated_usd),
            "unknown": self.unknown,
            "price_id": self.price_id,
            "priced_model": self.priced_model,
            "tier": self.tier,
            "requested_tier": self.requested_tier,
            "tier_assumed": self.tier_assumed,
        }


def charge(
    usage: Usage | None,
    *,
    model: str,
    tier: str | None,
    at: datetime,
    prices: PriceBook,
    request: RequestFacts = NO_REQUEST,
    tools: ToolUse = NO_TOOLS,
    deployment: str = "",
) -> Charge:
    """Price the usage of one attempt.

    `model` and `tier` are what the terminal object says (tier None where it has none), `at` is the moment of
    `attempt.started`. An absent tier counts as "default", as the API documents, unless the request asked for another:
    then nobody can say which one was served. Never raises for what an answer may contain: the result is `unknown`.
    """
    assumed = not tier
    served = canonical_tier((tier or "default")[:TEXT_MAX])
    if usage is None:
        return unknown_cost("the answer carries no usage", tier=tier or "", request=request)
    if assumed and canonical_tier(request.requested_tier) not in _UNSAID_TIERS:
        reason = f"the answer does not name its tier although the request asked for {request.requested_tier!r}"
        return unknown_cost(reason, usage=usage, request=request)
    price = prices.find(model, served, at, deployment=deployment)
    if isinstance(price, Unpriced):
        return unknown_cost(price.reason, usage=usage, tier=served, tier_assumed=assumed, request=request)
    factor, notes = _window(request, served)
    gaps = list(tools.unpriced)
    if factor is None:
        gaps += notes
    items = _items(decompose(usage), tools, price, usage.input_tokens, factor=factor, gaps=gaps)
    total = ZERO
    for item in items:
        total = EXACT.add(total, item.amount_usd)
    return Charge(
        state="unknown" if gaps else "billed",
        reason="; ".join(gaps or notes)[:REASON_MAX] or None,
        usage=usage,
        items=items,
        billed_usd=total,
        unknown=1 if gaps else 0,
        price_id=price.price_id,
        priced_model=price.model,
        tier=served,
        requested_tier=request.requested_tier,
        tier_assumed=assumed,
    )


def no_charge(reason: str, *, request: RequestFacts = NO_REQUEST) -> Charge:
    """For an attempt that costs nothing, known as such: the upstream refused it, or it was never sent."""
    return Charge(state="billed", reason=reason[:REASON_MAX], requested_tier=request.requested_tier)


def unknown_cost(
    reason: str,
    *,
    usage: Usage | None = None,
    tier: str = "",
    tier_assumed: bool = False,
    request: RequestFacts = NO_REQUEST,
) -> Charge:
    """For an attempt that may cost something, nobody can say what."""
    return Charge(
        state="unknown",
        reason=reason[:REASON_MAX],
        usage=usage,
        unknown=1,
        tier=canonical_tier(tier[:TEXT_MAX]),
        requested_tier=request.requested_tier,
        tier_assumed=tier_assumed,
    )


def as_estimate(charged: Charge, reason: str) -> Charge:
    """The same charge on estimated usage: its sum moves to `estimated_usd`; what was unknown stays so."""
    told = reason if charged.reason is None else f"{reason}; {charged.reason}"
    return Charge(
        state="unknown" if charged.unknown else "estimated",
        reason=told[:REASON_MAX],
        usage=charged.usage,
        items=charged.items,
        estimated_usd=EXACT.add(charged.billed_usd, charged.estimated_usd),
        unknown=charged.unknown,
        price_id=charged.price_id,
        priced_model=charged.priced_model,
        tier=charged.tier,
        requested_tier=charged.requested_tier,
        tier_assumed=charged.tier_assumed,
    )


def _window(request: RequestFacts, served: str) -> tuple[Decimal | None, list[str]]:
    """The factor on token prices and what to say about it; no factor when the window's discount is not known."""
    window = request.completion_window
    if window in _WINDOWS_WITHOUT_DISCOUNT or not request.background or request.stream or served != "default":
        return Decimal(1), []
    factor = _WINDOW_FACTORS.get(window)
    if factor is None:
        return None, [f"completion window {window!r} has no known price"]
    return factor, [f"completion window {window}: {plain(factor)} of the standard token prices"]


def _items(
    quantities: Sequence[Quantity],
    tools: ToolUse,
    price: Price,
    input_tokens: int,
    *,
    factor: Decimal | None,
    gaps: list[str],
) -> tuple[LineItem, ...]:
    """Price each quantity; what has no exact unit price is named in `gaps` instead."""
    items: list[LineItem] = []
    if tools.web_searches:
        quantities = (*quantities, Quantity("web_search", tools.web_searches))
    for meter, quantity in quantities:
        unit_price = price.unit_price(meter, input_tokens)
        if unit_price is None:
            gaps.append(f"{meter} ({quantity}) has no price for {price.model!r}")
            continue
        if meter in TOKEN_METERS:
            if factor is None:
                continue
            if factor != 1:
                unit_price = EXACT.multiply(unit_price, factor)
                if not fits(unit_price):
                    gaps.append(f"{meter}: {plain(unit_price)} USD after the discount needs more than 12 decimals")
                    continue
        items.append(LineItem(meter, quantity, unit_price, EXACT.multiply(unit_price, Decimal(quantity))))
    return tuple(items)
