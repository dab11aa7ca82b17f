"""Dates, moments and durations as people send them; all become aware times in UTC. Pure."""

import calendar
import re
from datetime import UTC, datetime, timedelta
from typing import Final

from api.errors import bad_request

MOMENTS: Final = "2026-11-22 (a UTC day), 2026-11-22 09:30:00 (UTC) or 2026-11-22T09:30:00Z (RFC 3339)"
DURATIONS: Final = "a number with s, m, h, d, w or mo, such as 30s, 30m, 30h, 30d or 1mo"

_DAY: Final = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_MOMENT: Final = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:\.\d{1,6})?(?P<zone>Z|[+-]\d\d:\d\d)?", re.ASCII | re.IGNORECASE
)
#: A plus sign that nobody encoded arrives as a space.
_SPACE_FOR_PLUS: Final = re.compile(r"(?<=[0-9]) (?=\d\d:\d\d$)", re.ASCII)
_DURATION: Final = re.compile(r"([1-9]\d{0,9})(s|m|h|d|w|mo)", re.ASCII)
_UNITS_S: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_DAY_LONG: Final = timedelta(days=1)
_YEARS: Final = range(1970, 3000)
_YEARS_AHEAD_MAX: Final = 100


def read_moment(text: str, param: str, *, is_end: bool = False) -> datetime:
    """Return the moment that `text` names; a bare day as an end (`is_end`) means the end of that day.

    Raises:
        ApiFailure: 400, naming `param` and what is accepted.
    """
    text = text.strip()
    try:
        if _DAY.fullmatch(text):
            return _in_range(datetime.fromisoformat(f"{text}T00:00:00Z")) + (_DAY_LONG if is_end else timedelta())
        return _read_time(text)
    except ValueError as error:
        years = f"between {_YEARS[0]} and {_YEARS[-1]}"
        raise bad_request(f"{param} must be {MOMENTS}, {years}: got {text[:60]!r}.", param=param) from error


def _read_time(text: str) -> datetime:
    text = _SPACE_FOR_PLUS.sub("+", text) if "T" in text.upper() else text
    matched = _MOMENT.fullmatch(text)
    if matched is None:
        raise ValueError(text)
    moment = datetime.fromisoformat(text.upper())
    return _in_range(moment.replace(tzinfo=UTC) if matched["zone"] is None else moment).astimezone(UTC)


def _in_range(moment: datetime) -> datetime:
    if moment.year not in _YEARS:
        raise ValueError(moment)
    return moment


def after(duration: str, start: datetime, param: str = "duration") -> datetime:
    """Return the moment `duration` after `start`; `mo` are calendar months, shortened to the month's last day.

    Raises:
        ApiFailure: 400 for what is no duration, or leads more than a hundred years ahead.
    """
    matched = _DURATION.fullmatch(duration.strip())
    if matched is None:
        raise bad_request(f"{param} must be {DURATIONS}: got {duration[:60]!r}.", param=param)
    number, unit = int(matched[1]), matched[2]
    latest = _months_after(start, 12 * _YEARS_AHEAD_MAX)
    if unit == "mo":
        end = _months_after(start, number) if number <= 12 * _YEARS_AHEAD_MAX else None
    else:
        seconds = number * _UNITS_S[unit]
        end = start + timedelta(seconds=seconds) if seconds <= (latest - start).total_seconds() else None
    if end is None:
        raise bad_request(f"{param} must be at most {_YEARS_AHEAD_MAX} years: got {duration[:60]!r}.", param=param)
    return end


def _months_after(start: datetime, months: int) -> datetime:
    years, month = divmod(start.month - 1 + months, 12)
    year, month = start.year + years, month + 1
    return start.replace(year=year, month=month, day=min(start.day, calendar.monthrange(year, month)[1]))
