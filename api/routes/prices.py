"""HTTP for prices: GET /prices, POST /prices/set, POST /prices/withdraw; who may read everything may read them."""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request

from api import price_changes
from api.auth import Caller
from api.context import Context, admin, context, reader
from api.errors import bad_request
from api.exact_answer import ExactJson
from api.routes.parameters import Parameter, Parameters
from api.routes.paths import read_by_get
from api.routes.price_shapes import PriceList, PriceName, PriceShape, PriceWishShape
from api.routes.request_body import read_object
from api.routes.shapes import takes
from api.routes.times import read_moment
from ledger.money.override import wished_price, withdrawn
from ledger.money.price import Price, PriceError, canonical_tier
from ledger.money.price_file import read_wish

router = APIRouter(tags=["prices"])

_SIZE_MAX: Final = 1_000

Running = Annotated[Context, Depends(context)]
Administrator = Annotated[Caller, Depends(admin)]
Reader = Annotated[Caller, Depends(reader)]

_LIST: Final = Parameters(
    Parameter("model", "Prices that hold for this model, by whatever name."),
    Parameter("tier", "Prices of this tier."),
    Parameter("at", "Prices in force at this moment, rather than all of them."),
    Parameter("origin", "list: the price list and the config; override: set over it."),
    Parameter("page", "From 1."),
    Parameter("size", f"Prices a page: 1 to {_SIZE_MAX}, usually 100."),
)


@read_by_get(router, "/prices", response_model=PriceList, openapi_extra=_LIST.openapi)
async def list_prices(request: Request, running: Running, _who: Reader) -> ExactJson:
    """List the prices that this proxy knows, superseded revisions left out."""
    given = _LIST.read(request)
    size = given.integer("size", 100, least=1, most=_SIZE_MAX)
    page = given.integer("page", 1, least=1, most=1_000_000)
    tier, origin = given.text("tier"), given.choice("origin", ("list", "override"))
    text = given.text("at")
    at = None if text is None else read_moment(text, "at")
    book = running.book.prices
    model = given.text("model")
    candidates = book.prices if model is None else book.matching(model)
    found = [
        price
        for price in candidates
        if (tier is None or price.tier == canonical_tier(tier))
        and (origin is None or price.origin == origin)
        and (at is None or price.is_valid(at))
    ]
    found.sort(key=lambda price: (price.model, price.tier, price.deployment))
    shown = found[(page - 1) * size : page * size]
    return ExactJson({"prices": [_shown(running, price) for price in shown], "total_count": len(found)})


@router.post("/prices/set", response_model=PriceShape, openapi_extra=takes(PriceWishShape))
async def set_price(request: Request, running: Running, who: Administrator) -> ExactJson:
    """Set a price over the list, for attempts that start from `valid_from` (now) on; past charges stay."""
    body = await read_object(request)
    now = datetime.now(UTC)
    try:
        price = wished_price(running.book.prices, read_wish(body), now=now, actor=who.key_id)
    except PriceError as error:
        raise price_changes.refused(error) from error
    await _publish(running, price, who)
    return ExactJson(_shown(running, price))


@router.post("/prices/withdraw", response_model=PriceShape, openapi_extra=takes(PriceName))
async def withdraw_price(request: Request, running: Running, who: Administrator) -> ExactJson:
    """End a price that was set over the list, now; body: {"price_id": ...}. Then the list holds again."""
    body = await read_object(request)
    price_id = body.get("price_id")
    if not isinstance(price_id, str) or len(body) != 1:
        raise bad_request('Send {"price_id": ...} and nothing else.', param="price_id")
    try:
        price = withdrawn(running.book.prices, price_id, datetime.now(UTC))
    except PriceError as error:
        raise price_changes.refused(error) from error
    await _publish(running, price, who)
    return ExactJson(_shown(running, price))


async def _publish(running: Context, price: Price, who: Caller) -> None:
    await price_changes.publish(running.book, price, who.key_id)
    await running.book.refresh_prices()


def _shown(running: Context, price: Price) -> dict[str, Any]:
    facts = {"origin": price.origin, **price.to_facts()}
    return {**facts, "revision": price.revision, "in_force": running.book.prices.is_in_force(price, datetime.now(UTC))}
