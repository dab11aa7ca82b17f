"""The OpenAI SDK's admin client reads usage and costs of a running proxy, page after page, in its own types."""

from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from openai import AsyncOpenAI
from openai.types.admin.organization import UsageCompletionsResponse, UsageCostsResponse
from openai.types.admin.organization.usage_completions_response import DataResultOrganizationUsageCompletionsResult
from openai.types.admin.organization.usage_costs_response import DataResultOrganizationCostsResult

from tests.acceptance.conftest import MakeProxy
from tests.support.proxy import MASTER_KEY, LocalProxy, configuration, deployment
from tests.support.upstream import Upstream

DAY_S = 86_400


async def _all_results(ask: Callable[..., Awaitable[Any]], **query: Any) -> list[Any]:
    """Go through every page, as a client of OpenAI's API does."""
    found: list[Any] = []
    page = await ask(**query)
    while True:
        assert len(page.data) <= query["limit"]
        found += [result for bucket in page.data for result in bucket.results]
        if not page.has_more:
            return found
        page = await ask(**query, page=page.next_page)


async def _folded(usage: Any, calls: int, cost: Decimal, start: int) -> None:
    """Ask until both projections have these calls."""
    counted, booked = 0, Decimal(0)
    while counted < calls or booked < cost:
        requests = await _all_results(usage.completions, start_time=start, limit=31)
        items = await _all_results(usage.costs, start_time=start, limit=31, group_by=["line_item"])
        counted = sum(result.num_model_requests for result in requests)
        booked = sum((Decimal(str(item.amount.value)) for item in items), Decimal(0))


async def _calls(proxy: LocalProxy, models: list[str]) -> Decimal:
    """Make calls, and return what their headers said they cost."""
    cost = Decimal(0)
    async with AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key=MASTER_KEY, max_retries=0) as sdk:
        for number, model in enumerate(models):
            raw = await sdk.responses.with_raw_response.create(
                model=model, input="Tell me about ledgers", safety_identifier=f"user-{number % 2}"
            )
            cost += Decimal(raw.headers["x-llm-response-cost"])
    return cost


async def test_admin_sdk_iterates_usage_and_costs_of_a_running_proxy(make_proxy: MakeProxy, upstream: Upstream) -> None:
    base = f"{upstream.url}/v1"
    proxy = await make_proxy(configuration([deployment(name, base, model="gpt-4o") for name in ("gpt-4o", "other")]))
    start = int(datetime.now(UTC).timestamp()) // DAY_S * DAY_S - 3 * DAY_S
    cost = await _calls(proxy, ["gpt-4o", "gpt-4o", "other"])
    assert cost > 0
    async with AsyncOpenAI(
        base_url=f"{proxy.url}/v1", api_key="unused", admin_api_key=MASTER_KEY, max_retries=0
    ) as sdk:
        usage: Any = sdk.admin.organization.usage
        await _folded(usage, 3, cost, start)
        page = await usage.completions(start_time=start, bucket_width="1d", limit=1)
        assert isinstance(page, UsageCompletionsResponse)
        assert (len(page.data), page.has_more, page.data[0].results) == (1, True, [])
        by_model = await _all_results(
            usage.completions, start_time=start, bucket_width="1d", limit=2, group_by=["model", "api_key_id"]
        )
        assert all(isinstance(result, DataResultOrganizationUsageCompletionsResult) for result in by_model)
        assert {(result.model, result.api_key_id): result.num_model_requests for result in by_model} == {
            ("gpt-4o", "master"): 2,
            ("other", "master"): 1,
        }
        by_user = await _all_results(
            usage.completions,
            start_time=start,
            bucket_width="1h",
            limit=50,
            models=["gpt-4o"],
            extra_query={"group_by": ["end_user_id"]},
        )
        assert {result.end_user_id: result.num_model_requests for result in by_user} == {"user-0": 1, "user-1": 1}
        (whole,) = await _all_results(usage.costs, start_time=start, limit=2)
        assert isinstance(whole, DataResultOrganizationCostsResult)
        assert whole.amount is not None
        assert (whole.amount.value, whole.amount.currency) == (float(cost), "usd")
        items = await _all_results(usage.costs, start_time=start, limit=1, group_by=["line_item"])
        assert {item.line_item for item in items} >= {"gpt-4o, input_tokens", "other, output_tokens"}
        assert sum(Decimal(str(item.amount.value)) for item in items) == cost
        tokens = sum(item.quantity for item in items if "input_tokens" in item.line_item)
        assert tokens == sum(result.input_tokens for result in by_model)
        only = await usage.costs(start_time=start, line_items=["other, output_tokens"])
        assert isinstance(only, UsageCostsResponse)
