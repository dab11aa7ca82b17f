"""The queries of docs/SQL.md: each finds something, is read by the indexes meant for it, and sums to the costs."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import pytest

from ledger.postgres.connect import REPORTING_ROLE, connect
from tests.support.book import Book, spell
from tests.support.documents import ROOT, Block, blocks
from tests.support.postgres import Databases
from tests.support.wide_book import NOW, make_wide_book, sums

QUERIES = blocks(ROOT / "docs" / "SQL.md", "sql")
_SETTINGS = {"search_path": "reporting", "default_transaction_read_only": "on", "statement_timeout": "10s"}
#: Tables that stay small however many calls there are, but for the totals, which have a row a key or end user.
_SMALL = {"keys", "teams", "prices", "journals", "checkpoints", "projections", "key_totals", "end_user_totals"}
_PARTITION = re.compile(r"events_(\d{8})")


@dataclass(frozen=True)
class Expected:
    """How a query is read and what it shows: its indexes, how many days of events it opens, its columns of money."""

    indexes: set[str]
    days: int = 0
    money: dict[str, str] = field(default_factory=dict)


SPEND, CALLS = {"spend_pkey"}, {"calls_received"}
BY_CALL = {"calls_received", "events_call_id_version_idx"}
BY_JOURNAL = {"events_journal_id_seq_idx"}
BOTH = {"billed_usd": "billed", "estimated_usd": "estimated", "unknown_calls": "unknown"}
KNOWN = {"usd": "known", "unknown_calls": "unknown"}

#: Every query, by the first line of its text.
EXPECTED = {
    "Spend by day": Expected(SPEND, money=BOTH),
    "Bill of the month by team": Expected(SPEND, money=BOTH),
    "Bill of the month by line item": Expected(
        {"line_items_pkey"}, money={"amount_usd": "known", "unknown_costs": "unknown"}
    ),
    "Day over day": Expected(SPEND, money=KNOWN),
    "Keys of the month": Expected(SPEND, money=KNOWN),
    "Top end users of the month": Expected(SPEND, money=KNOWN),
    "End users of all time": Expected(set()),
    "One end user by model": Expected({"spend_end_user"}),
    "Tags of the week": Expected(SPEND),
    "Cached share by model": Expected(SPEND, money={"billed_usd": "billed"}),
    "Saved by the cache": Expected({"line_items_pkey"}),
    "Cost of an attempt by model": Expected(SPEND, money={"unknown_calls": "unknown"}),
    "Forecast of the month": Expected(SPEND, money={"spent_usd": "known", "unknown_calls": "unknown"}),
    "Deployments and tiers": Expected(SPEND, money=BOTH),
    "Idle keys": Expected({"calls_key_received"}),
    "Latency by model": Expected(CALLS),
    "Time to the first chunk": Expected(CALLS),
    "Speed of deployments": Expected(CALLS),
    "Ends by model": Expected(CALLS),
    "Errors of the day": Expected(CALLS),
    "Load by hour": Expected(CALLS),
    "Retried calls": Expected(CALLS),
    "Failed attempts": Expected(BY_CALL, days=1),
    "Interrupted calls": Expected({"calls_flagged"}),
    "Calls in progress": Expected(CALLS),
    "Retries of clients": Expected(CALLS),
    "Log of an end user": Expected({"calls_end_user_received"}),
    "Log of a key": Expected({"calls_key_received"}),
    "Call of a response": Expected({"calls_response"}),
    # By the call's id alone: a look into each day's index.
    "Timeline of a call": Expected(BY_CALL, days=5),
    "Line items of a call": Expected(BY_CALL, days=5),
    "Chunks of a call": Expected(BY_CALL, days=5),
    "Changes of keys": Expected(BY_JOURNAL, days=1),
    "Corrections": Expected(BY_JOURNAL, days=1),
    "Prices of a model": Expected(set()),
    "Reads of bodies": Expected(BY_JOURNAL, days=1),
    "Heads of the chains": Expected({"events_pkey"}, days=1),
    "Lag": Expected({"events_pkey"}, days=1),
    "Estimated share": Expected(SPEND, money=BOTH),
    "Unpriced models": Expected(CALLS),
    "Costs that are not billed": Expected(BY_CALL, days=1),
    "Likely duplicates": Expected(CALLS),
    "Totals agree": Expected(set()),
}


def title(query: Block) -> str:
    """Return what a query is called: its first line."""
    return query.text.splitlines()[0].removeprefix("-- ")


@pytest.fixture(scope="module")
def wide(databases: Databases) -> Iterator[tuple[str, Book]]:
    """A book among older matter, for all tests of this module."""
    url = databases.create(migrated=True)
    yield url, asyncio.run(make_wide_book(url))
    databases.drop(url)


def _used(plan: dict[str, Any], nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the nodes of a plan that were executed."""
    if plan.get("Actual Loops"):
        nodes.append(plan)
    for part in plan.get("Plans", []):
        _used(part, nodes)
    return nodes


async def _ask(url: str, query: Block) -> tuple[list[Any], list[dict[str, Any]]]:
    """Run a query as who reports does, at the book's own time; return its rows and the nodes of its plan."""
    connection = await connect(url, purpose="test", role=REPORTING_ROLE, **_SETTINGS)
    try:
        response = str(await connection.fetchval("SELECT min(response_id) FROM calls WHERE response_id LIKE 'resp%'"))
        text = query.text.replace("now()", f"'{spell(NOW)}'::timestamptz").replace("resp_1", response)
        plan = await connection.fetchval(f"EXPLAIN (ANALYZE, COSTS OFF, TIMING OFF, FORMAT JSON) {text}")
        return await connection.fetch(text), _used(json.loads(str(plan))[0]["Plan"], [])
    finally:
        await connection.close()


def test_every_query_has_a_name_and_an_expectation() -> None:
    assert [title(query) for query in QUERIES] == list(EXPECTED)
    assert len(QUERIES) >= 30


@pytest.mark.parametrize("query", QUERIES, ids=title)
async def test_query_finds_rows_by_its_indexes_and_sums_to_the_costs(wide: tuple[str, Book], query: Block) -> None:
    url, book = wide
    expected = EXPECTED[title(query)]
    rows, nodes = await _ask(url, query)
    assert rows
    for column, name in expected.money.items():
        assert sum((Decimal(row[column] or 0) for row in rows), Decimal(0)) == sums(book)[name], column
    whole = {node["Relation Name"] for node in nodes if node["Node Type"] == "Seq Scan"}
    assert whole <= _SMALL
    indexes = {_PARTITION.sub("events", node["Index Name"]) for node in nodes if "Index Name" in node}
    assert indexes - {f"{table}_pkey" for table in _SMALL} == expected.indexes
    for node in nodes:
        # An index that is read from one end to the other is the table read in a roundabout way.
        if "Index Name" in node and node["Index Name"].removesuffix("_pkey") not in _SMALL:
            assert "Index Cond" in node, node
    names = {node[key] for node in nodes for key in ("Relation Name", "Index Name") if key in node}
    assert len({found[1] for name in names if (found := _PARTITION.match(name))}) == expected.days


async def test_totals_of_both_kinds_and_the_costs_are_one(wide: tuple[str, Book]) -> None:
    url, book = wide
    (query,) = (each for each in QUERIES if title(each) == "Totals agree")
    (by_key, by_end_user), _ = await _ask(url, query)
    assert tuple(by_key)[1:] == tuple(by_end_user)[1:]
    assert {by_key["billed_usd"], by_key["estimated_usd"]} == {sums(book)["billed"], sums(book)["estimated"]}
