"""HTTP for end users, which LiteLLM calls customers: /customer/info, also /end_user/info."""

from typing import Annotated, Final

from fastapi import APIRouter, Depends, Request

from api.auth import Caller
from api.context import Context, caller, context
from api.errors import not_found
from api.exact_json import ExactJson
from api.routes.key_row import shown_totals
from api.routes.key_shapes import EndUser
from api.routes.parameters import Parameter, Parameters
from api.routes.paths import read_by_get
from api.routes.reading import snapshot
from ledger.reports.keys import end_user_info

router = APIRouter(tags=["customers"])

_INFO: Final = Parameters(
    Parameter("end_user_id", "The end user's name.", ("end_user", "customer_id", "user_id"), is_required=True)
)


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
