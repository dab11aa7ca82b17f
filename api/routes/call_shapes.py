"""Shapes of what /ledger and /spend/logs answer about calls. What shapes are for: `shapes.py`."""

from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from pydantic import create_model
from sqlalchemy import TableClause

from api.routes.shapes import Count, EventShape, Shape, UsdNumber, UsdText
from ledger.reports.tables import CALLS


def _of_table(name: str, table: TableClause, renamed: dict[str, str]) -> type[Shape]:
    """Return the shape of a row: money is text in answers, whatever is not known yet is null."""
    fields: dict[str, Any] = {}
    for column in table.c:
        kind: Any = column.type.python_type
        kind = list[str] if kind is list else UsdText if kind is Decimal else kind
        fields[renamed.get(column.name, column.name)] = (kind | None, ...)
    return create_model(name, __base__=Shape, __doc__="A row of reporting.calls.", **fields)


CallRow = _of_table("CallRow", CALLS, {"unknown": "unknown_costs"})


class CallWithSpend(CallRow):
    """A row of reporting.calls, with what it cost; null where that is not known."""

    spend: UsdNumber | None


class LogRow(CallWithSpend):
    """A call in the request log: the columns of reporting.calls, and LiteLLM's names beside them."""

    request_id: UUID
    call_type: str
    api_key: str
    total_tokens: int | None
    prompt_tokens: int | None
    completion_tokens: int | None
    startTime: datetime  # noqa: N815 - LiteLLM's name
    endTime: datetime | None  # noqa: N815 - LiteLLM's name
    completionStartTime: datetime | None  # noqa: N815 - LiteLLM's name
    model_id: str | None
    model_group: str | None
    user: str | None
    request_tags: list[str]
    requester_ip_address: str | None
    team_id: str | None
    organization_id: str | None
    metadata: dict[str, Any]


class CostStep(Shape):
    """An event of a call that says what it costs."""

    version: int
    type: str
    at: datetime
    facts: dict[str, Any]
    after_us: int = 0
    journal_id: UUID = UUID(int=0)
    seq: int = 0


class TimelineStep(Shape):
    """Something that happened, with the microseconds since the request came."""

    version: int
    type: str
    at: datetime
    after_us: int


class ChunkSums(Shape):
    """The chunks of a call's answer."""

    count: Count
    bytes: Count
    first_after_us: int | None
    last_after_us: int | None


class NumberedLog(Shape):
    """One of the numbered pages of the log."""

    data: list[LogRow]
    total: Count
    page: Count
    page_size: Count
    total_pages: Count


class CallStory(Shape):
    """What the book says of a call."""

    call_id: UUID
    journal_id: UUID
    is_open: bool
    is_folded: bool
    call: CallWithSpend | None
    attempts: list[dict[str, Any]]
    costs: list[CostStep]
    timeline: list[TimelineStep]
    chunks: ChunkSums


class CallEvents(Shape):
    """Events of a call, a page at a time; `next_after` is null on the last page."""

    call_id: UUID
    journal_id: UUID
    data: list[EventShape]
    next_after: int | None
    corrections: list[CostStep]


class BookEvents(Shape):
    """Events of the book, a page at a time; `next_after` is null on the last page."""

    data: list[EventShape]
    next_after: str | None
