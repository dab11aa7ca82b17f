"""Completes an unknown charge whose prices were missing, once they are known: from what the charge itself recorded.

The price is the one in force when the attempt started, so what was published since must say that it holds from then.
Only what was missing is priced; items that stand are kept as they are.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, cast

from ledger.money.billable import Billable
from ledger.money.book import PriceBook, Unpriced
from ledger.money.cost import REASON_MAX, Charge, LineItem, Missing, charge_quantities
from ledger.money.exact import EXACT, parse
from ledger.money.request import RequestFacts
from ledger.money.terms import Terms
from ledger.money.usage import Usage


def price_again(
    in_force: Mapping[str, Any], started: Mapping[str, Any], *, at: datetime, prices: PriceBook
) -> Charge | None:
    """The charge with what can be priced now; None where nothing more is known than before.

    `in_force` is the money part in force (`correction.accumulate`), `started` the facts of `attempt.started`, `at` its
    moment.
    """
    missing, usage = _missing(in_force), _usage(in_force)
    if missing is None or usage is None:
        return None
    money = cast("Mapping[str, Any]", started.get("money") or {})
    deployment = str(started.get("deployment") or "")
    price = prices.find(missing.model, in_force["tier"] or "default", at, deployment=deployment)
    if isinstance(price, Unpriced):
        return None
    request = RequestFacts.from_facts(money)
    region = str(money.get("region") or "")
    terms = Terms(price, prices=prices, at=at, request=request, region=region, input_tokens=usage.input_tokens)
    added = charge_quantities(missing.quantities, price, terms, model=missing.model, gaps=missing.gaps)
    if not added.items:
        return None
    estimated = EXACT.add(parse(in_force["estimated_usd"]), added.estimated_usd)
    return added._replace(
        state="unknown" if added.unknown else "estimated" if estimated else "billed",
        reason="; ".join(part for part in ("priced later", added.reason) if part)[:REASON_MAX],
        usage=usage,
        items=(*(_item(item) for item in in_force["items"]), *added.items),
        billed_usd=EXACT.add(parse(in_force["billed_usd"]), added.billed_usd),
        estimated_usd=estimated,
        requested_tier=in_force["requested_tier"],
        tier_assumed=in_force["tier_assumed"],
    )


def _missing(in_force: Mapping[str, Any]) -> Missing | None:
    facts = in_force.get("missing")
    if facts is None:
        return None
    quantities = tuple(Billable(*quantity) for quantity in facts["quantities"])
    return Missing(facts["model"], quantities, tuple(facts["gaps"]))


def _usage(in_force: Mapping[str, Any]) -> Usage | None:
    facts = in_force.get("usage")
    return None if facts is None else Usage(**facts)


def _item(facts: Mapping[str, Any]) -> LineItem:
    unit_price, amount = parse(facts["unit_price_usd"]), parse(facts["amount_usd"])
    return LineItem(facts["meter"], facts["quantity"], Decimal(unit_price), amount, facts.get("price_id"))
