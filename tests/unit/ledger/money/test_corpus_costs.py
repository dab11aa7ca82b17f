"""Every recorded answer of OpenAI, priced by the product and by hand, to the last decimal."""

from collections import Counter
from datetime import UTC, datetime
from decimal import Decimal

import pytest

from ledger.money.answer import charge_answer
from ledger.money.book import PriceBook
from ledger.money.request import read_request
from ledger.money.seed import seed_prices
from tests.support.corpus import OPENAI, Row, recorded_rows, rows
from tests.support.hand_prices import expected_cost

AT = datetime(2026, 11, 22, tzinfo=UTC)


@pytest.mark.corpus
def test_charge_of_each_recorded_answer_equals_the_hand_table() -> None:
    counts = _compare(recorded_rows())
    assert counts["billed"] == 489
    assert counts["unknown"] == 14


@pytest.mark.corpus
def test_charge_of_each_edited_answer_equals_the_hand_table() -> None:
    others = tuple(row for row in rows() if row.host == OPENAI and row.authentic != "recorded")
    counts = _compare(others)
    assert counts["billed"] == 266
    assert counts["unknown"] == 42


def _compare(chosen: tuple[Row, ...]) -> Counter[str]:
    prices = PriceBook(seed_prices())
    counts: Counter[str] = Counter()
    for row in chosen:
        response, request = row.answer(), row.request_body or {}
        if response is None or not response.get("usage"):
            continue
        charged = charge_answer(response, request=read_request(request), at=AT, prices=prices)
        expected = expected_cost(response, request)
        counts[charged.state] += 1
        if expected is None:
            assert charged.state == "unknown", row.label
            assert charged.unknown == 1, row.label
            assert charged.reason, row.label
        else:
            assert (charged.state, charged.unknown) == ("billed", 0), (row.label, charged.reason)
            facts = charged.to_facts()
            assert Decimal(facts["billed_usd"]) == expected, row.label
            assert sum((Decimal(item["amount_usd"]) for item in facts["items"]), Decimal(0)) == expected, row.label
    return counts
