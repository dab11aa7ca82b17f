"""What prices look like by HTTP, for the description of the API."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field

from api.routes.shapes import Count, Shape, UsdText

Tokens = Annotated[int, Field(ge=0)]


class RateShape(Shape):
    """USD per unit for a whole request whose input is larger than so many tokens."""

    above_input_tokens: Tokens
    unit_price_usd: UsdText


class PriceShape(Shape):
    """A published price. Identified by the hash of its content; never changed, only followed by another."""

    price_id: str
    model: str
    match: list[list[str]]
    tier: str
    valid_from: datetime
    valid_to: datetime | None
    rates: dict[str, list[RateShape]]
    source: str
    deployment: str
    origin: Literal["list", "override"]
    revision: Count
    in_force: bool


class PriceList(Shape):
    """Prices by model, tier and time, latest first."""

    prices: list[PriceShape]
    total_count: Count


class PriceWishShape(Shape):
    """A price to be set; meters that are not given keep the unit price in force then."""

    model: str
    tier: str = "default"
    rates: Annotated[dict[str, str | list[RateShape]], Field(default_factory=dict)]
    input_cost_per_token: str | None = None
    output_cost_per_token: str | None = None
    cache_read_input_token_cost: str | None = None
    cache_creation_input_token_cost: str | None = None
    cache_creation_input_token_cost_above_12hr: str | None = None
    valid_from: datetime | None = None
    valid_to: datetime | None = None


class PriceName(Shape):
    """Which price is meant."""

    price_id: str
