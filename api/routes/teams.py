"""HTTP for teams: /team/new, update, delete, info, list. A team is for booking and listing, and can be blocked.

Changes are an administrator's (`team_changes.py`); a key sees the team that it belongs to.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Depends, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Caller
from api.context import Context, admin, caller, context, reader
from api.errors import bad_request, not_found
from api.exact_answer import ExactJson
from api.routes import team_changes
from api.routes.field_values import read_texts, unknown_field
from api.routes.key_row import shown_key
from api.routes.parameters import Parameter, Parameters
from api.routes.paths import read_by_get
from api.routes.reading import snapshot
from api.routes.request_body import read_object
from api.routes.shapes import takes
from api.routes.team_shapes import DeletedTeams, TeamInfo, TeamNames, TeamPage, TeamShape, TeamWishShape
from ledger.money.exact import plain
from ledger.reports.keys import KeyFilters, key_list
from ledger.reports.spend import SpendFilters, spend_report
from ledger.reports.teams import team_info, team_list

router = APIRouter(tags=["teams"])

_PAGE_MAX: Final = 1_000
_OFFSET_MAX: Final = 1_000_000
_MANY_MAX: Final = 100
#: Nothing was booked before.
_BEGINNING: Final = datetime(2020, 1, 1, tzinfo=UTC)

Running = Annotated[Context, Depends(context)]
Administrator = Annotated[Caller, Depends(admin)]
Reader = Annotated[Caller, Depends(reader)]
Anybody = Annotated[Caller, Depends(caller)]

_INFO: Final = Parameters(
    Parameter("team_id", "The team; without it: the team of the key that asks.", ("team",)),
)
_LIST: Final = Parameters(
    Parameter("page", "From 1."),
    Parameter("size", f"Teams a page: 1 to {_PAGE_MAX}, usually 100.", ("page_size",)),
    Parameter("search", "Teams with this text in their id, alias or organisation."),
)


@router.post("/team/new", response_model=TeamShape, openapi_extra=takes(TeamWishShape))
async def new_team(request: Request, running: Running, who: Administrator) -> ExactJson:
    """Create a team, or give a name that keys have already what belongs to a team."""
    team_id, given = team_changes.read_team(await read_object(request))
    return ExactJson(await _shown(running, await team_changes.create(running.teams, who, team_id, given)))


@router.post("/team/update", response_model=TeamShape, openapi_extra=takes(TeamWishShape))
async def update_team(request: Request, running: Running, who: Administrator) -> ExactJson:
    """Change fields of a team: what is absent stays, null resets."""
    team_id, given = team_changes.read_team(await read_object(request))
    if not team_id:
        raise bad_request("Send team_id: which team to change.", param="team_id", code="missing_required_parameter")
    await team_changes.update(running.teams, who, team_id, given)
    return ExactJson(await _shown(running, team_id))


@router.post("/team/delete", response_model=DeletedTeams, openapi_extra=takes(TeamNames))
async def delete_teams(request: Request, running: Running, who: Administrator) -> ExactJson:
    """Delete teams that have no key left; body: {"team_ids": [...]}."""
    body = await read_object(request)
    for name in body:
        if name != "team_ids":
            raise unknown_field(name, {"team_ids"})
    team_ids = read_texts(body.get("team_ids"), "team_ids", _MANY_MAX)
    await team_changes.delete(running.teams, who, team_ids)
    return ExactJson({"deleted_teams": team_ids})


@read_by_get(router, "/team/info", response_model=TeamInfo, openapi_extra=_INFO.openapi)
async def get_team_info(request: Request, running: Running, who: Anybody) -> ExactJson:
    """Return a team with what was booked to it over all time, and its keys; a key sees its own team and itself."""
    team_id = _INFO.read(request).text("team_id") or who.team
    if not team_id:
        message = "This key belongs to no team: say which one by team_id."
        raise bad_request(message, param="team_id", code="missing_required_parameter")
    if not (who.may_read_all or team_id == who.team):
        raise _unknown(team_id)
    async with snapshot(running.reads) as connection:
        row = await team_info(connection, team_id)
        if row is None:
            raise _unknown(team_id)
        filters = KeyFilters(team=team_id)
        keys = await key_list(connection, filters=filters, size=_PAGE_MAX, scope=who.scope)
        spent = await _spent(connection, team_id, who.scope)
    shown = {**_team(row), **spent}
    return ExactJson({"team_id": team_id, "team_info": shown, "keys": [shown_key(each) for each in keys.rows]})


@read_by_get(router, "/team/list", response_model=TeamPage, openapi_extra=_LIST.openapi)
async def list_teams(request: Request, running: Running, _who: Reader) -> ExactJson:
    """List teams by id: those that were created, and those that exist as names on keys only (`is_created` false)."""
    given = _LIST.read(request)
    size = given.integer("size", 100, least=1, most=_PAGE_MAX)
    page = given.integer("page", 1, least=1, most=_OFFSET_MAX)
    async with snapshot(running.reads) as connection:
        found = await team_list(connection, search=given.text("search") or None, page=page, size=size)
    pages = {"total_count": found.count, "current_page": page, "total_pages": -(-found.count // size)}
    return ExactJson({"teams": [_team(row) for row in found.rows], **pages})


async def _shown(running: Context, team_id: str) -> dict[str, Any]:
    async with snapshot(running.reads) as connection:
        row = await team_info(connection, team_id)
    if row is None:
        raise _unknown(team_id)
    return _team(row)


async def _spent(connection: AsyncConnection, team_id: str, scope: str | None) -> dict[str, Any]:
    report = await spend_report(
        connection, start=_BEGINNING, end=datetime.now(UTC), filters=SpendFilters(team=(team_id,)), scope=scope
    )
    total = report.total
    return {
        "spend": total.billed_usd + total.estimated_usd,
        "billed_usd": plain(total.billed_usd),
        "estimated_usd": plain(total.estimated_usd),
        "unknown_calls": total.unknown_calls,
        "calls": total.calls,
    }


def _team(row: dict[str, Any]) -> dict[str, Any]:
    names = {name: row[name] or "" for name in ("team_id", "team_alias", "org")}
    return {
        **names,
        "organization_id": names["org"] or None,
        "metadata": cast("dict[str, Any] | None", row["metadata"]) or {},
        "blocked": bool(row["blocked"]),
        "is_created": row["is_created"],
        "key_count": row["keys"],
        "created_at": row["created_at"],
        "created_by": row["created_by"] or "",
        "updated_at": row["changed_at"],
        "updated_by": row["changed_by"] or "",
        "revision": row["revision"] or 0,
    }


def _unknown(team_id: str) -> Exception:
    return not_found(f"There is no team {team_id[:80]!r}.", "team_not_found", "team_id")
