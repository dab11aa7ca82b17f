"""HTTP for sums of spend: /global/spend*, /spend/keys, /spend/users, /spend/tags; as JSON or CSV.

A key is shown sums of its own calls, who may read all, of all calls. Days and outcomes are in `activity.py`, calls in
`spend.py`.
"""

from dataclasses import dataclass
from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Depends, Request, Response

from api.auth import Caller
from api.context import Context, caller, context
from api.errors import bad_request
from api.exact_answer import ExactJson
from api.routes.csv_answer import FORMAT, csv_answer, wants_csv
from api.routes.parameters import END_DATE, START_DATE, Given, Parameter, Parameters
from api.routes.paths import read_by_get
from api.routes.reading import reporting
from api.routes.spend_query import (
    EPOCH,
    FILTERS,
    FLAGS,
    GROUPS,
    GROUPS_MAX,
    SUM_COLUMNS,
    TRUNCATED,
    day_of,
    filters_of,
    period_of,
    shown_sums,
)  # fmt: skip
from api.routes.spend_shapes import (
    DaySpend,
    GlobalSpend,
    RankedSpend,
    SpendReport,
    TagNames,
    TagSpend,
    TeamSpend,
)  # fmt: skip
from ledger.reports.keys import key_names
from ledger.reports.periods import Interval
from ledger.reports.spend import Group, GroupBy, spend_report
from ledger.reports.spend import SpendReport as Sums

router = APIRouter(tags=["spend"])

INTERVALS: Final[tuple[Interval, ...]] = ("hour", "day", "month")
_LIMIT: Final = Parameter("limit", f"Groups at most: 1 to {GROUPS_MAX}, usually 1000; the most expensive come first.")
REPORT: Final = Parameters(
    Parameter("start_date", START_DATE.meaning, is_required=True),
    Parameter("end_date", END_DATE.meaning, is_required=True),
    Parameter(
        "group_by", f"Of {', '.join(GROUPS)}; several with commas between; usually key.", is_list=True, has_commas=True
    ),
    Parameter("interval", f"One of {', '.join(INTERVALS)}; without it, one sum over the period."),
    *FILTERS,
    *FLAGS,
    FORMAT,
    _LIMIT,
)
_PERIOD: Final = (
    Parameter("start_date", START_DATE.meaning),
    Parameter("end_date", END_DATE.meaning),
)
_RANKED: Final = Parameters(*_PERIOD, *FILTERS, *FLAGS, FORMAT, _LIMIT)
_DAYS: Final = Parameters(*_PERIOD, *FILTERS, *FLAGS, FORMAT)
_NONE: Final = Parameters(FORMAT)

Running = Annotated[Context, Depends(context)]
Anybody = Annotated[Caller, Depends(caller)]


@dataclass(frozen=True, slots=True)
class Ranking:
    """A list by one dimension: LiteLLM's name of it, and of how many days where no period is given (None: all time)."""

    group_by: GroupBy
    known_as: str
    days: int | None

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns of its table."""
        names = dict.fromkeys((self.group_by, self.known_as))
        about = ("key_alias", "key_name") if self.group_by == "key" else ()
        return (*names, *about, "total_spend", "log_count", *SUM_COLUMNS)


_KEYS: Final = Ranking("key", "api_key", 30)
_MODELS: Final = Ranking("model", "model", 30)
_END_USERS: Final = Ranking("end_user", "end_user", 30)
_TEAMS: Final = Ranking("team", "team_id", 30)
_TAGS: Final = Ranking("tag", "name", 30)
_ALL_KEYS: Final = Ranking("key", "api_key", None)
_ALL_USERS: Final = Ranking("user", "user_id", None)
_ALL_TAGS: Final = Ranking("tag", "individual_request_tag", None)


@read_by_get(router, "/global/spend/report", response_model=SpendReport, openapi_extra=REPORT.openapi)
async def report_spend(request: Request, running: Running, who: Anybody) -> Response:
    """Sum what calls of a period cost, by dimensions and interval.

    Sums are kept by the hour: `start` and `end` say what was summed.
    """
    given = REPORT.read(request)
    start, end = given.period()
    if start is None or end is None:
        raise bad_request("A report needs start_date and end_date.", param="start_date")
    group_by = _group_by(given)
    interval = cast("Interval | None", given.choice("interval", INTERVALS))
    limit = given.integer("limit", 1_000, least=1, most=GROUPS_MAX)
    async with reporting(running.reads) as connection:
        report = await spend_report(
            connection,
            start=start,
            end=end,
            group_by=group_by,
            interval=interval,
            filters=await filters_of(connection, given),
            scope=who.scope,
            groups_max=limit,
        )
    bucket = ("bucket",) if interval else ()
    groups = [_shown_group(group, group_by) for group in report.groups]
    if wants_csv(request, given):
        return csv_answer("spend-report", (*bucket, *group_by, *SUM_COLUMNS), groups, _said(report))
    return ExactJson(
        {
            "start": report.start,
            "end": report.end,
            "group_by": ",".join(group_by),
            "interval": interval,
            "groups": groups,
            "total": shown_sums(report.total),
            "overlapping": report.overlapping,
            "truncated": report.truncated,
        }
    )


def _group_by(given: Given) -> tuple[GroupBy, ...]:
    asked = given.choices("group_by", tuple(GROUPS)) or ("key",)
    group_by = tuple(GROUPS[name] for name in asked)
    if len(set(group_by)) < len(group_by):
        raise bad_request(f"group_by names a dimension twice: got {', '.join(asked)}.", param="group_by")
    return cast("tuple[GroupBy, ...]", group_by)


def _shown_group(group: Group, group_by: tuple[GroupBy, ...]) -> dict[str, Any]:
    bucket = {} if group.bucket is None else {"bucket": group.bucket}
    return {**bucket, **dict(zip(group_by, group.names, strict=True)), **shown_sums(group.sums)}


def _said(report: Sums) -> dict[str, str]:
    return {TRUNCATED: "true"} if report.truncated else {}


async def _rank(request: Request, running: Context, who: Caller, ranking: Ranking) -> tuple[Given, Sums, list[Any]]:
    """Return what was asked, the report, and its rows."""
    given = _RANKED.read(request)
    start, end = period_of(given, days=ranking.days)
    async with reporting(running.reads) as connection:
        report = await spend_report(
            connection,
            start=start,
            end=end,
            group_by=(ranking.group_by,),
            filters=await filters_of(connection, given),
            scope=who.scope,
            groups_max=given.integer("limit", 1_000, least=1, most=GROUPS_MAX),
        )
        names = [group.names[0] for group in report.groups] if ranking.group_by == "key" else []
        called = await key_names(connection, names)
    rows: list[Any] = []
    for group in report.groups:
        (name,) = group.names
        about = dict(zip(("key_alias", "key_name"), called.get(name, ("", "")), strict=True)) if names else {}
        sums = shown_sums(group.sums)
        shown = {ranking.group_by: name, ranking.known_as: name, **about}
        rows.append({**shown, "total_spend": sums["spend"], "log_count": sums["calls"], **sums})
    return given, report, rows


async def _ranked(request: Request, running: Context, who: Caller, ranking: Ranking, name: str) -> Response:
    given, report, rows = await _rank(request, running, who, ranking)
    if wants_csv(request, given):
        return csv_answer(name, ranking.columns, rows, _said(report))
    return ExactJson(rows, headers=_said(report))


@read_by_get(router, "/global/spend/keys", response_model=list[RankedSpend], openapi_extra=_RANKED.openapi)
async def rank_keys(request: Request, running: Running, who: Anybody) -> Response:
    """List keys by what they spent: in the last 30 days, where no period is given."""
    return await _ranked(request, running, who, _KEYS, "spend-keys")


@read_by_get(router, "/global/spend/models", response_model=list[RankedSpend], openapi_extra=_RANKED.openapi)
async def rank_models(request: Request, running: Running, who: Anybody) -> Response:
    """List models by what was spent on them: in the last 30 days, where no period is given."""
    return await _ranked(request, running, who, _MODELS, "spend-models")


@read_by_get(router, "/global/spend/end_users", response_model=list[RankedSpend], openapi_extra=_RANKED.openapi)
async def rank_end_users(request: Request, running: Running, who: Anybody) -> Response:
    """List end users by what was spent for them: in the last 30 days, where no period is given."""
    return await _ranked(request, running, who, _END_USERS, "spend-end-users")


@read_by_get(router, "/spend/keys", response_model=list[RankedSpend], openapi_extra=_RANKED.openapi)
async def list_keys_by_spend(request: Request, running: Running, who: Anybody) -> Response:
    """List keys by what they spent: ever, where no period is given."""
    return await _ranked(request, running, who, _ALL_KEYS, "spend-keys")


@read_by_get(router, "/spend/users", response_model=list[RankedSpend], openapi_extra=_RANKED.openapi)
async def list_users_by_spend(request: Request, running: Running, who: Anybody) -> Response:
    """List users by what their keys spent: ever, where no period is given."""
    return await _ranked(request, running, who, _ALL_USERS, "spend-users")


@read_by_get(router, "/spend/tags", response_model=list[RankedSpend], openapi_extra=_RANKED.openapi)
async def list_tags_by_spend(request: Request, running: Running, who: Anybody) -> Response:
    """List tags by what calls with them cost: ever, where no period is given. Tags overlap: do not add them up."""
    return await _ranked(request, running, who, _ALL_TAGS, "spend-tags")


@read_by_get(router, "/global/spend/tags", response_model=TagSpend, openapi_extra=_RANKED.openapi)
async def rank_tags(request: Request, running: Running, who: Anybody) -> Response:
    """List tags by what calls with them cost: in the last 30 days, where no period is given."""
    given, report, rows = await _rank(request, running, who, _TAGS)
    if wants_csv(request, given):
        return csv_answer("spend-tags", _TAGS.columns, rows, _said(report))
    return ExactJson({"spend_per_tag": rows}, headers=_said(report))


@read_by_get(router, "/global/spend/all_tag_names", response_model=TagNames, openapi_extra=_RANKED.openapi)
async def list_tag_names(request: Request, running: Running, who: Anybody) -> Response:
    """List the tags that calls had: ever, where no period is given."""
    given, report, rows = await _rank(request, running, who, _ALL_TAGS)
    names = sorted(row["tag"] for row in rows)
    if wants_csv(request, given):
        return csv_answer("tags", ("tag",), [{"tag": name} for name in names], _said(report))
    return ExactJson({"tag_names": names}, headers=_said(report))


@read_by_get(router, "/global/spend/teams", response_model=TeamSpend, openapi_extra=_RANKED.openapi)
async def rank_teams(request: Request, running: Running, who: Anybody) -> Response:
    """List teams by what their keys spent, and by day: in the last 30 days, where no period is given."""
    given, report, rows = await _rank(request, running, who, _TEAMS)
    if wants_csv(request, given):
        return csv_answer("spend-teams", _TEAMS.columns, rows, _said(report))
    start, end = period_of(given, days=_TEAMS.days)
    async with reporting(running.reads) as connection:
        by_day = await spend_report(
            connection,
            start=start,
            end=end,
            group_by=("team",),
            interval="day",
            filters=await filters_of(connection, given),
            scope=who.scope,
            groups_max=GROUPS_MAX,
        )
    days: dict[str, dict[str, Any]] = {}
    for group in by_day.groups:
        day = day_of(group.bucket)
        days.setdefault(day, {"date": day})[group.names[0] or "(none)"] = shown_sums(group.sums)["spend"]
    shown = {"daily_spend": [*days.values()], "teams": [row["team"] for row in rows], "total_spend_per_team": rows}
    return ExactJson(shown, headers=_said(report) | _said(by_day))


@read_by_get(router, "/global/spend/provider", response_model=list[RankedSpend], openapi_extra=_DAYS.openapi)
async def list_providers(request: Request, running: Running, who: Anybody) -> Response:
    """Sum what was spent at OpenAI, which is the only provider here: in the last 30 days, where no period is given."""
    given, report = await _sum(request, running, who, days=30)
    sums = shown_sums(report.total)
    row = {"provider": "openai", "total_spend": sums["spend"], "log_count": sums["calls"], **sums}
    if wants_csv(request, given):
        return csv_answer("spend-providers", tuple(row), [row])
    return ExactJson([row])


@read_by_get(router, "/global/spend/logs", response_model=list[DaySpend], openapi_extra=_DAYS.openapi)
async def list_days(request: Request, running: Running, who: Anybody) -> Response:
    """Sum each day: of the last 30, where no period is given. Days without a call are not listed."""
    given, report = await _sum(request, running, who, days=30, interval="day")
    rows = [{"date": day_of(group.bucket), **shown_sums(group.sums)} for group in report.groups]
    if wants_csv(request, given):
        return csv_answer("spend-days", ("date", *SUM_COLUMNS), rows, _said(report))
    return ExactJson(rows, headers=_said(report))


@read_by_get(router, "/global/spend", response_model=GlobalSpend, openapi_extra=_NONE.openapi)
async def sum_everything(request: Request, running: Running, who: Anybody) -> Response:
    """Sum everything that was ever spent."""
    given = _NONE.read(request)
    start, end = EPOCH, period_of(given, days=None)[1]
    async with reporting(running.reads) as connection:
        report = await spend_report(connection, start=start, end=end, scope=who.scope)
    row = {**shown_sums(report.total), "max_budget": None}
    return csv_answer("spend", SUM_COLUMNS, [row]) if wants_csv(request, given) else ExactJson(row)


async def _sum(
    request: Request, running: Context, who: Caller, *, days: int, interval: Interval | None = None
) -> tuple[Given, Sums]:
    given = _DAYS.read(request)
    start, end = period_of(given, days=days)
    async with reporting(running.reads) as connection:
        filters = await filters_of(connection, given)
        report = await spend_report(
            connection,
            start=start,
            end=end,
            interval=interval,
            filters=filters,
            scope=who.scope,
            groups_max=GROUPS_MAX,
        )
    return given, report
