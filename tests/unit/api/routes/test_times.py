"""Dates and moments as people send them."""

import pytest

from api.errors import ApiFailure
from api.routes.times import read_moment
from ledger.encoding import rfc3339


@pytest.mark.parametrize(
    ("text", "start", "end"),
    [
        ("2026-11-22", "2026-11-22T00:00:00.000000Z", "2026-11-23T00:00:00.000000Z"),
        ("2026-12-31", "2026-12-31T00:00:00.000000Z", "2027-01-01T00:00:00.000000Z"),
        ("2026-11-22 09:30:00", "2026-11-22T09:30:00.000000Z", "2026-11-22T09:30:00.000000Z"),
        ("2026-11-22T09:30:00Z", "2026-11-22T09:30:00.000000Z", "2026-11-22T09:30:00.000000Z"),
        ("2026-11-22t09:30:00.5z", "2026-11-22T09:30:00.500000Z", "2026-11-22T09:30:00.500000Z"),
        ("2026-11-22T09:30:00+02:00", "2026-11-22T07:30:00.000000Z", "2026-11-22T07:30:00.000000Z"),
        ("2026-11-22T09:30:00 02:00", "2026-11-22T07:30:00.000000Z", "2026-11-22T07:30:00.000000Z"),
        ("2026-11-22T09:30:00-02:30", "2026-11-22T12:00:00.000000Z", "2026-11-22T12:00:00.000000Z"),
    ],
)
def test_moment_in_each_spelling_is_utc_and_a_day_as_an_end_counts_in_whole(text: str, start: str, end: str) -> None:
    assert rfc3339(read_moment(text, "p")) == start
    assert rfc3339(read_moment(text, "p", is_end=True)) == end


@pytest.mark.parametrize(
    "text",
    ["", "now", "1795339800", "20261122", "2026-W47-7", "2026-02-30", "2026-11-22T25:00:00Z", "2026-11-22T09:30",
     "0001-01-01", "9999-12-31", "2026-11-22T09:30:00+99:00", "２０２６-11-22"],  # noqa: RUF001 - digits that are none
)  # fmt: skip
def test_moment_that_is_none_is_refused_with_what_is_accepted(text: str) -> None:
    with pytest.raises(ApiFailure, match="start_date must be 2026-11-22") as refused:
        read_moment(text, "start_date")
    assert refused.value.error.param == "start_date"
