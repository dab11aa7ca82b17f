"""Every recorded answer of OpenAI, priced by the product and by hand, to the last decimal."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from ledger.money.answer import charge_answer
from ledger.money.book import PriceBook
from ledger.money.request import read_request
from ledger.money.seed import seed_prices
from tests.support.corpus import OPENAI, Row, recorded_rows, rows
from tests.support.hand_prices import CHARGED_TOOLS, expected_cost
from tests.support.hand_tools import TOOL_COSTS

AT = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.corpus
def test_charge_of_each_recorded_answer_equals_the_hand_table() -> None:
    counts = _compare(recorded_rows())
    assert counts == {"billed": 491, "estimated": 8, "unknown": 4}


@pytest.mark.corpus
def test_charge_of_each_edited_answer_equals_the_hand_table() -> None:
    others = tuple(row for row in rows() if row.host == OPENAI and row.authentic != "recorded")
    counts = _compare(others)
    assert counts == {"billed": 275, "estimated": 20, "unknown": 13}


@pytest.mark.corpus
def test_hand_table_has_every_recorded_answer_that_used_a_charged_tool() -> None:
    labels = {row.label for row in rows() if row.host == OPENAI and _kinds(row) & CHARGED_TOOLS and _usage(row)}
    assert labels <= TOOL_COSTS.keys()
    assert TOOL_COSTS.keys() <= {row.label for row in rows()}


def _usage(row: Row) -> Any:
    return (row.answer() or {}).get("usage")


def _kinds(row: Row) -> set[str]:
    return {item["type"] for item in (row.answer() or {}).get("output") or []}


def _compare(chosen: tuple[Row, ...]) -> Counter[str]:
    prices = PriceBook(seed_prices())
    counts: Counter[str] = Counter()
    for row in chosen:
        response, request = row.answer(), row.request_body or {}
        if response is None or not response.get("usage"):
            continue
        charged = charge_answer(response, request=read_request(request), at=AT, prices=prices)
        counts[charged.state] += 1
        tokens = expected_cost(response, request)
        tokens_only = ("unknown", "0", "0") if tokens is None else ("billed", str(tokens), "0")
        state, billed, estimated = TOOL_COSTS.get(row.label, tokens_only)
        assert charged.state == state, (row.label, charged.reason)
        assert charged.unknown == (state == "unknown"), row.label
        assert (state == "billed") or charged.reason, row.label
        facts = charged.to_facts()
        sums = Decimal(facts["billed_usd"]), Decimal(facts["estimated_usd"])
        assert sums == (Decimal(billed), Decimal(estimated)), (row.label, charged.reason)
        assert sum((Decimal(item["amount_usd"]) for item in facts["items"]), Decimal(0)) == sum(sums), row.label
    return counts
