"""HTTP for the request log: /spend/logs by cursor, /spend/logs/v2 (also /spend/logs/ui) by page, as JSON or CSV.

A key reads its own calls, who may read all, all of them. Sums are in `global_spend.py`, of the same events.
"""

from collections.abc import AsyncGenerator, Iterable
from contextlib import aclosing
from datetime import datetime
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Caller
from api.context import Context, caller, context
from api.errors import bad_request
from api.exact_answer import ExactJson
from api.routes.call_shapes import LogRow, NumberedLog
from api.routes.csv_answer import FORMAT, csv_answer, csv_stream, wants_csv
from api.routes.log_row import LOG_COLUMNS, shown_log_row
from api.routes.parameters import END_DATE, START_DATE, Given, Parameter, Parameters, read_uuid
from api.routes.paths import read_by_get
from api.routes.reading import reporting, streaming
from api.routes.spend_query import (
    FILTERS,
    FLAGS,
    GROUPS_MAX,
    SUM_COLUMNS,
    TRUNCATED,
    day_of,
    dimensions_of,
    filters_of,
    key_id_given,
    shown_sums,
)  # fmt: skip
from ledger.reports.calls import (
    PAGE_MAX,
    ROWS_DEEP_MAX,
    CursorError,
    LogFilters,
    Order,
    log_page,
    log_rows,
    numbered_page,
)  # fmt: skip
from ledger.reports.spend import Group, spend_report

router = APIRouter(tags=["spend"])

NEXT_CURSOR: Final = "x-llm-next-cursor"
#: The last two are LiteLLM's, for several of the others.
STATUSES: Final = (
    "in_progress", "completed", "incomplete", "failed", "cancelled", "truncated", "abandoned", "rejected", "success",
    "failure",
)  # fmt: skip
LOGS: Final = Parameters(
    START_DATE,
    END_DATE,
    *FILTERS,
    FORMAT,
    Parameter("status", f"Calls in this status: {', '.join(STATUSES)}.", ("status_filter",)),
    Parameter("call_id", "The call of this id, or of this response's id.", ("request_id",)),
    Parameter("response_id", "The calls that this response came from."),
    *FLAGS,
    Parameter("limit", f"Calls a page: 1 to {PAGE_MAX}, usually 100.", ("page_size",)),
    Parameter("cursor", f"The page after this one: what the header {NEXT_CURSOR} said."),
    Parameter("summarize", "true: sums of each day instead of calls; start_date and end_date are then required."),
)
NUMBERED: Final = Parameters(
    Parameter("start_date", START_DATE.meaning),
    Parameter("end_date", END_DATE.meaning),
    *FILTERS,
    *FLAGS,
    FORMAT,
    Parameter("status", f"Calls in this status: {', '.join(STATUSES)}.", ("status_filter",)),
    Parameter("call_id", "The call of this id, or of this response's id.", ("request_id",)),
    Parameter("response_id", "The calls that this response came from."),
    Parameter("key_alias", "Calls of the key that had this alias then."),
    Parameter("model_id", "Calls whose last attempt was at this deployment.", ("deployment",)),
    Parameter("error_code", "Calls that ended in this error."),
    Parameter("min_spend", "USD at least, billed and estimated together."),
    Parameter("max_spend", "USD at most, billed and estimated together."),
    Parameter(
        "sort_by", "One of startTime (usually), endTime, spend, total_tokens, request_duration_ms, ttft_ms, model."
    ),
    Parameter("sort_order", "desc (usually) or asc."),
    Parameter("page", f"From 1 on, up to row {ROWS_DEEP_MAX:,} of the whole list."),
    Parameter("page_size", f"Calls a page: 1 to {PAGE_MAX}, usually 50."),
)
_ORDERS: Final[dict[str, Order]] = {
    "startTime": "received_at",
    "endTime": "finished_at",
    "spend": "spend",
    "total_tokens": "tokens",
    "request_duration_ms": "duration_us",
    "ttft_ms": "first_chunk_us",
    "model": "model",
}

Running = Annotated[Context, Depends(context)]
Anybody = Annotated[Caller, Depends(caller)]


@read_by_get(router, "/spend/logs", response_model=list[LogRow], openapi_extra=LOGS.openapi)
async def list_calls(request: Request, running: Running, who: Anybody) -> Response:
    """List calls, newest first, as a JSON array; the header x-llm-next-cursor is absent on the last page."""
    given = LOGS.read(request)
    if given.flag("summarize"):
        return await _days(request, running, who, given)
    if wants_csv(request, given) and given.text("limit") is None and given.text("cursor") is None:
        return await _all_as_csv(running, who, given)
    limit = given.integer("limit", 100, least=1, most=PAGE_MAX)
    async with reporting(running.reads) as connection:
        filters = await _log_filters(connection, given)
        try:
            page = await log_page(
                connection, filters=filters, cursor=given.text("cursor"), limit=limit, scope=who.scope
            )
        except CursorError as error:
            raise bad_request(str(error), param="cursor") from error
    headers = {} if page.next_cursor is None else {NEXT_CURSOR: page.next_cursor}
    rows = [shown_log_row(row) for row in page.rows]
    if wants_csv(request, given):
        return csv_answer("spend-logs", LOG_COLUMNS, rows, headers)
    return ExactJson(rows, headers=headers)


async def _all_as_csv(running: Context, who: Caller, given: Given) -> Response:
    """Stream every call that the filters let through: some hundred rows are held at once, however many there are."""

    async def rows(filters: LogFilters) -> AsyncGenerator[dict[str, Any]]:
        async with (
            streaming(running.reads) as connection,
            aclosing(log_rows(connection, filters=filters, scope=who.scope)) as found,
        ):
            async for row in found:
                yield shown_log_row(row)

    async with reporting(running.reads) as connection:
        filters = await _log_filters(connection, given)
    stream = rows(filters)
    # What is refused is refused before the answer begins.
    first = await anext(stream, None)
    return csv_stream("spend-logs", LOG_COLUMNS, _from(first, stream))


async def _from(first: dict[str, Any] | None, rest: AsyncGenerator[dict[str, Any]]) -> AsyncGenerator[dict[str, Any]]:
    async with aclosing(rest):
        if first is not None:
            yield first
        async for row in rest:
            yield row


async def _days(request: Request, running: Context, who: Caller, given: Given) -> Response:
    """Sum each day, as LiteLLM's summarize does: spend, and spend by model and by user."""
    unfit = [name for name in ("status", "call_id", "response_id", "limit", "cursor") if given.text(name) is not None]
    if unfit:
        raise bad_request(f"{unfit[0]} does not go with summarize: leave it out, or summarize.", param=unfit[0])
    start, end = given.period()
    if start is None or end is None:
        raise bad_request("Sums of days need start_date and end_date.", param="start_date")
    async with reporting(running.reads) as connection:
        filters = await filters_of(connection, given)
        asked: dict[str, Any] = {"start": start, "end": end, "filters": filters, "scope": who.scope, "interval": "day"}
        days = await spend_report(connection, **asked, groups_max=GROUPS_MAX)
        by_model = await spend_report(connection, **asked, group_by=("model",), groups_max=GROUPS_MAX)
        by_user = await spend_report(connection, **asked, group_by=("user",), groups_max=GROUPS_MAX)
    shown = [
        {
            "startTime": day_of(day.bucket),
            **shown_sums(day.sums),
            "models": _spend_on(by_model.groups, day.bucket),
            "users": _spend_on(by_user.groups, day.bucket),
        }
        for day in days.groups
    ]
    headers = {TRUNCATED: "true"} if days.truncated or by_model.truncated or by_user.truncated else {}
    if wants_csv(request, given):
        return csv_answer("spend-days", ("startTime", *SUM_COLUMNS), shown, headers)
    return ExactJson(shown, headers=headers)


def _spend_on(groups: Iterable[Group], bucket: datetime | None) -> dict[str, Any]:
    return {group.names[0]: shown_sums(group.sums)["spend"] for group in groups if group.bucket == bucket}


@read_by_get(router, "/spend/logs/v2", "/spend/logs/ui", response_model=NumberedLog, openapi_extra=NUMBERED.openapi)
async def list_calls_by_page(request: Request, running: Running, who: Anybody) -> Response:
    """List calls by page number, sorted: for people who leaf through. Programs go by the cursor of /spend/logs."""
    given = NUMBERED.read(request)
    size = given.integer("page_size", 50, least=1, most=PAGE_MAX)
    page = given.integer("page", 1, least=1, most=ROWS_DEEP_MAX // size)
    order = _ORDERS[given.choice("sort_by", tuple(_ORDERS), "startTime") or "startTime"]
    descending = given.choice("sort_order", ("asc", "desc"), "desc") == "desc"
    async with reporting(running.reads) as connection:
        filters = await _log_filters(connection, given)
        found = await numbered_page(
            connection, filters=filters, order=order, is_descending=descending, page=page, size=size, scope=who.scope
        )
    rows = [shown_log_row(row) for row in found.rows]
    if wants_csv(request, given):
        return csv_answer("spend-logs", LOG_COLUMNS, rows)
    pages = -(-found.count // size)
    return ExactJson({"data": rows, "total": found.count, "page": page, "page_size": size, "total_pages": pages})


async def _log_filters(connection: AsyncConnection, given: Given) -> LogFilters:
    others: dict[str, Any] = {**{each.name: given.flag(each.name) for each in FLAGS}, **dimensions_of(given)}
    start, end = given.period()
    call_id, response_id = given.text("call_id"), given.text("response_id")
    found = None if call_id is None else read_uuid(call_id)
    if call_id is not None and found is None:
        if response_id is not None or not call_id.startswith("resp_"):
            raise bad_request(f"call_id must be a UUID: got {call_id[:60]!r}.", param="call_id")
        response_id = call_id
    return LogFilters(
        start=start,
        end=end,
        key_id=await key_id_given(connection, given),
        call_id=found,
        response_id=response_id,
        status=given.choice("status", STATUSES),
        least_usd=given.amount("min_spend"),
        most_usd=given.amount("max_spend"),
        key_alias=given.text("key_alias"),
        error_code=given.text("error_code"),
        deployment=given.text("model_id"),
        **others,
    )
