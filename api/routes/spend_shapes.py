"""Shapes of reports on spend. What shapes are for: `shapes.py`."""

from datetime import datetime
from typing import Any

from api.routes.shapes import Count, Shape, Totals, UsdNumber, UsdText


class SpendSums(Totals):
    """What calls of a period cost; the unknown is in no sum."""

    attempts: Count
    input_tokens: Count
    cached_tokens: Count
    cache_write_tokens: Count
    output_tokens: Count
    reasoning_tokens: Count
    total_tokens: Count


class SpendGroup(SpendSums):
    """Sums of one group, whose name stands under the dimension that was asked for."""

    key: str | None = None
    end_user: str | None = None
    model: str | None = None
    team: str | None = None
    tag: str | None = None
    org: str | None = None
    user: str | None = None
    deployment: str | None = None
    tier: str | None = None


class ReportGroup(SpendGroup):
    """Sums of one group; `bucket` is the beginning of its interval, where one was asked for."""

    bucket: datetime | None = None


class SpendReport(Shape):
    """Sums of a period by dimensions and interval, the most expensive first."""

    start: datetime
    end: datetime
    group_by: str
    interval: str | None
    groups: list[ReportGroup]
    total: SpendSums
    overlapping: bool
    truncated: bool


class RankedSpend(SpendGroup):
    """Sums of one name, under our name of its dimension and LiteLLM's."""

    api_key: str | None = None
    key_alias: str | None = None
    key_name: str | None = None
    user_id: str | None = None
    team_id: str | None = None
    name: str | None = None
    individual_request_tag: str | None = None
    provider: str | None = None
    total_spend: UsdNumber
    log_count: Count


class DaySpend(SpendSums):
    """Sums of one day."""

    date: str


class TeamSpend(Shape):
    """Sums of each team, and the spend of each by day."""

    daily_spend: list[dict[str, Any]]
    teams: list[str]
    total_spend_per_team: list[RankedSpend]


class TagSpend(Shape):
    """Sums of each tag. Tags overlap: do not add them up."""

    spend_per_tag: list[RankedSpend]


class TagNames(Shape):
    """Every tag that a call ever had."""

    tag_names: list[str]


class GlobalSpend(SpendSums):
    """Everything that was ever spent; `max_budget` is always null: no budget bounds it."""

    max_budget: None


class ActivityDay(Shape):
    """What happened on one day."""

    date: str
    api_requests: Count
    successful_requests: Count
    failed_requests: Count
    total_tokens: Count
    spend: UsdNumber
    billed_usd: UsdText
    estimated_usd: UsdText
    unknown_calls: Count


class Activity(Shape):
    """What happened, by day and in all."""

    daily_data: list[ActivityDay]
    sum_api_requests: Count
    sum_successful_requests: Count
    sum_failed_requests: Count
    sum_total_tokens: Count
    sum_spend: UsdNumber
    sum_unknown_calls: Count


class ModelActivity(Activity):
    """What happened with one model."""

    model: str


class Metrics(Shape):
    """Sums of a day, or of one name on it, under LiteLLM's names and ours."""

    spend: UsdNumber
    billed_usd: UsdText
    estimated_usd: UsdText
    unknown_calls: Count
    prompt_tokens: Count
    completion_tokens: Count
    cache_read_input_tokens: Count
    cache_creation_input_tokens: Count
    reasoning_tokens: Count
    total_tokens: Count
    api_requests: Count
    successful_requests: Count
    failed_requests: Count


class NamedMetrics(Shape):
    """Sums of one name."""

    metrics: Metrics
    metadata: dict[str, Any]


class DailyBreakdown(Shape):
    """Sums of a day by model, by key and by what was asked for; `model_groups` are the models."""

    models: dict[str, NamedMetrics]
    model_groups: dict[str, NamedMetrics]
    providers: dict[str, NamedMetrics]
    mcp_servers: dict[str, NamedMetrics]
    api_keys: dict[str, NamedMetrics]
    entities: dict[str, NamedMetrics]


class DailyResult(Shape):
    """One day."""

    date: str
    metrics: Metrics
    breakdown: DailyBreakdown


class DailyMetadata(Shape):
    """Sums of the whole period, and where in it the page is."""

    total_spend: UsdNumber
    total_billed_usd: UsdText
    total_estimated_usd: UsdText
    total_unknown_calls: Count
    total_prompt_tokens: Count
    total_completion_tokens: Count
    total_cache_read_input_tokens: Count
    total_cache_creation_input_tokens: Count
    total_tokens: Count
    total_api_requests: Count
    total_successful_requests: Count
    total_failed_requests: Count
    page: Count
    total_pages: Count
    has_more: bool


class DailyActivity(Shape):
    """What happened, day by day, the latest first."""

    results: list[DailyResult]
    metadata: DailyMetadata


class QuoteShape(Shape):
    """What is to be priced: a request (`input` or `messages`), or an answer with its usage."""

    model: str | None = None
    input: Any = None
    messages: list[Any] | None = None
    completion_response: dict[str, Any] | None = None
    response: dict[str, Any] | None = None
    service_tier: str | None = None


class Quote(Shape):
    """What it would cost now; `cost` is null where that is unknown."""

    cost: UsdNumber | None
    billed_usd: UsdText
    estimated_usd: UsdText
    unknown_calls: Count
    state: str
    reason: str | None
