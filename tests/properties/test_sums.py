"""The sum over rows is every total: on every route of reports, as JSON and as CSV, in every view, whatever the book."""

import asyncio
import csv
import io
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import timedelta
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from fastapi.routing import APIRoute
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from api.web import _routers
from tests.support.book import START, Event, open_journals, random_book, write
from tests.support.plain_fold import plain_calls, plain_spend
from tests.support.routes import Proxy, numbers_of, proxy_at

#: Holds every call of the books below.
PERIOD = {"start_date": "2026-01-01", "end_date": "2026-12-31"}

Json = Any
Rows = list[dict[str, Any]]


def _itself(answer: Json) -> Rows:
    return answer


def _under(name: str) -> Callable[[Json], Rows]:
    return lambda answer: answer[name]


def _sole(answer: Json) -> Rows:
    return [answer]


def _of_models(answer: Json) -> Rows:
    return [day for model in answer for day in model["daily_data"]]


def _metrics(answer: Json) -> Rows:
    return [day["metrics"] for day in answer["results"]]


@dataclass(frozen=True)
class Report:
    """A route, how its rows are found, and whether each call is in one row (else in one for each of its tags)."""

    path: str
    rows: Callable[[Json], Rows]
    query: tuple[tuple[str, str], ...] = ()
    has_period: bool = True
    overlaps: bool = False
    #: The rows of its table, where it has one that adds up.
    has_table: bool = True


def _daily(path: str, *, overlaps: bool = False) -> Report:
    # By day each call counts once, by tag once for each.
    return Report(path, _metrics, (("page_size", "366"),), has_table=not overlaps)


REPORTS = (
    Report("/spend/logs", _itself, (("limit", "1000"),)),
    Report("/spend/logs", _itself, (("summarize", "true"),)),
    Report("/spend/logs/v2", _under("data"), (("page_size", "1000"), ("sort_by", "spend"))),
    Report("/spend/keys", _itself),
    Report("/spend/keys", _itself, has_period=False),
    Report("/spend/users", _itself),
    Report("/spend/tags", _itself, overlaps=True),
    Report("/global/spend", _sole, has_period=False),
    Report("/global/spend/logs", _itself),
    Report("/global/spend/keys", _itself),
    Report("/global/spend/models", _itself),
    Report("/global/spend/end_users", _itself),
    Report("/global/spend/teams", _under("total_spend_per_team")),
    Report("/global/spend/tags", _under("spend_per_tag"), overlaps=True),
    Report("/global/spend/provider", _itself),
    Report("/global/activity", _under("daily_data")),
    Report("/global/activity/model", _of_models),
    _daily("/user/daily/activity"),
    Report("/user/daily/activity/aggregated", _metrics),
    _daily("/team/daily/activity"),
    _daily("/organization/daily/activity"),
    _daily("/customer/daily/activity"),
    _daily("/tag/daily/activity", overlaps=True),
    Report("/customer/list", _itself, has_period=False),
    *(
        Report("/global/spend/report", _under("groups"), (("group_by", by), *more), overlaps="tag" in by)
        for by in (
            "key",
            "end_user",
            "model",
            "team",
            "tag",
            "org",
            "user",
            "deployment",
            "tier",
            "team,model",
            "tag,key",
        )
        for more in ((), (("interval", "day"), ("limit", "10000")), (("interval", "month"),))
    ),
)
#: Routes that show no sums of many calls, or that other tests hold.
OTHERS = {
    "/spend/calculate", "/global/spend/all_tag_names", "/customer/info", "/end_user/info", "/end_user/list",
    "/end_user/daily/activity", "/spend/logs/ui",
}  # fmt: skip
VIEWS = {
    "calls": "unknown_costs", "costs": "unknown", "spend_hourly": "unknown_calls", "spend_daily": "unknown_calls",
    "spend_by_key": "unknown_calls", "spend_by_end_user": "unknown_calls",
}  # fmt: skip


def test_every_route_of_reports_is_held_here() -> None:
    paths = {route.path for router in _routers() for route in router.routes if isinstance(route, APIRoute)}
    reports = {
        path
        for path in paths
        if path.startswith(("/spend", "/global", "/customer", "/end_user"))
        or path.endswith(("/activity", "aggregated"))
    }
    assert reports == {report.path for report in REPORTS} | OTHERS


Total = tuple[Decimal, Decimal, int]


def _total(rows: Iterable[dict[str, Any]], unknown: str = "unknown_calls") -> Total:
    rows = [{"unknown_calls": row.get("unknown_costs"), **row} if unknown not in row else row for row in rows]
    return (
        sum((Decimal(row["billed_usd"]) for row in rows), Decimal(0)),
        sum((Decimal(row["estimated_usd"]) for row in rows), Decimal(0)),
        sum(int(row[unknown]) for row in rows),
    )


def _due(events: list[Event], *, by_tag: bool) -> Total:
    rows = [
        (row, len(place[9]) if by_tag else 1)  # pyright: ignore[reportArgumentType] - the tags
        for place, row in plain_spend(events).items()
    ]
    return tuple(sum((row[n] * times for row, times in rows), Decimal(0)) for n in (7, 8, 9))  # pyright: ignore[reportReturnType] - three of them


async def _check(proxy: Proxy, events: list[Event]) -> None:
    due = {by_tag: _due(events, by_tag=by_tag) for by_tag in (False, True)}
    for report in REPORTS:
        query = {**(PERIOD if report.has_period else {}), **dict(report.query)}
        answer = await proxy.get(report.path, **query)
        assert answer.status_code == 200, (report.path, answer.text)
        shown = numbers_of(answer)
        rows = report.rows(shown)
        assert _total(rows) == due[report.overlaps], (report.path, report.query)
        # `spend` is billed and estimated together, wherever it is shown; null where nothing is known.
        assert all(
            row["spend"] in {None, Decimal(row["billed_usd"]) + Decimal(row["estimated_usd"])} for row in rows
        ), report.path
        if "total" in shown and isinstance(shown, dict) and isinstance(shown["total"], dict):
            assert _total([shown["total"]]) == due[False], report.path
        if report.has_table:
            table = await proxy.get(report.path, **query, format="csv")
            assert table.headers["content-type"].startswith("text/csv")
            assert _total(csv.DictReader(io.StringIO(table.text))) == due[report.overlaps], (report.path, "csv")
    await _check_requests(proxy, events)


async def _check_requests(proxy: Proxy, events: list[Event]) -> None:
    """Requests are the log's calls that have ended, each once, by how they ended."""
    calls = [call for call in plain_calls(events).values() if call["status"] != "in_progress"]
    well = sum(call["status"] in {"completed", "incomplete"} for call in calls)
    activity = numbers_of(await proxy.get("/global/activity", **PERIOD))
    assert (activity["sum_successful_requests"], activity["sum_failed_requests"]) == (well, len(calls) - well)
    for path in ("/user", "/team", "/organization", "/customer"):
        answer = numbers_of(await proxy.get(f"{path}/daily/activity", **PERIOD, page_size="366"))
        for part in ("models", "model_groups", "providers", "api_keys", "entities"):
            named = [each["metrics"] for day in answer["results"] for each in day["breakdown"][part].values()]
            assert sum(each["successful_requests"] for each in named) == well, (path, part)
            assert _total(named) == _due(events, by_tag=False), (path, part)
        assert answer["metadata"]["total_api_requests"] == len(calls)


async def _one_book(proxy: Proxy, connection: asyncpg.Connection, seed: int, events: list[Event]) -> None:
    start = START - timedelta(days=3 + seed % 80)
    book = random_book(await open_journals(connection, 2), seed, 150, start)
    events += book.all_events()
    await write(connection, book.all_events())
    await proxy.fold()
    await _check(proxy, events)
    # What is rolled up must not change an answer.
    await proxy.book.roller.catch_up()
    assert await connection.fetchval("SELECT bool_and(is_current) FROM ledger.spend_rolled WHERE grain = 'day'")
    await _check(proxy, events)
    due = _due(events, by_tag=False)
    for view, unknown in VIEWS.items():
        rows = await connection.fetch(f"SELECT billed_usd, estimated_usd, {unknown} FROM reporting.{view}")  # noqa: S608 constants
        assert _total([dict(row) for row in rows], unknown) == due, view


@pytest.mark.timeout(240)
def test_sum_over_rows_is_every_total_on_every_route_and_view(database_url: str) -> None:
    """The book grows from example to example: journals cannot be deleted, which is as it should be."""
    events: list[Event] = []

    async def examples(seeds: list[int]) -> None:
        connection = await asyncpg.connect(database_url)
        async with proxy_at(database_url) as proxy:
            for seed in seeds:
                await _one_book(proxy, connection, seed, events)
        await connection.close()

    @settings(max_examples=3, deadline=None, suppress_health_check=[HealthCheck.too_slow], database=None)
    @given(st.lists(st.integers(0, 2**32), min_size=1, max_size=2))
    def any_books(seeds: list[int]) -> None:
        asyncio.run(examples(seeds))

    any_books()
