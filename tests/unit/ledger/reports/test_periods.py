"""What a report reads: every hour of its period once, as rollup or as rows, and no other hour."""

from collections import Counter
from datetime import UTC, date, datetime, timedelta
from random import Random

import pytest

from ledger.reports.periods import Plan, choose, source_of, whole_hours

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
LENGTHS = {"month": 32, "half": 16, "quarter": 8, "eighth": 4, "day": 1}
GRAINS = tuple(LENGTHS)


def _next_month(day: date) -> date:
    return date(day.year + day.month // 12, day.month % 12 + 1, 1)


def _end(grain: str, start: date) -> date:
    return min(start + LENGTHS[grain] * DAY, _next_month(start))


def _hours(plan: Plan) -> Counter[datetime]:
    spans = list(plan.rows)
    for grain, starts in plan.rollups.items():
        for start in starts:
            ends = (start, _end(grain, start))
            spans.append(tuple(datetime(each.year, each.month, each.day, tzinfo=UTC) for each in ends))  # pyright: ignore[reportArgumentType] - two of them
    hours: Counter[datetime] = Counter()
    for since, until in spans:
        at = since
        while at < until:
            hours[at] += 1
            at += HOUR
    return hours


@pytest.mark.parametrize("seed", range(60))
def test_choose_covers_each_hour_of_the_period_once(seed: int) -> None:
    rng = Random(seed)
    start = datetime(2026, 1, 1, tzinfo=UTC) + rng.randrange(0, 24 * 60) * HOUR
    end = start + rng.choice([1, 5, 24, 30, 24 * 9, 24 * 40, 24 * 100]) * HOUR
    days = [date(2026, 1, 1) + n * DAY for n in range(200)]
    every = [(grain, day) for day in days for grain, length in LENGTHS.items() if (day.day - 1) % length == 0]
    current = {each for each in every if rng.random() < rng.choice([0.0, 0.5, 0.95, 1.0])}
    plan = choose(start, end, GRAINS, current)
    due = Counter({start + n * HOUR: 1 for n in range(int((end - start) / HOUR))})
    assert _hours(plan) == due
    for grain, starts in plan.rollups.items():
        assert {(grain, each) for each in starts} <= current


def test_choose_reads_whole_months_and_the_longest_of_their_parts_where_they_are_current() -> None:
    start, end = datetime(2026, 8, 24, 6, tzinfo=UTC), datetime(2026, 11, 22, tzinfo=UTC)
    days = [date(2026, 1, 1) + n * DAY for n in range(400)]
    current = {(grain, day) for day in days for grain, length in LENGTHS.items() if (day.day - 1) % length == 0}
    plan = choose(start, end, GRAINS, current)
    assert plan.rollups == {
        "quarter": (date(2026, 8, 25),),
        "month": (date(2026, 9, 1), date(2026, 10, 1)),
        "half": (date(2026, 11, 1),),
        "eighth": (date(2026, 11, 17),),
        "day": (date(2026, 11, 21),),
    }
    assert plan.rows == ((start, datetime(2026, 8, 25, tzinfo=UTC)),)
    stale = {("month", date(2026, 9, 1)), ("half", date(2026, 9, 17)), ("quarter", date(2026, 9, 25)),
             ("eighth", date(2026, 9, 29)), ("day", date(2026, 9, 30))}  # fmt: skip
    plan = choose(start, end, GRAINS, current - stale)
    assert plan.rollups["half"] == (date(2026, 9, 1), date(2026, 11, 1))
    assert plan.rollups["quarter"] == (date(2026, 8, 25), date(2026, 9, 17))
    assert plan.rollups["day"] == (date(2026, 9, 29), date(2026, 11, 21))
    assert plan.rows[1:] == ((datetime(2026, 9, 30, tzinfo=UTC), datetime(2026, 10, 1, tzinfo=UTC)),)


@pytest.mark.parametrize("length", [1, 7, 30, 90])
def test_choose_of_any_period_that_is_rolled_up_reads_few_rollups(length: int) -> None:
    days = [date(2026, 1, 1) + n * DAY for n in range(700)]
    current = {(grain, day) for day in days for grain, step in LENGTHS.items() if (day.day - 1) % step == 0}
    for n in range(370):
        start = datetime(2026, 1, 1, tzinfo=UTC) + n * DAY
        plan = choose(start, start + length * DAY, GRAINS, current)
        assert plan.rows == ()
        assert sum(map(len, plan.rollups.values())) <= min(length, 13)


def test_choose_of_a_thousand_years_looks_at_no_day_without_a_rollup() -> None:
    start, end = datetime(1970, 1, 1, tzinfo=UTC), datetime(2999, 1, 1, tzinfo=UTC)
    plan = choose(start, end, GRAINS, {("day", date(2026, 11, 22))})
    assert plan.rollups == {"day": (date(2026, 11, 22),)}
    assert len(plan.rows) == 2


@pytest.mark.parametrize(
    ("grouped", "filtered", "source"),
    [
        ((), (), ("names", "all")),
        (("model",), (), ("names", "model")),
        (("end_user",), ("key_id",), ("names", "end_user_of_key")),
        (("end_user",), (), ("names", "end_user")),
        (("tag",), ("key_id",), ("names", "tag")),
        ((), ("tag",), ("names", "tag")),
        (("tag",), ("tag",), None),
        (("model", "tier"), ("team",), ("periods", "")),
        (("end_user",), ("model",), None),
    ],
)
def test_source_of_a_question_is_what_holds_its_dimensions(
    grouped: tuple[str, ...], filtered: tuple[str, ...], source: tuple[str, str] | None
) -> None:
    assert source_of(grouped, filtered) == source


def test_whole_hours_of_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="with a zone"):
        whole_hours(datetime(2026, 1, 1), datetime(2026, 1, 2))  # noqa: DTZ001 the fault that is tested
