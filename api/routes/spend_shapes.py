"""Shapes of reports on spend. What shapes are for: `shapes.py`."""

from datetime import datetime

from api.routes.shapes import Count, Shape, Totals


class SpendSums(Totals):
    """What calls of a period cost; the unknown is in no sum."""

    attempts: Count
    input_tokens: Count
    cached_tokens: Count
    cache_write_tokens: Count
    output_tokens: Count
    reasoning_tokens: Count
    total_tokens: Count


class SpendGroup(SpendSums):
    """Sums of one group, whose name stands under the dimension that was asked for."""

    key: str | None = None
    end_user: str | None = None
    model: str | None = None
    team: str | None = None
    tag: str | None = None
    org: str | None = None
    user: str | None = None
    deployment: str | None = None
    tier: str | None = None


class SpendReport(Shape):
    """Sums of a period by one dimension, the most expensive first."""

    start: datetime
    end: datetime
    group_by: str
    groups: list[SpendGroup]
    total: SpendSums
    overlapping: bool
    truncated: bool
