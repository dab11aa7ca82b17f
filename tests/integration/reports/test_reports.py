"""Reports over a random book: sums agree everywhere, pages neither repeat nor miss, a key sees only its own."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, TypedDict, cast, get_args

import asyncpg
import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.postgres.connect import engine
from ledger.projections.projector import Projector
from ledger.reports.calls import LogFilters, call, log_page
from ledger.reports.keys import KeyFilters, Totals, end_user_info, key_info, key_list, key_spend
from ledger.reports.spend import GroupBy, SpendFilters, Sums, spend_report
from tests.support.book import START, Book, open_journals, random_book, write
from tests.support.plain_fold import plain_calls, plain_keys, plain_spend


class _Period(TypedDict):
    start: datetime
    end: datetime


PERIOD = _Period(start=START - timedelta(days=1), end=START + timedelta(days=30))


@pytest.fixture
async def book(database_url: str) -> Book:
    connection = await asyncpg.connect(database_url)
    book = random_book(await open_journals(connection, 3), 42, 900)
    await write(connection, book.all_events())
    await connection.close()
    projector = Projector(database_url)
    await projector.catch_up()
    await projector.close()
    return book


@pytest.fixture
async def connection(database_url: str) -> AsyncIterator[AsyncConnection]:
    reports = engine(database_url, purpose="test")
    async with reports.connect() as connection:
        yield connection
    await reports.dispose()


async def _all_pages(connection: AsyncConnection, limit: int, **arguments: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    cursor = None
    while True:
        page = await log_page(connection, cursor=cursor, limit=limit, **arguments)
        rows += page.rows
        cursor = page.next_cursor
        if cursor is None:
            return rows


@pytest.mark.parametrize("limit", [0, -1, 1001])
async def test_log_page_of_impossible_size_is_refused(connection: AsyncConnection, limit: int) -> None:
    with pytest.raises(ValueError, match="A page has from 1 to 1000 rows"):
        await log_page(connection, limit=limit)


async def test_log_page_time_without_zone_is_refused(connection: AsyncConnection) -> None:
    with pytest.raises(ValueError, match="needs a zone"):
        await log_page(connection, filters=LogFilters(start=datetime(2026, 1, 1)))  # noqa: DTZ001 the fault that is tested


@pytest.mark.parametrize("limit", [1, 7, 1000])
async def test_log_pages_together_hold_every_call_once_newest_first(
    connection: AsyncConnection, book: Book, limit: int
) -> None:
    rows = await _all_pages(connection, limit)
    expected = plain_calls(book.all_events())
    assert [row["received_at"] for row in rows] == sorted((row["received_at"] for row in rows), reverse=True)
    assert len(rows) == len(expected)
    assert {(str(row["call_id"]), str(row["journal_id"])) for row in rows} == set(expected)
    assert all(row["received_at"].tzinfo is not None for row in rows)
    assert all(isinstance(row["billed_usd"], Decimal) for row in rows)


async def test_log_page_with_calls_arriving_meanwhile_neither_repeats_nor_skips(
    connection: AsyncConnection, book: Book, database_url: str
) -> None:
    first = await log_page(connection, limit=10)
    writer = await asyncpg.connect(database_url)
    (journal,) = await open_journals(writer, 1)
    newer = Book([journal], 2)
    newer.now = START + timedelta(days=3)
    for _ in range(20):
        newer.receive(journal)
    await write(writer, newer.all_events())
    await writer.close()
    projector = Projector(database_url)
    await projector.catch_up()
    await projector.close()
    rest: list[dict[str, Any]] = []
    cursor = first.next_cursor
    while cursor is not None:
        page = await log_page(connection, limit=10, cursor=cursor)
        rest += page.rows
        cursor = page.next_cursor
    seen = [row["call_id"] for row in [*first.rows, *rest]]
    assert len(seen) == len(set(seen)) == len(plain_calls(book.all_events()))


async def test_log_filters_select_what_they_say(connection: AsyncConnection, book: Book) -> None:
    calls = plain_calls(book.all_events()).values()
    broken = {"truncated", "abandoned", "cancelled"}
    middle = sorted(row["received_at"] for row in calls)[len(calls) // 2]
    cases: list[tuple[LogFilters, int]] = [
        (LogFilters(key_id="key-1"), sum(row["key_id"] == "key-1" for row in calls)),
        (LogFilters(end_user="alice"), sum(row["end_user"] == "alice" for row in calls)),
        (LogFilters(end_user=""), sum(row["end_user"] == "" for row in calls)),
        (LogFilters(tag="b"), sum("b" in row["tags"] for row in calls)),
        (LogFilters(status="rejected"), sum(row["status"] == "rejected" for row in calls)),
        (LogFilters(status="success"), sum(row["status"] in {"completed", "incomplete"} for row in calls)),
        (LogFilters(status="failure"), sum(
            row["status"] not in {"completed", "incomplete", "in_progress"} for row in calls
        )),
        (LogFilters(start=middle), sum(row["received_at"] >= middle for row in calls)),
        (LogFilters(end=middle), sum(row["received_at"] < middle for row in calls)),
        (LogFilters(interrupted=True), sum(row["status"] in broken or row["disconnected"] for row in calls)),
        (LogFilters(unpriced=True), sum(row["unknown"] > 0 for row in calls)),
        (LogFilters(estimated=True), sum(row["estimated_usd"] != 0 for row in calls)),
        (LogFilters(key_id="key-1", model="gpt-5", org="acme"), sum(
            (row["key_id"], row["model"], row["org"]) == ("key-1", "gpt-5", "acme") for row in calls
        )),
    ]  # fmt: skip
    for filters, expected in cases:
        rows = await _all_pages(connection, 100, filters=filters)
        assert (filters, len(rows)) == (filters, expected)
        assert 0 < expected < len(calls), filters


@pytest.mark.usefixtures("book")
async def test_key_sees_its_own_calls_and_spend_and_nothing_of_others(connection: AsyncConnection) -> None:
    everything = await _all_pages(connection, 100)
    own = await _all_pages(connection, 100, scope="key-1")
    assert {row["key_id"] for row in own} == {"key-1"}
    assert len(own) == sum(row["key_id"] == "key-1" for row in everything)
    assert await _all_pages(connection, 100, scope="key-1", filters=LogFilters(key_id="key-2")) == []
    foreign = next(row for row in everything if row["key_id"] == "key-2")
    assert await call(connection, foreign["call_id"], scope="key-1") is None
    assert await call(connection, foreign["call_id"], scope="key-2") == foreign
    report = await spend_report(connection, **PERIOD, group_by=("key",), scope="key-1")
    assert [group.names for group in report.groups] == [("key-1",)]
    empty = await spend_report(
        connection, **PERIOD, group_by=("key",), scope="key-1", filters=SpendFilters(key_id=("key-2",))
    )
    assert (empty.groups, empty.total) == ((), Sums())
    assert await key_spend(connection, "key-2", scope="key-1") == Totals()
    assert await key_info(connection, key_id="key-2", scope="key-1") is None
    listed = await key_list(connection, scope="key-1")
    assert (listed.count, [row["key_id"] for row in listed.rows]) == (1, ["key-1"])
    through, all_in_all = (
        await end_user_info(connection, "alice", scope="key-1"),
        await end_user_info(connection, "alice"),
    )
    assert through is not None
    assert all_in_all is not None
    assert 0 < through.calls < all_in_all.calls


@pytest.mark.parametrize("group_by", get_args(GroupBy))
async def test_spend_report_groups_add_up_to_the_total_and_tags_overlap(
    connection: AsyncConnection, book: Book, group_by: GroupBy
) -> None:
    plain = plain_spend(book.all_events())
    report = await spend_report(connection, **PERIOD, group_by=(group_by,))
    billed = sum((row[7] for row in plain.values()), Decimal(0))
    unknown = sum(row[9] for row in plain.values())
    assert (report.total.billed_usd, report.total.unknown_calls) == (billed, unknown)
    assert report.total.calls == sum(row[0] for row in plain.values())
    costs = [sums.billed_usd + sums.estimated_usd for sums in (group.sums for group in report.groups)]
    assert costs == sorted(costs, reverse=True)
    if group_by == "tag":
        assert report.overlapping
        expected = {
            tag: sum(row[7] for place, row in plain.items() if tag in cast("tuple[str, ...]", place[9]))
            for tag in ("a", "b")
        }
        assert {
            group.names[0]: group.sums.billed_usd for group in report.groups if group.names[0] in expected
        } == expected
    else:
        assert not report.overlapping
        assert sum((sums.billed_usd for sums in (group.sums for group in report.groups)), Decimal(0)) == billed


@pytest.mark.usefixtures("book")
async def test_spend_report_with_more_groups_than_wanted_says_so(connection: AsyncConnection) -> None:
    report = await spend_report(connection, **PERIOD, group_by=("key",), groups_max=2)
    assert (len(report.groups), report.truncated) == (2, True)
    assert report.total == (await spend_report(connection, **PERIOD, group_by=("model",))).total


async def test_spend_report_period_is_widened_to_whole_hours(connection: AsyncConnection) -> None:
    start = datetime(2026, 11, 22, 9, 59, 59, tzinfo=UTC)
    report = await spend_report(connection, start=start, end=start + timedelta(seconds=2), group_by=("key",))
    assert (report.start, report.end) == (start.replace(minute=0, second=0), start.replace(hour=11, minute=0, second=0))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"start": START, "end": START}, "the earlier first"),
        ({"start": datetime(2026, 1, 1)}, "with a zone"),  # noqa: DTZ001 the fault that is tested
        ({"group_by": ("colour",)}, "got 'colour'"),
        ({"groups_max": 0}, "got 0"),
    ],
)
async def test_spend_report_of_nonsense_is_refused(
    connection: AsyncConnection, change: dict[str, Any], message: str
) -> None:
    arguments: dict[str, Any] = {**PERIOD, "group_by": ("key",), **change}
    with pytest.raises(ValueError, match=message):
        await spend_report(connection, **arguments)


async def test_key_list_pages_hold_every_key_with_its_spend(connection: AsyncConnection, book: Book) -> None:
    plain = plain_keys(book.all_events())
    pages = [await key_list(connection, page=page, size=2) for page in (1, 2)]
    rows = [row for page in pages for row in page.rows]
    names = ("revision", "key_alias", "revoked")
    assert {row["key_id"]: [row[name] for name in names] for row in rows} == {
        key_id: [state[name] for name in names] for key_id, state in plain.items()
    }
    assert [page.count for page in pages] == [len(plain)] * 2
    for row in rows:
        assert "key_hash" not in row
        assert row["totals"] == await key_spend(connection, row["key_id"])
        report = await spend_report(
            connection, **PERIOD, group_by=("model",), filters=SpendFilters(key_id=(row["key_id"],))
        )
        assert row["totals"].billed_usd == report.total.billed_usd
    statuses = [
        (await key_list(connection, filters=KeyFilters(status=status))).count
        for status in ("active", "expired", "blocked", "revoked")
    ]
    assert sum(statuses) == len(plain)


async def test_key_info_is_found_by_hash_as_well(connection: AsyncConnection, book: Book) -> None:
    state = next(event.facts["key"] for event in book.all_events() if event.type == "key.issued")
    by_hash = await key_info(connection, key_hash=state["key_hash"])
    assert by_hash == await key_info(connection, key_id=state["key_id"])
    assert by_hash is not None
    with pytest.raises(ValueError, match="give one of them"):
        await key_info(connection)


async def test_reporting_views_hold_the_same_sums_as_the_book(book: Book, database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    events = book.all_events()
    costs = [event.facts for event in events if event.type.startswith("cost.")]
    billed = sum((Decimal(facts["billed_usd"]) for facts in costs), Decimal(0))
    for view in ("calls", "costs", "spend_hourly", "spend_daily", "spend_by_key", "spend_by_end_user"):
        assert await connection.fetchval(f"SELECT sum(billed_usd) FROM reporting.{view}") == billed, view  # noqa: S608 constants
    items = [item for facts in costs for item in facts["items"]]
    assert await connection.fetchval("SELECT count(*) FROM reporting.cost_line_items") == len(items)
    tags = await connection.fetch("SELECT tag, sum(billed_usd) AS usd FROM reporting.spend_by_tag GROUP BY tag")
    for row in tags:
        expected = sum(Decimal(facts["billed_usd"]) for facts in costs if row["tag"] in facts["dims"]["tags"])
        assert row["usd"] == expected
    started = sum(event.type == "attempt.started" for event in events)
    assert await connection.fetchval("SELECT count(*) FROM reporting.attempts") == started
    health = await connection.fetch("SELECT * FROM reporting.ledger_health")
    assert {(row["projection"], row["events_behind"], row["journals_stopped"]) for row in health} == {
        (name, 0, 0) for name in ("keys", "prices", "spend", "line_items", "calls")
    }
    await connection.close()


async def test_chunks_view_numbers_chunks_by_call_and_decodes_what_is_text(database_url: str) -> None:
    connection = await asyncpg.connect(database_url)
    (journal,) = await open_journals(connection, 1)
    own = Book([journal], 1)
    calls = [own.receive(journal) for _ in range(2)]
    bodies = [b"data: \xc3\xa4\n\n", b"data: \xff\n\n", b"data: \x00\n\n"]
    for body in bodies:
        for one in calls:
            own.add(journal, "chunk.received", {}, one, body)
    await write(connection, own.all_events())
    for one in calls:
        rows = await connection.fetch(
            "SELECT n, body, text FROM reporting.chunks WHERE call_id = $1 ORDER BY n", one.call_id
        )
        assert [(row["n"], row["body"], row["text"]) for row in rows] == [
            (0, bodies[0], "data: ä\n\n"),
            (1, bodies[1], None),
            (2, bodies[2], None),
        ]
    await connection.close()
