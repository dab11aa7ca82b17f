"""HTTP for what happened by day: /global/activity, and /user, /team, /tag, /organization, /customer .../daily/activity.

Requests that succeeded and failed come from the log (`ledger/reports/ends.py`), money and tokens from spend: a call
that costs nothing is a request all the same. As LiteLLM has it, with the unknown counted beside.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Caller
from api.context import Context, caller, context
from api.errors import ApiFailure, bad_request
from api.exact_answer import ExactJson
from api.routes.csv_answer import FORMAT, csv_answer, wants_csv
from api.routes.parameters import END_DATE, START_DATE, Given, Parameter, Parameters
from api.routes.paths import read_by_get
from api.routes.reading import reporting
from api.routes.spend_query import FILTERS, FLAGS, GROUPS_MAX, day_of, filters_of, key_ids_given, period_of
from api.routes.spend_shapes import Activity, DailyActivity, ModelActivity
from ledger.money.exact import plain
from ledger.reports.ends import Ends, ends_report
from ledger.reports.keys import key_names
from ledger.reports.spend import GroupBy, SpendFilters, Sums, spend_report

router = APIRouter(tags=["activity"])

PAGE_DAYS_MAX: Final = 366
_PERIOD: Final = (Parameter("start_date", START_DATE.meaning), Parameter("end_date", END_DATE.meaning))
_ACTIVITY: Final = Parameters(*_PERIOD, *FILTERS, *FLAGS, FORMAT)

Running = Annotated[Context, Depends(context)]
Anybody = Annotated[Caller, Depends(caller)]
#: Day and names of a group.
Place = tuple[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Happened:
    """What was spent, and how calls ended."""

    sums: Sums
    ends: Ends


@dataclass(frozen=True, slots=True)
class Asked:
    """A period, its filters and the key that everything is narrowed to."""

    start: datetime
    end: datetime
    filters: SpendFilters
    scope: str | None


_NOTHING: Final = Happened(Sums(), Ends())


async def _happened(
    connection: AsyncConnection, asked: Asked, *group_by: GroupBy
) -> tuple[dict[Place, Happened], Happened]:
    """Return what happened by day and names, and in all.

    Raises:
        ApiFailure: 400 for more than GROUPS_MAX groups: a part of them would look like the whole.
    """
    common: dict[str, Any] = {
        "start": asked.start, "end": asked.end, "filters": asked.filters, "scope": asked.scope, "interval": "day",
        "group_by": group_by,
    }  # fmt: skip
    spent = await spend_report(connection, **common, groups_max=GROUPS_MAX)
    ended = await ends_report(connection, **common, groups_max=GROUPS_MAX + 1)
    if spent.truncated or len(ended.groups) > GROUPS_MAX:
        raise _too_many(group_by)
    sums = {(day_of(group.bucket), group.names): group.sums for group in spent.groups}
    ends = {(day_of(bucket), names): count for (bucket, names), count in ended.groups.items()}
    places = sorted({*sums, *ends})
    found = {place: Happened(sums.get(place, Sums()), ends.get(place, Ends())) for place in places}
    return found, Happened(spent.total, ended.total)


def _too_many(group_by: Iterable[str]) -> ApiFailure:
    """400: a report of more days and names than one answer holds; to ask again would be of no use."""
    names = ", ".join(group_by)
    return bad_request(
        f"There are more than {GROUPS_MAX} days and names ({names}); ask for a shorter period or fewer names.",
        param="start_date",
    )


def _day(day: str, happened: Happened) -> dict[str, Any]:
    return {
        "date": day,
        "api_requests": happened.ends.calls,
        "successful_requests": happened.ends.succeeded,
        "failed_requests": happened.ends.failed,
        "total_tokens": happened.sums.input_tokens + happened.sums.output_tokens,
        "spend": happened.sums.billed_usd + happened.sums.estimated_usd,
        "billed_usd": plain(happened.sums.billed_usd),
        "estimated_usd": plain(happened.sums.estimated_usd),
        "unknown_calls": happened.sums.unknown_calls,
    }


_DAY_COLUMNS: Final = tuple(_day("", _NOTHING))
_SUMMED: Final = (
    "api_requests", "successful_requests", "failed_requests", "total_tokens", "spend", "unknown_calls",
)  # fmt: skip


def _activity(days: list[dict[str, Any]]) -> dict[str, Any]:
    return {"daily_data": days, **{f"sum_{name}": sum(day[name] for day in days) for name in _SUMMED}}


async def _asked(connection: AsyncConnection, given: Given, who: Caller) -> Asked:
    start, end = period_of(given, days=30)
    return Asked(start, end, await filters_of(connection, given), who.scope)


@read_by_get(router, "/global/activity", response_model=Activity, openapi_extra=_ACTIVITY.openapi)
async def list_activity(request: Request, running: Running, who: Anybody) -> Response:
    """Count requests, tokens and spend of each day: of the last 30, where no period is given."""
    given = _ACTIVITY.read(request)
    async with reporting(running.reads) as connection:
        found, _ = await _happened(connection, await _asked(connection, given, who))
    days = [_day(day, happened) for (day, _), happened in found.items()]
    if wants_csv(request, given):
        return csv_answer("activity", _DAY_COLUMNS, days)
    return ExactJson(_activity(days))


@read_by_get(router, "/global/activity/model", response_model=list[ModelActivity], openapi_extra=_ACTIVITY.openapi)
async def list_activity_of_models(request: Request, running: Running, who: Anybody) -> Response:
    """Count requests, tokens and spend of each model and day: of the last 30, where no period is given."""
    given = _ACTIVITY.read(request)
    async with reporting(running.reads) as connection:
        found, _ = await _happened(connection, await _asked(connection, given, who), "model")
    models: dict[str, list[dict[str, Any]]] = {}
    for (day, (model,)), happened in found.items():
        models.setdefault(model, []).append(_day(day, happened))
    if wants_csv(request, given):
        rows = [{"model": model, **day} for model, days in sorted(models.items()) for day in days]
        return csv_answer("activity-models", ("model", *_DAY_COLUMNS), rows)
    return ExactJson([{"model": model, **_activity(days)} for model, days in sorted(models.items())])


@dataclass(frozen=True, slots=True)
class Entity:
    """Whose daily activity a route shows: its dimension, the parameter that lists ids, and its path."""

    group_by: GroupBy
    ids: str
    path: str
    others: tuple[str, ...] = ()

    @property
    def parameters(self) -> Parameters:
        """What the route takes."""
        return Parameters(
            *_PERIOD,
            # What people call themselves may contain commas.
            Parameter(self.ids, "Only these; may be repeated; usually all.", (self.ids.removesuffix("s"),),
                      is_list=True, has_commas=self.group_by != "end_user"),
            Parameter("key_id", "Calls of this key: the key, its hash or its key_id.", ("api_key",)),
            Parameter("model", "Calls that asked for this model.", ("model_group",)),
            *FLAGS,
            FORMAT,
            Parameter("page", "From 1 on."),
            Parameter("page_size", f"Days a page: 1 to {PAGE_DAYS_MAX}, usually 10; the latest come first."),
        )  # fmt: skip


ENTITIES: Final = (
    Entity("user", "user_ids", "/user/daily/activity"),
    Entity("team", "team_ids", "/team/daily/activity"),
    Entity("org", "organization_ids", "/organization/daily/activity"),
    Entity("tag", "tags", "/tag/daily/activity"),
    Entity("end_user", "end_user_ids", "/customer/daily/activity", ("/end_user/daily/activity",)),
)
_FILTER_OF: Final = {"user": "user_id", "team": "team", "org": "org", "tag": "tag", "end_user": "end_user"}


def _metrics(happened: Happened) -> dict[str, Any]:
    sums, ends = happened.sums, happened.ends
    return {
        "spend": sums.billed_usd + sums.estimated_usd,
        "billed_usd": plain(sums.billed_usd),
        "estimated_usd": plain(sums.estimated_usd),
        "unknown_calls": sums.unknown_calls,
        "prompt_tokens": sums.input_tokens,
        "completion_tokens": sums.output_tokens,
        "cache_read_input_tokens": sums.cached_tokens,
        "cache_creation_input_tokens": sums.cache_write_tokens,
        "reasoning_tokens": sums.reasoning_tokens,
        "total_tokens": sums.input_tokens + sums.output_tokens,
        "api_requests": ends.calls,
        "successful_requests": ends.succeeded,
        "failed_requests": ends.failed,
    }


_METRICS: Final = tuple(_metrics(_NOTHING))


@dataclass(frozen=True, slots=True)
class _Page:
    """The days of one page, the latest first; its number, from 1, and how many pages there are."""

    days: list[str]
    number: int
    count: int

    @staticmethod
    def of(given: Given, days: list[str], *, is_paged: bool) -> "_Page":
        size = given.integer("page_size", 10, least=1, most=PAGE_DAYS_MAX) if is_paged else max(1, len(days))
        number = given.integer("page", 1, least=1, most=1_000_000) if is_paged else 1
        return _Page(days[(number - 1) * size : number * size], number, max(1, -(-len(days) // size)))

    def narrowed(self, asked: Asked) -> Asked:
        """Return what is asked, of these days only."""
        if not self.days:
            return asked
        first, last = (datetime.fromisoformat(f"{day}T00:00:00Z") for day in (self.days[-1], self.days[0]))
        return replace(asked, start=max(asked.start, first), end=min(asked.end, last + timedelta(days=1)))


async def _daily(request: Request, running: Context, who: Caller, entity: Entity, *, is_paged: bool = True) -> Response:
    given = entity.parameters.read(request)
    start, end = period_of(given, days=30)
    async with reporting(running.reads) as connection:
        key_ids = await key_ids_given(connection, given)
        filters: dict[str, Any] = {
            "key_id": key_ids,
            "model": None if given.text("model") is None else (given.text("model"),),
        }
        filters[_FILTER_OF[entity.group_by]] = given.texts(entity.ids) or None
        filters |= {each.name: given.flag(each.name) for each in FLAGS}
        asked = Asked(start, end, SpendFilters(**filters), who.scope)
        by_day, total = await _happened(connection, asked)
        page = _Page.of(given, sorted((day for day, _ in by_day), reverse=True), is_paged=is_paged)
        if not wants_csv(request, given):
            asked = page.narrowed(asked)
        by_entity, _ = await _happened(connection, asked, entity.group_by)
        if entity.group_by == "tag" and filters["tag"] is not None:
            # What has a tag may have others.
            by_entity = {place: each for place, each in by_entity.items() if place[1][0] in filters["tag"]}
        if wants_csv(request, given):
            rows = [
                {"date": day, entity.group_by: name, **_metrics(each)} for (day, (name,)), each in by_entity.items()
            ]
            return csv_answer("daily-activity", ("date", entity.group_by, *_METRICS), rows)
        by_model, _ = await _happened(connection, asked, "model")
        by_key, _ = await _happened(connection, asked, "key")
        called = await key_names(connection, {names[0] for _, names in by_key})

    def about_key(name: str) -> dict[str, Any]:
        return {"key_alias": called.get(name, ("", ""))[0]}

    def breakdown(day: str) -> dict[str, Any]:
        models = _named(by_model, day)
        return {
            "models": models,
            # LiteLLM's: what clients ask for is a group of deployments; there is one provider; tools are no servers.
            "model_groups": models,
            "providers": {"openai": {"metrics": _metrics(by_day[day, ()]), "metadata": {}}},
            "mcp_servers": {},
            "api_keys": _named(by_key, day, about_key),
            "entities": _named(by_entity, day),
        }

    results = [{"date": day, "metrics": _metrics(by_day[day, ()]), "breakdown": breakdown(day)} for day in page.days]
    return ExactJson({"results": results, "metadata": _metadata(total, page.number, page.count)})


def _named(
    found: dict[Place, Happened], day: str, about: Callable[[str], dict[str, Any]] = lambda _: {}
) -> dict[str, Any]:
    return {
        names[0]: {"metrics": _metrics(happened), "metadata": about(names[0])}
        for (at, names), happened in found.items()
        if at == day
    }


def _metadata(total: Happened, page: int, pages: int) -> dict[str, Any]:
    metrics = _metrics(total)
    del metrics["reasoning_tokens"]
    tokens = metrics.pop("total_tokens")
    sums = {f"total_{name}": value for name, value in metrics.items()}
    return {**sums, "total_tokens": tokens, "page": page, "total_pages": pages, "has_more": page < pages}


def _serve(entity: Entity) -> None:
    @read_by_get(
        router, entity.path, *entity.others, response_model=DailyActivity, openapi_extra=entity.parameters.openapi,
        operation_id=f"daily_activity_by_{entity.group_by}",
    )  # fmt: skip
    async def list_daily_activity(request: Request, running: Running, who: Anybody) -> Response:  # pyright: ignore[reportUnusedFunction] - registered by its decorator
        """Sum requests, tokens and spend of each day, by model, key and entity: of the last 30 days, usually."""
        return await _daily(request, running, who, entity)


for _each in ENTITIES:
    _serve(_each)


@read_by_get(
    router,
    "/user/daily/activity/aggregated",
    response_model=DailyActivity,
    openapi_extra=ENTITIES[0].parameters.openapi,
)
async def list_daily_activity_of_users(request: Request, running: Running, who: Anybody) -> Response:
    """Sum as /user/daily/activity does, all days on one page."""
    return await _daily(request, running, who, ENTITIES[0], is_paged=False)
