"""The charge: quantities times unit prices, or why that cannot be said.

`charge` is the one price function. It only multiplies and adds exactly; what it does not know it books as unknown, with
the reason, beside what it does know. Neighbours: `answer` reads an answer into its arguments, `correction` turns a
later charge of the same attempt into a delta.
"""

from collections.abc import Iterable
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple

from ledger.money.billable import NO_TOOLS, Billable, ToolUse
from ledger.money.book import PriceBook, Unpriced
from ledger.money.exact import EXACT, ZERO, plain
from ledger.money.price import Price, canonical_tier
from ledger.money.request import NO_REQUEST, TEXT_MAX, RequestFacts
from ledger.money.terms import Terms
from ledger.money.usage import Meter, Usage, amounts, decompose

State = Literal["billed", "estimated", "unknown"]
REASON_MAX = 500
_GAPS_MAX = 16
_GAP_CHARS_MAX = 200

_UNSAID_TIERS = frozenset({"", "auto", "default"})


class LineItem(NamedTuple):
    """So many units of a meter at a unit price; the amount is their exact product, in USD.

    `price_id` names the price where it is another one than the charge's: that of tools, or of an image model.
    """

    meter: Meter
    quantity: int
    unit_price_usd: Decimal
    amount_usd: Decimal
    price_id: str | None = None

    def to_facts(self) -> dict[str, Any]:
        """One of `items` in `cost.recorded`."""
        facts: dict[str, Any] = {
            "meter": self.meter,
            "quantity": self.quantity,
            "unit_price_usd": plain(self.unit_price_usd),
            "amount_usd": plain(self.amount_usd),
        }
        return facts if self.price_id is None else {**facts, "price_id": self.price_id}


class Missing(NamedTuple):
    """What an unknown charge lacks: quantities of `model` without a price, and what no price would help with."""

    model: str
    quantities: tuple[Billable, ...]
    gaps: tuple[str, ...] = ()

    def to_facts(self) -> dict[str, Any]:
        """The `missing` part of `cost.recorded`."""
        return {
            "model": self.model,
            "quantities": [list(quantity) for quantity in self.quantities],
            "gaps": [gap[:_GAP_CHARS_MAX] for gap in self.gaps[:_GAPS_MAX]],
        }


class Charge(NamedTuple):
    """What one attempt costs. `unknown` is 1 when something in it could not be priced; the sums hold the rest.

    A charge is `billed` when all of it follows from the upstream's usage, `estimated` when a part of it does not: then
    both sums may be above zero. `tier` is the served tier ("" when not known), `tier_assumed` says that the answer did
    not name it. `price_id` and `priced_model` name the price that was used, None when none was. `missing` is what a
    price published later could complete.
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
    missing: Missing | None = None

    def to_facts(self) -> dict[str, Any]:
        """The money part of `cost.recorded`; attempt, revision, `final`, `calls` and `dims` are the caller's."""
        facts: dict[str, Any] = {
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
        return facts if self.missing is None else {**facts, "missing": self.missing.to_facts()}


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
    region: str = "",
) -> Charge:
    """Price the usage of one attempt.

    `model` and `tier` are what the terminal object says (tier None where it has none), `at` is the moment of
    `attempt.started`, `region` that of the endpoint ("" for none). An absent tier counts as "default", as the API
    documents, unless the request asked for another: then nobody can say which one was served. Never raises for what
    an answer may contain: the result is `unknown`.
    """
    assumed = not tier
    served = canonical_tier((tier or "default")[:TEXT_MAX])
    if usage is None:
        return unknown_cost("the answer carries no usage", tier=tier or "", request=request)
    if assumed and canonical_tier(request.requested_tier) not in _UNSAID_TIERS:
        reason = f"the answer does not name its tier although the request asked for {request.requested_tier!r}"
        return unknown_cost(reason, usage=usage, request=request)
    price = prices.find(model, served, at, deployment=deployment)
    if isinstance(price, Price) and not (tools.billables or tools.unpriced or request.background or region):
        at_list = _at_list_price(usage, price, requested_tier=request.requested_tier, tier_assumed=assumed)
        if at_list is not None:
            return at_list
    used = (*[Billable(meter, quantity) for meter, quantity in decompose(usage)], *tools.billables)
    if isinstance(price, Unpriced):
        unpriced = unknown_cost(price.reason, usage=usage, tier=served, tier_assumed=assumed, request=request)
        return unpriced._replace(missing=Missing(model, used, tools.unpriced))
    terms = Terms(price, prices=prices, at=at, request=request, region=region, input_tokens=usage.input_tokens)
    return charge_quantities(
        used,
        price,
        terms,
        model=model,
        gaps=tools.unpriced,
        usage=usage,
        requested_tier=request.requested_tier,
        tier_assumed=assumed,
    )


def _at_list_price(usage: Usage, price: Price, *, requested_tier: str, tier_assumed: bool) -> Charge | None:
    """Price tokens alone, without discount or uplift: as `charge_quantities`, in half the time, since nearly all are.

    None where a quantity has no price.
    """
    items: list[LineItem] = []
    billed = ZERO
    input_tokens = usage.input_tokens
    for meter, quantity in amounts(usage):
        if not quantity:
            continue
        usd = price.unit_price(meter, input_tokens)
        if usd is None:
            return None
        amount = EXACT.multiply(usd, Decimal(quantity))
        items.append(LineItem(meter, quantity, usd, amount))
        billed = EXACT.add(billed, amount)
    return Charge(
        state="billed",
        usage=usage,
        items=tuple(items),
        billed_usd=billed,
        price_id=price.price_id,
        priced_model=price.model,
        tier=price.tier,
        requested_tier=requested_tier,
        tier_assumed=tier_assumed,
    )


def charge_quantities(
    used: Iterable[Billable],
    price: Price,
    terms: Terms,
    *,
    model: str,
    gaps: tuple[str, ...] = (),
    usage: Usage | None = None,
    requested_tier: str = "",
    tier_assumed: bool = False,
) -> Charge:
    """Price quantities by terms; what has no exact unit price is `missing`, with the reason.

    `usage`, `requested_tier` and `tier_assumed` are the charge's own.
    """
    items: list[LineItem] = []
    missing: list[Billable] = []
    no_price: list[str] = []
    doubts: list[str] = []
    billed = estimated = ZERO
    for billable in used:
        unit_price = terms.unit_price(billable)
        if isinstance(unit_price, str):
            missing.append(billable)
            no_price += [unit_price] if unit_price else []
            continue
        amount = EXACT.multiply(unit_price.usd, Decimal(billable.quantity))
        items.append(LineItem(billable.meter, billable.quantity, unit_price.usd, amount, unit_price.price_id))
        if billable.doubt:
            doubts.append(billable.doubt)
            estimated = EXACT.add(estimated, amount)
        else:
            billed = EXACT.add(billed, amount)
    other_gaps = (*gaps, *terms.gaps)
    is_unknown = bool(missing or other_gaps)
    told = (*other_gaps, *no_price, *doubts, *terms.notes)
    return Charge(
        state="unknown" if is_unknown else "estimated" if doubts else "billed",
        reason="; ".join(dict.fromkeys(told))[:REASON_MAX] if told else None,
        usage=usage,
        items=tuple(items),
        billed_usd=billed,
        estimated_usd=estimated,
        unknown=int(is_unknown),
        price_id=price.price_id,
        priced_model=price.model,
        tier=price.tier,
        requested_tier=requested_tier,
        tier_assumed=tier_assumed,
        missing=Missing(model, tuple(missing), other_gaps) if missing else None,
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
    return charged._replace(
        state="unknown" if charged.unknown else "estimated",
        reason=told[:REASON_MAX],
        billed_usd=ZERO,
        estimated_usd=EXACT.add(charged.billed_usd, charged.estimated_usd),
        # Prices published later do not make counted tokens the upstream's own.
        missing=None,
    )
