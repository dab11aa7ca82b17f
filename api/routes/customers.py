"""HTTP for end users, which LiteLLM calls customers: /customer/info, also /end_user/info."""

from typing import Annotated, Final
from urllib.parse import quote, unquote

from fastapi import APIRouter, Depends, Request, Response

from api.auth import Caller
from api.context import Context, caller, context
from api.errors import not_found
from api.exact_answer import ExactJson
from api.routes.csv_answer import FORMAT, csv_answer, wants_csv
from api.routes.key_row import shown_totals
from api.routes.key_shapes import EndUser
from api.routes.parameters import Parameter, Parameters
from api.routes.paths import read_by_get
from api.routes.reading import reporting, snapshot
from ledger.reports.keys import PAGE_MAX, Totals, end_user_info, end_user_list

router = APIRouter(tags=["customers"])

_NEXT_CURSOR: Final = "x-llm-next-cursor"

_INFO: Final = Parameters(
    Parameter("end_user_id", "The end user's name.", ("end_user", "customer_id", "user_id"), is_required=True)
)
_LIST: Final = Parameters(
    Parameter("limit", f"End users a page: 1 to {PAGE_MAX}, usually 1000."),
    Parameter("cursor", f"The page after this one: what the header {_NEXT_CURSOR} said."),
    FORMAT,
)
_COLUMNS: Final = tuple(shown_totals(Totals()))


@read_by_get(router, "/customer/list", "/end_user/list", response_model=list[EndUser], openapi_extra=_LIST.openapi)
async def list_end_users(
    request: Request, running: Annotated[Context, Depends(context)], who: Annotated[Caller, Depends(caller)]
) -> Response:
    """List end users by name, with what was spent for each over all time; for a virtual key: through this key.

    The header x-llm-next-cursor is absent on the last page.
    """
    given = _LIST.read(request)
    cursor = given.text("cursor")
    limit = given.integer("limit", 1_000, least=1, most=PAGE_MAX)
    async with reporting(running.reads) as connection:
        rows = await end_user_list(
            connection, after=None if cursor is None else unquote(cursor), limit=limit + 1, scope=who.scope
        )
    headers = {_NEXT_CURSOR: quote(rows[limit - 1][0])} if len(rows) > limit else {}
    shown = [{"user_id": name, "end_user": name, **shown_totals(totals)} for name, totals in rows[:limit]]
    if wants_csv(request, given):
        return csv_answer("customers", ("end_user", *_COLUMNS), shown, headers)
    return ExactJson(shown, headers=headers)


@read_by_get(router, "/customer/info", "/end_user/info", response_model=EndUser, openapi_extra=_INFO.openapi)
async def get_end_user(
    request: Request, running: Annotated[Context, Depends(context)], who: Annotated[Caller, Depends(caller)]
) -> ExactJson:
    """Return what was spent for an end user over all time; for a virtual key: through this key."""
    end_user = _INFO.read(request).text("end_user_id") or ""
    async with snapshot(running.reads) as connection:
        totals = await end_user_info(connection, end_user, scope=who.scope)
    if totals is None:
        raise not_found(f"There is no end user {end_user[:80]!r}.", "end_user_not_found", "end_user_id")
    return ExactJson({"user_id": end_user, "end_user": end_user, **shown_totals(totals)})
