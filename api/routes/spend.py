"""HTTP for spend: /spend/logs, call by call, and /global/spend/report, summed by one dimension.

A key reads its own calls, the master key all. Both come from projections of the same events: their sums agree.
"""

from typing import Annotated, Any, Final, get_args

from fastapi import APIRouter, Depends, Request

from api.auth import Caller
from api.context import Context, caller, context
from api.errors import bad_request
from api.exact_json import ExactJson
from api.routes.call_shapes import LogRow
from api.routes.key_changes import names_of
from api.routes.log_row import shown_log_row
from api.routes.parameters import END_DATE, START_DATE, Given, Parameter, Parameters, read_uuid
from api.routes.paths import read_by_get
from api.routes.reading import snapshot
from api.routes.spend_shapes import SpendReport
from ledger.money.exact import plain
from ledger.reports.calls import PAGE_MAX, CursorError, LogFilters, log_page
from ledger.reports.keys import key_id_of
from ledger.reports.spend import GroupBy, SpendFilters, Sums, spend_report
from ledger.reports.tables import TOKENS

router = APIRouter(tags=["spend"])

NEXT_CURSOR: Final = "x-llm-next-cursor"
STATUSES: Final = (
    "in_progress", "completed", "incomplete", "failed", "cancelled", "truncated", "abandoned", "rejected",
)  # fmt: skip
_GROUPS_MAX: Final = 10_000

_FILTERS: Final = (
    Parameter("key_id", "Calls of this key: the key, its hash or its key_id.", ("api_key",)),
    Parameter("user_id", "Calls of this user's keys.", ("internal_user_id", "user")),
    Parameter("end_user", "Calls for this end user; empty: for nobody named.", ("end_user_id", "customer_id")),
    Parameter("model", "Calls that asked for this model.", ("model_group",)),
    Parameter("org", "Calls of this organisation's keys.", ("organization_id",)),
    Parameter("team", "Calls of this team's keys.", ("team_id",)),
    Parameter("tag", "Calls with this tag."),
)
LOGS: Final = Parameters(
    START_DATE,
    END_DATE,
    *_FILTERS,
    Parameter("status", f"Calls in this status: {', '.join(STATUSES)}.", ("status_filter",)),
    Parameter("call_id", "The call of this id, or of this response's id.", ("request_id",)),
    Parameter("response_id", "The calls that this response came from."),
    Parameter("interrupted", "true: calls that were cut, cancelled, abandoned or hung up on."),
    Parameter("unpriced", "true: calls with an unknown cost."),
    Parameter("estimated", "true: calls with an estimated cost."),
    Parameter("limit", f"Calls a page: 1 to {PAGE_MAX}, usually 100.", ("page_size",)),
    Parameter("cursor", f"The page after this one: what the header {NEXT_CURSOR} said."),
    Parameter("summarize", "Only false: sums are what /global/spend/report is for."),
)
_GROUPS: Final[dict[str, GroupBy]] = {
    **{name: name for name in get_args(GroupBy)},
    "api_key": "key",
    "customer": "end_user",
    "organization": "org",
    "internal_user": "user",
}
REPORT: Final = Parameters(
    Parameter("start_date", START_DATE.meaning, is_required=True),
    Parameter("end_date", END_DATE.meaning, is_required=True),
    Parameter("group_by", f"One of {', '.join(_GROUPS)}; usually key."),
    *_FILTERS,
    Parameter("limit", f"Groups at most: 1 to {_GROUPS_MAX}, usually 1000; the most expensive come first."),
)

Running = Annotated[Context, Depends(context)]
Anybody = Annotated[Caller, Depends(caller)]


@read_by_get(router, "/spend/logs", response_model=list[LogRow], openapi_extra=LOGS.openapi)
async def list_calls(request: Request, running: Running, who: Anybody) -> ExactJson:
    """List calls, newest first, as a JSON array; the header x-llm-next-cursor is absent on the last page."""
    given = LOGS.read(request)
    if given.flag("summarize"):
        raise bad_request(
            "Sums are not served here: leave summarize out, or ask /global/spend/report.", param="summarize"
        )
    limit = given.integer("limit", 100, least=1, most=PAGE_MAX)
    filters = _log_filters(given)
    async with snapshot(running.reads) as connection:
        filters["key_id"] = await _key_id(connection, given)
        try:
            page = await log_page(
                connection,
                filters=LogFilters(**filters),
                cursor=given.text("cursor"),
                limit=limit,
                scope=who.scope,
            )
        except CursorError as error:
            raise bad_request(str(error), param="cursor") from error
    headers = {} if page.next_cursor is None else {NEXT_CURSOR: page.next_cursor}
    return ExactJson([shown_log_row(row) for row in page.rows], headers=headers)


def _log_filters(given: Given) -> dict[str, Any]:
    start, end = given.period()
    call_id, response_id = given.text("call_id"), given.text("response_id")
    found = None if call_id is None else read_uuid(call_id)
    if call_id is not None and found is None:
        if response_id is not None or not call_id.startswith("resp_"):
            raise bad_request(f"call_id must be a UUID: got {call_id[:60]!r}.", param="call_id")
        response_id = call_id
    return {
        "start": start,
        "end": end,
        "call_id": found,
        "response_id": response_id,
        "status": given.choice("status", STATUSES),
        **{name: given.flag(name) for name in ("interrupted", "unpriced", "estimated")},
        **_dimensions(given),
    }


def _dimensions(given: Given) -> dict[str, str | None]:
    return {name: given.text(name) for name in ("end_user", "org", "team", "user_id", "model", "tag")}


async def _key_id(connection: Any, given: Given) -> str | None:
    """Return the key_id that a filter means; a key or a hash that nobody has matches nothing."""
    name = given.text("key_id")
    names = {} if name is None else names_of(name)
    if "key_hash" in names:
        return await key_id_of(connection, names["key_hash"]) or f"unknown key {names['key_hash']}"
    return name


@read_by_get(router, "/global/spend/report", response_model=SpendReport, openapi_extra=REPORT.openapi)
async def report_spend(request: Request, running: Running, who: Anybody) -> ExactJson:
    """Sum what calls of a period cost, by one dimension.

    Sums are kept by the hour: `start` and `end` say what was summed.
    """
    given = REPORT.read(request)
    start, end = given.period()
    if start is None or end is None:
        raise bad_request("A report needs start_date and end_date.", param="start_date")
    group_by = _GROUPS[given.choice("group_by", tuple(_GROUPS), "key") or "key"]
    limit = given.integer("limit", 1_000, least=1, most=_GROUPS_MAX)
    async with snapshot(running.reads) as connection:
        named = {"key_id": await _key_id(connection, given), **_dimensions(given)}
        filters = SpendFilters(**{name: (value,) for name, value in named.items() if value is not None})
        report = await spend_report(
            connection,
            start=start,
            end=end,
            group_by=(group_by,),
            filters=filters,
            scope=who.scope,
            groups_max=limit,
        )
    return ExactJson(
        {
            "start": report.start,
            "end": report.end,
            "group_by": group_by,
            "groups": [{group_by: group.names[0], **shown_sums(group.sums)} for group in report.groups],
            "total": shown_sums(report.total),
            "overlapping": report.overlapping,
            "truncated": report.truncated,
        }
    )


def shown_sums(sums: Sums) -> dict[str, Any]:
    """Return sums as answers show them: `spend` a number, as LiteLLM has it; ours are texts, and the unknown apart."""
    return {
        "spend": sums.billed_usd + sums.estimated_usd,
        "billed_usd": plain(sums.billed_usd),
        "estimated_usd": plain(sums.estimated_usd),
        "unknown_calls": sums.unknown_calls,
        "calls": sums.calls,
        "attempts": sums.attempts,
        **{name: getattr(sums, name) for name in TOKENS},
        "total_tokens": sums.input_tokens + sums.output_tokens,
    }
