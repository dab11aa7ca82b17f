"""Times reports over a large book (`large_book.py`): those that rollups serve, and some that they do not."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from ledger.postgres.connect import engine
from ledger.reports import SESSION
from ledger.reports.calls import LogFilters, log_page
from ledger.reports.ends import ends_report
from ledger.reports.spend import COLUMNS, SpendFilters, spend_report

_ROUNDS = 5
_DAYS = 90


@dataclass(frozen=True)
class Timing:
    """A report, whether rollups or an index serve it, its best time of some, and how many rows it gave."""

    name: str
    is_served: bool
    best_ms: float
    rows: int


async def measure(url: str) -> list[Timing]:
    """Time each report a few times, over the last 90 days where nothing else is said; the first reading warms up."""
    reads = engine(url, purpose="benchmark", pool_size=1, **SESSION)
    try:
        return [await _time(reads, name, is_served, report) for name, is_served, report in _reports()]
    finally:
        await reads.dispose()


Report = Callable[[AsyncConnection], Awaitable[int]]


def _reports() -> list[tuple[str, bool, Report]]:
    end = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
    period = {"start": end - timedelta(days=_DAYS), "end": end}
    by = [(f"by {name}", True, _spend(period, group_by=(name,))) for name in COLUMNS]
    team, customer = SpendFilters(team=("team-3",)), SpendFilters(end_user=("customer-3",))
    return [
        *by,
        ("total", True, _spend(period)),
        ("by day", True, _spend(period, interval="day")),
        ("by day and model", True, _spend(period, interval="day", group_by=("model",))),
        ("one team by model", True, _spend(period, filters=team, group_by=("model",))),
        ("one team by day", True, _spend(period, filters=team, interval="day")),
        ("one key by model", True, _spend(period, scope="key-7", group_by=("model",))),
        ("one key by end user", True, _spend(period, scope="key-7", group_by=("end_user",))),
        ("one key, 15 % of all calls, by model", True, _spend(period, scope="key-0", group_by=("model",))),
        ("one key, 15 % of all calls, by end user", True, _spend(period, scope="key-0", group_by=("end_user",))),
        ("one end user by day", True, _spend(period, filters=customer, interval="day")),
        ("one end user by model", True, _spend(period, filters=customer, group_by=("model",))),
        ("today by hour", True, _spend({**period, "start": end - timedelta(days=1)}, interval="hour")),
        ("requests by day", True, _ends(period, interval="day")),
        ("requests by model", True, _ends(period, group_by=("model",))),
        ("log, newest 100", True, _log(LogFilters())),
        ("log of one key", True, _log(LogFilters(key_id="key-7"))),
        ("log of one end user", True, _log(LogFilters(end_user="customer-3"))),
        ("one team by end user", False, _spend(period, filters=team, group_by=("end_user",))),
        ("by end user and model", False, _spend(period, group_by=("end_user", "model"))),
        ("estimated, by key", False, _spend(period, filters=SpendFilters(estimated=True), group_by=("key",))),
    ]


def _spend(period: dict[str, datetime], **asked: Any) -> Report:
    async def report(connection: AsyncConnection) -> int:
        return len((await spend_report(connection, **period, **asked)).groups)

    return report


def _ends(period: dict[str, datetime], **asked: Any) -> Report:
    async def report(connection: AsyncConnection) -> int:
        return len((await ends_report(connection, **period, **asked)).groups)

    return report


def _log(filters: LogFilters) -> Report:
    async def report(connection: AsyncConnection) -> int:
        return len((await log_page(connection, filters=filters)).rows)

    return report


async def _time(reads: AsyncEngine, name: str, is_served: bool, report: Report) -> Timing:
    times: list[float] = []
    rows = 0
    for _ in range(_ROUNDS):
        async with reads.connect() as connection:
            await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
            begun = time.perf_counter()
            rows = await report(connection)
            times.append(time.perf_counter() - begun)
    return Timing(name, is_served, min(times) * 1_000, rows)
