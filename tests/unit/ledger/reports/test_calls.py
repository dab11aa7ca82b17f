"""The log's cursor."""

from datetime import UTC, datetime
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.reports import calls
from ledger.reports.calls import CursorError


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "!!!!", "é", "A" * 200, "f" * 32])
def test_cursor_that_was_not_given_out_is_refused(cursor: str) -> None:
    with pytest.raises(CursorError, match="Not a cursor"):
        calls._read(cursor)


@given(st.datetimes(timezones=st.just(UTC), min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1)), st.uuids())  # noqa: DTZ001 the zone is the line's other argument
def test_cursor_keeps_the_microsecond_and_the_call(received_at: datetime, call_id: UUID) -> None:
    cursor = calls._spell({"received_at": received_at, "call_id": call_id})
    assert calls._read(cursor) == (received_at, call_id)
    assert cursor.isascii()
    assert "=" not in cursor
