"""HTTP in OpenAI's shape for usage and costs: /organization/usage/completions and /organization/costs.

A project is a team, a user the key's user, an API key a key; the end user is an addition. A key sees its own only.
What is asked is read in `organization_query.py`, what is answered is spelt in `organization_results.py`.
"""

import asyncio
from collections.abc import Callable
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Caller
from api.context import Context, caller, context
from api.errors import ApiFailure, bad_request
from api.exact_answer import ExactJson
from api.routes.organization_query import (
    COST_GROUPS,
    COST_WIDTHS,
    COSTS,
    USAGE,
    USAGE_GROUPS,
    WIDTHS,
    Asked,
    read_asked,
    read_only,
)
from api.routes.organization_results import completions_result, costs_result, line_item, line_item_result, page
from api.routes.organization_shapes import CompletionsPage, CostsPage
from api.routes.parameters import Given
from api.routes.paths import read_by_get
from api.routes.reading import reporting
from api.routes.spend_query import FLAGS
from ledger.reports.buckets import (
    Only,
    Span,
    TooManyGroupsError,
    line_items_by_bucket,
    sums_by_bucket,
)

router = APIRouter(tags=["organization"])

#: More results than these make a page with fewer buckets than were asked for.
RESULTS_MAX: Final = 10_000
_LARGE: Final = 200

Running = Annotated[Context, Depends(context)]
Anybody = Annotated[Caller, Depends(caller)]


@read_by_get(
    router,
    "/v1/organization/usage/completions",
    "/organization/usage/completions",
    "/openai/v1/organization/usage/completions",
    response_model=CompletionsPage,
    openapi_extra=USAGE.openapi,
)
async def get_usage(request: Request, running: Running, who: Anybody) -> ExactJson:
    """Return tokens and requests in buckets of time, a page of buckets at a time."""
    given = USAGE.read(request)
    asked = read_asked(given, WIDTHS, USAGE_GROUPS)
    if asked.span is None or given.flag("batch"):
        return ExactJson(page(asked, [], asked.span.end if asked.span else 0))
    async with reporting(running.reads) as connection:
        only = await read_only(connection, given, who)
        try:
            found, end = await sums_by_bucket(
                connection, asked.span, group_by=asked.dimensions, only=only, groups_max=RESULTS_MAX
            )
        except TooManyGroupsError as error:
            raise _too_many() from error
    return await _spelt(asked, found, completions_result, end)


@read_by_get(
    router,
    "/v1/organization/costs",
    "/organization/costs",
    "/openai/v1/organization/costs",
    response_model=CostsPage,
    openapi_extra=COSTS.openapi,
)
async def get_costs(request: Request, running: Running, who: Anybody) -> ExactJson:
    """Return what calls cost, day by day, a page of days at a time."""
    given = COSTS.read(request)
    asked = read_asked(given, COST_WIDTHS, COST_GROUPS)
    by_item = "line_item" in asked.group_by or bool(given.texts("line_items"))
    if by_item:
        _require_kept(asked, given)
    if asked.span is None:
        return ExactJson(page(asked, [], 0))
    read = _items if by_item else _sums
    async with reporting(running.reads) as connection:
        only = await read_only(connection, given, who)
        try:
            found, end = await read(connection, asked, asked.span, only, given)
        except TooManyGroupsError as error:
            raise _too_many() from error
    return await _spelt(asked, found, line_item_result if by_item else costs_result, end)


async def _sums(
    connection: AsyncConnection, asked: Asked, span: Span, only: Only, _given: Given
) -> tuple[list[Any], int]:
    return await sums_by_bucket(connection, span, group_by=asked.dimensions, only=only, groups_max=RESULTS_MAX)


async def _items(
    connection: AsyncConnection, asked: Asked, span: Span, only: Only, given: Given
) -> tuple[list[Any], int]:
    group_by: list[Any] = [*asked.dimensions, *(("model", "meter") if "line_item" in asked.group_by else ())]
    items = [line_item(name) for name in given.texts("line_items")]
    return await line_items_by_bucket(
        connection, span, group_by=group_by, only=only, items=items, groups_max=RESULTS_MAX
    )


async def _spelt(asked: Asked, found: list[Any], result: Callable[[Asked, Any], dict[str, Any]], end: int) -> ExactJson:
    """Spell a page; a large one in a thread, because megabytes of JSON would hold up everybody's calls."""

    def spell() -> ExactJson:
        return ExactJson(page(asked, [(sums.bucket, result(asked, sums)) for sums in found], end))

    return spell() if len(found) < _LARGE else await asyncio.to_thread(spell)


def _require_kept(asked: Asked, given: Given) -> None:
    """Refuse what line items are not kept by: OpenAI answers 400 to combinations that it cannot serve as well."""
    given_names = [name for name in ("end_user_ids", "tags") if given.texts(name)]
    given_names += [each.name for each in FLAGS if given.flag(each.name)]
    wrong = ["group_by=end_user_id"] if "end_user_id" in asked.group_by else given_names
    if wrong:
        raise bad_request(
            "Line items are not kept by end user, tag or how a call ended: "
            f"leave out {wrong[0]}, or line_item and line_items.",
            param=wrong[0].partition("=")[0],
        )


def _too_many() -> ApiFailure:
    return bad_request(
        f"One bucket has more than {RESULTS_MAX} groups: group by less, or ask for some of them, "
        "for example by api_key_ids or end_user_ids.",
        param="group_by",
    )
