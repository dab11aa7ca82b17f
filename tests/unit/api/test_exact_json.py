"""JSON with exact numbers."""

import json
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api.exact_json import encode

NUMBERS = st.decimals(allow_nan=False, allow_infinity=False, min_value=Decimal("-1e30"), max_value=Decimal("1e30"))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | NUMBERS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (Decimal("0.000000000001"), "0.000000000001"),
        (Decimal("1E-12"), "0.000000000001"),
        (Decimal("1E+3"), "1000"),
        (Decimal("0.500000000000"), "0.5"),
        (Decimal("-0.0"), "0"),
        (Decimal("123456789012.123456789012"), "123456789012.123456789012"),
        (True, "true"),
        ([], "[]"),
        ({}, "{}"),
        ({"a": [None, {}]}, '{"a":[null,{}]}'),
        (UUID(int=1), '"00000000-0000-0000-0000-000000000001"'),
        (datetime(2026, 1, 1, tzinfo=timezone(timedelta(hours=2))), '"2025-12-31T22:00:00.000000Z"'),
    ],
)
def test_value_is_spelt_plainly(value: Any, text: str) -> None:
    assert encode(value) == text


@pytest.mark.parametrize("value", [0.5, b"x", {1, 2}, Decimal("NaN"), Decimal("Infinity"), object()])
def test_value_that_answers_do_not_hold_is_refused(value: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        encode({"a": [value]})


@given(VALUES)
def test_value_comes_back_equal(value: Any) -> None:
    def exact(text: str) -> Decimal:
        return Decimal(text)

    assert json.loads(encode(value), parse_float=exact) == value
