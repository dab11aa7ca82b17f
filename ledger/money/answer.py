"""From an answer to its charge: what the engine calls once it holds the terminal object.

Reads model, served tier, usage and tools of a Response or a compaction and hands them to `cost.charge`.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ledger.money.book import PriceBook
from ledger.money.cost import Charge, charge, unknown_cost
from ledger.money.price import NAME_MAX, canonical_tier
from ledger.money.request import RequestFacts, text_of
from ledger.money.tools import read_tool_use
from ledger.money.usage import UsageError, read_usage

_COMPACTION = "response.compaction"


def charge_answer(
    response: Mapping[str, Any],
    *,
    request: RequestFacts,
    at: datetime,
    prices: PriceBook,
    deployment: str = "",
    region: str = "",
) -> Charge:
    """Price a whole answer (the JSON body, or `response` of the terminal event) at the moment its attempt started.

    A compaction names neither model nor tier: both are the request's, the tier marked as assumed. Usage that
    contradicts itself gives an `unknown` charge with the reason.
    """
    model = text_of(response.get("model"), NAME_MAX)
    tier: str | None = text_of(response.get("service_tier"))
    compacted = response.get("object") == _COMPACTION
    if compacted:
        model = model or request.model
        asked = canonical_tier(request.requested_tier)
        tier = tier or (asked if asked != "auto" else None)
    try:
        usage = read_usage(response)
    except UsageError as error:
        return unknown_cost(f"usage cannot be priced: {error}", tier=tier or "", request=request)
    charged = charge(
        usage,
        model=model,
        tier=tier,
        at=at,
        prices=prices,
        request=request,
        tools=read_tool_use(response, request.tools),
        deployment=deployment,
        region=region,
    )
    if compacted and not response.get("service_tier"):
        return charged._replace(tier_assumed=True)
    return charged
