"""Shapes of usage and costs as OpenAI has them, with what is added here. What shapes are for: `shapes.py`.

Source: `UsageCompletionsResponse` and `UsageCostsResponse` of the `openai` package.
"""

from decimal import Decimal
from typing import Annotated, Literal

from pydantic import WithJsonSchema

from api.routes.shapes import Count, Shape, UsdNumber

_Quantity = Annotated[Decimal, WithJsonSchema({"type": "number"})]


class CompletionsResult(Shape):
    """Tokens and requests of one group in one bucket; null: not known, not grouped by, or the calls had none."""

    object: Literal["organization.usage.completions.result"]
    input_tokens: Count
    output_tokens: Count
    num_model_requests: Count
    input_cached_tokens: Count
    input_uncached_tokens: Count
    input_cache_write_tokens: Count
    input_cache_write_30m_tokens: Count | None
    input_cache_write_12h_tokens: Count | None
    input_text_tokens: Count | None
    input_audio_tokens: Count | None
    input_image_tokens: Count | None
    input_cached_text_tokens: Count | None
    input_cached_audio_tokens: Count | None
    input_cached_image_tokens: Count | None
    output_text_tokens: Count | None
    output_audio_tokens: Count | None
    output_image_tokens: Count | None
    project_id: str | None
    user_id: str | None
    api_key_id: str | None
    model: str | None
    batch: bool | None
    service_tier: str | None
    api_source: Literal["unlabeled"] | None
    end_user_id: str | None
    num_unknown_costs: Count


class Amount(Shape):
    """USD, billed and estimated together; `estimated_value` of them estimated, null where that is not kept apart."""

    value: UsdNumber
    currency: Literal["usd"]
    estimated_value: UsdNumber | None


class CostsResult(Shape):
    """What one group cost on one day; what is unknown is counted in `num_unknown_costs` and in no amount."""

    object: Literal["organization.costs.result"]
    amount: Amount
    line_item: str | None
    project_id: str | None
    user_id: str | None
    api_key_id: str | None
    quantity: _Quantity | None
    quantity_unit: str | None
    api_source: Literal["unlabeled"] | None
    end_user_id: str | None
    num_unknown_costs: Count


class _Bucket(Shape):
    object: Literal["bucket"]
    start_time: int
    end_time: int


class CompletionsBucket(_Bucket):
    """A minute, an hour or a day (UTC), in Unix seconds; without results where nothing was called."""

    results: list[CompletionsResult]


class CostsBucket(_Bucket):
    """A day (UTC), in Unix seconds; without results where nothing was called."""

    results: list[CostsResult]


class _Page(Shape):
    object: Literal["page"]
    has_more: bool
    next_page: str | None


class CompletionsPage(_Page):
    """Buckets in their order; `next_page` is the `page` to ask for next."""

    data: list[CompletionsBucket]


class CostsPage(_Page):
    """Days in their order; `next_page` is the `page` to ask for next."""

    data: list[CostsBucket]
