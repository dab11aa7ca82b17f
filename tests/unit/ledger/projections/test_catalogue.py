"""Projections by name, and the shape that every statement must have."""

import pytest

from ledger.projections.catalogue import ALL, by_names
from ledger.projections.definition import TARGET


def test_by_names_unknown_name_is_refused_with_those_that_exist() -> None:
    with pytest.raises(
        ValueError, match="No projection is named budgets; there are keys, prices, spend, calls, line_items"
    ):
        by_names(["keys", "budgets"])


def test_by_names_keeps_the_order_of_folding() -> None:
    assert [projection.name for projection in by_names(["calls", "keys"])] == ["keys", "calls"]
    assert by_names(None) == ALL


def test_every_statement_reads_bounded_spans_and_writes_in_the_order_of_its_key() -> None:
    for projection in ALL:
        written = "".join(projection.statements)
        assert all(f"{TARGET}.{table} " in written for table in projection.tables)
        for statement in projection.statements:
            assert statement.count("FROM ledger.events") == statement.count("seq <= s.hi") == 1
            assert "seq > s.lo" in statement
            assert statement.count("INSERT INTO") == statement.count("ON CONFLICT")
            assert ("$4" in statement) == projection.numbered
            assert any(f"{TARGET}.{table} " in statement for table in projection.tables)
            assert " body" not in statement
            assert TARGET not in projection.statements_into("elsewhere")[0]
