"""Reports over months and hundreds of end users: the most expensive are found exactly, rollups and indexes serve."""

import re
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import asyncpg
import pytest
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.postgres.connect import engine
from ledger.projections.roller import Roller
from ledger.projections.rollup import PERIOD_DIMENSIONS
from ledger.projections.spend import ROLLUP
from ledger.reports import SESSION
from ledger.reports.buckets import DAY_S, Only, Span, line_items_by_bucket, sums_by_bucket
from ledger.reports.ends import ends_report
from ledger.reports.spend import SpendFilters, spend_report

START = datetime(2024, 12, 29, 7, tzinfo=UTC)
END = datetime(2025, 3, 12, 12, tzinfo=UTC)
PERIOD: Any = {"start": START, "end": END}
DAYS = Span(
    int(datetime(2025, 1, 1, tzinfo=UTC).timestamp()), int(datetime(2025, 3, 12, tzinfo=UTC).timestamp()), DAY_S
)

#: 300 end users through 20 keys, on 75 days. Many cost the same, or differ by what is far below a millionth; some
#: were estimated too high, and a correction in another period takes it back.
_SPEND = """
INSERT INTO ledger.spend (hour, dims_sha256, org, team, user_id, key_id, end_user, model, deployment, tier, tags, calls,
    attempts, input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, billed_usd,
    estimated_usd, unknown_calls)
SELECT timestamptz '2024-12-28 00:00Z' + (n / 150) * interval '1 day' + (n % 24) * interval '1 hour',
    sha256(n::text::bytea), 'org', 'team-' || n % 4, 'user-' || n % 5, 'key-' || n % 20, 'customer-' || n * 7 % 300,
    'model-' || n % 3, 'deployment', '', '{}', 1, 1, n, 0, 0, 1, 0,
    (n * 7 % 300 % 9) * 0.0000004 + (n % 3) * 0.000000000001,
    CASE WHEN n % 11 = 0 THEN 0.0000003 WHEN n % 11 = 5 THEN -0.0000003 ELSE 0 END, 0
FROM generate_series(0, 11249) AS n
"""
_CALLS = """
INSERT INTO ledger.calls (call_id, journal_id, received_at, status, attempts, finished_at, key_id, org, team, user_id,
    end_user, model, deployment, tier)
SELECT gen_random_uuid(), gen_random_uuid(), hour, 'completed', 1, hour, key_id, org, team, user_id, end_user, model,
    deployment, tier
FROM ledger.spend
"""
_LINE_ITEMS = """
INSERT INTO ledger.line_items (keyed, day, dims_sha256, org, team, user_id, key_id, model, meter, quantity, amount_usd,
    unknown_costs)
SELECT keyed, (hour AT TIME ZONE 'UTC')::date, sha256((keyed || ' ' || n)::text::bytea), 'org', '', '', '', model,
    'output', 1, 0, 0
FROM (SELECT *, row_number() OVER () AS n FROM ledger.spend) AS s CROSS JOIN (VALUES (true), (false)) AS k (keyed)
WHERE keyed OR n % 20 = 0
"""
_MARKED = """
INSERT INTO ledger.@prefix@_rolled (grain, start, is_current)
SELECT DISTINCT grain, date_trunc('month', at)::date + (extract(day FROM at)::integer - 1) / days * days, false
FROM generate_series(date '2024-12-28', date '2025-03-12', '1 day') AS d (at)
CROSS JOIN (VALUES ('day', 1), ('eighth', 4), ('quarter', 8), ('half', 16), ('month', 32)) AS g (grain, days)
"""
#: Of other years there is more than of the period that is asked for.
_COLUMNS = ", ".join(("dims_sha256", *PERIOD_DIMENSIONS, *ROLLUP.sums))
_OLDER = f"""
INSERT INTO ledger.spend_periods (grain, start, {_COLUMNS})
SELECT grain, start - 400 * years, {_COLUMNS} FROM ledger.spend_periods CROSS JOIN generate_series(1, 4) AS years
"""  # noqa: S608 constants of the program
#: A day, and with it the parts of its month and the month, is read from the rows.
_STALE = """
UPDATE ledger.spend_rolled SET is_current = false
WHERE (grain, start) IN (('day', '2025-02-14'), ('eighth', '2025-02-13'), ('quarter', '2025-02-09'),
    ('half', '2025-02-01'), ('month', '2025-02-01'))
"""


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[AsyncConnection]:
    owner = await asyncpg.connect(database_url)
    for statement in (_SPEND, _CALLS, _LINE_ITEMS):
        await owner.execute(statement)
    for prefix in ("spend", "call"):
        await owner.execute(_MARKED.replace("@prefix@", prefix))
    await Roller(database_url).catch_up()
    await owner.execute(_OLDER)
    await owner.execute(_STALE)
    await owner.execute("VACUUM ANALYZE")
    await owner.close()
    reports = engine(database_url, purpose="test", pool_size=1, **SESSION)
    async with reports.connect() as connection:
        yield connection
    await reports.dispose()


async def _expected(connection: AsyncConnection, scope: str | None) -> list[tuple[str, Decimal, int]]:
    """Return end users, USD and input tokens out of the rows, the most expensive first."""
    query = text(
        "SELECT end_user, sum(billed_usd + estimated_usd) AS usd, sum(input_tokens)::bigint AS tokens FROM ledger.spend"
        " WHERE hour >= :start AND hour < :end AND key_id = coalesce(CAST(:scope AS text), key_id)"
        " GROUP BY 1 ORDER BY 2 DESC, 1"
    )
    rows = await connection.execute(query, {**PERIOD, "scope": scope})
    return [(row.end_user, row.usd, row.tokens) for row in rows]


async def test_spend_report_by_end_user_shows_the_most_expensive_exactly_however_many_are_asked_for(
    connection: AsyncConnection,
) -> None:
    for scope in (None, "key-3", "nobody"):
        expected = await _expected(connection, scope)
        for groups_max in (1, 7, 100, 299, 1_000):
            report = await spend_report(
                connection, **PERIOD, group_by=("end_user",), scope=scope, groups_max=groups_max
            )
            found = [
                (each.names[0], each.sums.billed_usd + each.sums.estimated_usd, each.sums.input_tokens)
                for each in report.groups
            ]
            assert found == expected[:groups_max]
            assert report.truncated == (len(expected) > groups_max)
            assert report.total.input_tokens == sum(tokens for _, _, tokens in expected)


def _spend(**asked: Any) -> Callable[[AsyncConnection], Any]:
    return lambda connection: spend_report(connection, **PERIOD, **asked)


_TEAM, _CUSTOMER = SpendFilters(team=("team-3",)), SpendFilters(end_user=("customer-3",))
_NAMES, _PERIODS, _ROWS = "spend_names_pkey", "spend_periods_pkey", "spend_pkey"
#: Reports of the most expensive of many: found by what the index holds.
_RANKED = {"by end user": _NAMES, "one key by end user": "spend_names_key"}
#: What each reads by: the rows are those of the day that is not rolled up, and of the first and last hours.
REPORTS: dict[str, tuple[Callable[[AsyncConnection], Any], set[str]]] = {
    "by key": (_spend(group_by=("key",)), {_NAMES, _ROWS}),
    "by end user": (_spend(group_by=("end_user",)), {_NAMES, _ROWS}),
    "by day": (_spend(interval="day"), {_NAMES, _ROWS}),
    "by day and model": (_spend(interval="day", group_by=("model",)), {_NAMES, _ROWS}),
    "one team by model": (_spend(filters=_TEAM, group_by=("model",)), {_PERIODS, _ROWS}),
    "one key by end user": (_spend(scope="key-7", group_by=("end_user",)), {"spend_names_key", "spend_key"}),
    "one end user by day": (_spend(filters=_CUSTOMER, interval="day"), {_NAMES, "spend_end_user"}),
    **{
        f"{name}, by key": (_spend(filters=filters, group_by=("key",)), {"calls_flagged"})
        for name, filters in (
            ("interrupted", SpendFilters(interrupted=True)),
            ("unpriced", SpendFilters(unpriced=True)),
            ("estimated", SpendFilters(estimated=True)),
        )
    },
    "ends by day": (lambda connection: ends_report(connection, **PERIOD, interval="day"), {"call_names_pkey"}),
    "usage by day and key": (
        lambda connection: sums_by_bucket(connection, DAYS, group_by=("key_id",), only=Only({}), groups_max=10_000),
        {_NAMES, _ROWS},
    ),
    "costs by line item": (
        lambda connection: line_items_by_bucket(
            connection, DAYS, group_by=("model", "meter"), only=Only({}), groups_max=10_000
        ),
        {"line_items_pkey"},
    ),
}


async def test_reports_that_rollups_serve_read_them_by_index_and_no_table_in_whole(connection: AsyncConnection) -> None:
    asked: list[tuple[str, Any]] = []

    def note(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        asked.append((statement, parameters))

    event.listen(connection.sync_connection, "before_cursor_execute", note)
    driver = (await connection.get_raw_connection()).driver_connection
    assert driver is not None
    if driver.get_server_version().major < 17:
        # Before 17 each day of a list counts as a search of its own, dearer than reading a table as small as here.
        await driver.execute("SET enable_seqscan = off")
    for name, (report, indexes) in REPORTS.items():
        await report(connection)
        statement, parameters = asked[-1]
        plan = "\n".join(row[0] for row in await driver.fetch("EXPLAIN (COSTS OFF) " + statement, *parameters))
        assert "Seq Scan" not in plan, (name, plan)
        assert "Gather" not in plan, (name, plan)
        used = set(re.findall(r"(?:using|Index Scan on) (\w+)", plan))
        assert indexes <= used, (name, plan)
        if name in _RANKED:
            assert f"Index Only Scan using {_RANKED[name]} " in plan, (name, plan)
