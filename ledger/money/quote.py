"""What something would cost, without a call: of an answer, of usage, or of a request that was not sent.

Pure but for the tokenizer, which a request needs: there it blocks (`tokens`), so use a thread. Nothing is recorded.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from ledger.money.answer import charge_answer
from ledger.money.book import PriceBook
from ledger.money.cost import Charge
from ledger.money.estimate import estimate_charge
from ledger.money.request import NO_REQUEST, RequestFacts, read_request


def quote(
    *,
    prices: PriceBook,
    at: datetime,
    model: str = "",
    response: Mapping[str, Any] | None = None,
    usage: Mapping[str, Any] | None = None,
    request: Mapping[str, Any] | None = None,
    tier: str | None = None,
    deployment: str = "",
    region: str = "",
) -> Charge:
    """Price at the moment `at`, as a call that started then would be charged.

    Give one of: `response`, a Response object or compaction; `usage` in the shape of `Response.usage`; else `request`,
    a body of `POST /responses`, whose input is counted offline and whose answer costs nothing yet (state `estimated`,
    or `unknown` where its input cannot be counted; blocks). `request` beside one of the others tells what only it
    knows: window, tools, containers. `model` and `tier` fill in, or replace, what the objects say. As everywhere, what
    is not known is `unknown` with the reason; nothing is raised for what the objects hold.
    """
    facts = NO_REQUEST if request is None else read_request(request)
    if response is not None or usage is not None:
        given = dict(response if response is not None else {"usage": usage, "model": facts.model})
        if model:
            given["model"] = model
        if tier is not None:
            given["service_tier"] = tier
        return charge_answer(given, request=facts, at=at, prices=prices, deployment=deployment, region=region)
    body = dict(request or {})
    if tier is not None:
        body["service_tier"] = tier
    facts = RequestFacts() if request is None else read_request(body)
    return estimate_charge(
        body,
        0,
        reason="a request without its answer",
        model=model or facts.model,
        at=at,
        prices=prices,
        request=facts,
        deployment=deployment,
        region=region,
    )
