"""What is asked of organization usage and costs: parameters, buckets and pages. `organization.py` answers.

A page's cursor holds the place of the next bucket and the end of the whole, so that a page asked for later goes on
where the one before ended, and ends where that one would have.
"""

import base64
import binascii
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import Caller
from api.errors import bad_request
from api.routes.key_changes import names_of
from api.routes.parameters import Given, Parameter, Parameters
from api.routes.spend_query import FLAGS
from ledger.reports.buckets import DAY_S, HOUR_S, MINUTE_S, Dimension, Only, Span
from ledger.reports.keys import key_id_of

#: Our names of OpenAI's dimensions; `end_user_id` is an addition.
DIMENSIONS: Final[dict[str, Dimension]] = {
    "project_id": "team",
    "user_id": "user_id",
    "api_key_id": "key_id",
    "model": "model",
    "service_tier": "tier",
    "end_user_id": "end_user",
}
#: Width of a bucket, usual and greatest number of buckets on a page.
WIDTHS: Final = {"1m": (MINUTE_S, 60, 1_440), "1h": (HOUR_S, 24, 168), "1d": (DAY_S, 7, 31)}
COST_WIDTHS: Final = {"1d": (DAY_S, 7, 180)}
USAGE_GROUPS: Final = (
    "project_id", "user_id", "api_key_id", "model", "batch", "service_tier", "api_source", "end_user_id",
)  # fmt: skip
COST_GROUPS: Final = ("project_id", "user_id", "line_item", "api_key_id", "api_source", "end_user_id")

_MOMENT_MAX: Final = 32_503_680_000  # the year 3000
_PAGE: Final = re.compile(r"(\d{1,11}) (\d{1,11}) (\d{1,5})", re.ASCII)

_START: Final = Parameter(
    "start_time", "Unix seconds; the bucket that holds this moment is the first.", is_required=True
)
_END: Final = Parameter("end_time", "Unix seconds, exclusive; the last bucket counts in whole. Usually now.")
_PAGE_PARAMETER: Final = Parameter("page", "The page after this one: what next_page said.")


def _names(name: str, meaning: str, *, has_commas: bool = True) -> Parameter:
    return Parameter(name, meaning, is_list=True, has_commas=has_commas)


_PROJECTS: Final = _names("project_ids", "Calls of these teams' keys.")
_USERS: Final = _names("user_ids", "Calls of these users' keys.")
_KEYS: Final = _names("api_key_ids", "Calls of these keys: the key_id, the key or its hash.")
#: What people call themselves may contain commas.
_END_USERS: Final = _names("end_user_ids", "Calls for these end users. (OpenAI has none.)", has_commas=False)
_TAGS: Final = _names("tags", "Calls with one of these tags at least. (OpenAI has none.)", has_commas=False)

USAGE: Final = Parameters(
    _START,
    _END,
    Parameter("bucket_width", f"One of {', '.join(WIDTHS)}; usually 1d."),
    Parameter("limit", "Buckets a page: usually 7 and at most 31 of 1d, 24 and 168 of 1h, 60 and 1440 of 1m."),
    _PAGE_PARAMETER,
    _PROJECTS,
    _USERS,
    _KEYS,
    _names("models", "Calls that asked for these models."),
    Parameter("batch", "true: calls of the Batch API, of which there are none here; false: all others."),
    _END_USERS,
    _TAGS,
    *FLAGS,
    _names("group_by", f"Any of {', '.join(USAGE_GROUPS)}."),
)
COSTS: Final = Parameters(
    _START,
    _END,
    Parameter("bucket_width", "1d."),
    Parameter("limit", "Days a page: 1 to 180, usually 7."),
    _PAGE_PARAMETER,
    _PROJECTS,
    _USERS,
    _KEYS,
    _names("line_items", "Only these line items, for example 'gpt-5, output_tokens'.", has_commas=False),
    _END_USERS,
    _TAGS,
    *FLAGS,
    _names("group_by", f"Any of {', '.join(COST_GROUPS)}."),
)


@dataclass(frozen=True, slots=True)
class Asked:
    """Which buckets a page holds, where all of them end, and by what their results are grouped.

    `span` is None where nothing can be: the period begins after now.
    """

    span: Span | None
    end: int
    group_by: tuple[str, ...]

    @property
    def dimensions(self) -> tuple[Dimension, ...]:
        """The dimensions among `group_by`, under our names."""
        return tuple(DIMENSIONS[name] for name in self.group_by if name in DIMENSIONS)


def read_asked(given: Given, widths: dict[str, tuple[int, int, int]], groups: Sequence[str]) -> Asked:
    """Return what a request asks for.

    Raises:
        ApiFailure: 400.
    """
    width_s, usual, most = widths[given.choice("bucket_width", tuple(widths), "1d") or "1d"]
    limit = given.integer("limit", usual, least=1, most=most)
    group_by = given.choices("group_by", groups)
    start, end = _period(given, width_s)
    page = given.text("page")
    if page is not None:
        start, end = _read_page(page, width_s, start)
    span = Span(start, min(end, start + limit * width_s), width_s) if start < end else None
    return Asked(span, end, group_by)


def _period(given: Given, width_s: int) -> tuple[int, int]:
    """Return the period in whole buckets; none begins after now."""
    start = given.integer("start_time", 0, least=0, most=_MOMENT_MAX)
    now = int(time.time())
    end = given.integer("end_time", now + 1, least=0, most=_MOMENT_MAX)
    if given.text("end_time") is not None and start >= end:
        raise bad_request(f"end_time must be later than start_time: got {start} to {end}.", param="end_time")
    return start // width_s * width_s, -(-min(end, now + 1) // width_s) * width_s


def next_page(span: Span, end: int) -> str:
    """Return the cursor of the page that begins where `span` ends."""
    return "page_" + base64.urlsafe_b64encode(f"{span.end} {end} {span.width_s}".encode()).decode().rstrip("=")


def _read_page(page: str, width_s: int, earliest: int) -> tuple[int, int]:
    text = page.removeprefix("page_")
    try:
        matched = _PAGE.fullmatch(base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii"))
    except (binascii.Error, ValueError):
        matched = None
    start, end, width = (int(each) for each in matched.groups()) if matched else (0, 0, 0)
    if width != width_s or start % width_s or end % width_s or not earliest <= start < end <= _MOMENT_MAX:
        raise bad_request(
            f"page must be the next_page of an answer to the same question: got {page[:60]!r}.", param="page"
        )
    return start, end


async def read_only(connection: AsyncConnection, given: Given, who: Caller) -> Only:
    """Return which calls count; keys by their key_id, and one that nobody has matches nothing."""
    names: dict[Dimension, tuple[str, ...]] = {
        "team": given.texts("project_ids"),
        "user_id": given.texts("user_ids"),
        "key_id": tuple([await _key_id(connection, name) for name in given.texts("api_key_ids")]),
        "model": given.texts("models"),
        "end_user": given.texts("end_user_ids"),
    }
    return Only(names, given.texts("tags"), who.scope, **{each.name: given.flag(each.name) for each in FLAGS})


async def _key_id(connection: AsyncConnection, name: str) -> str:
    names = names_of(name)
    if "key_hash" in names:
        return await key_id_of(connection, names["key_hash"]) or f"unknown key {names['key_hash']}"
    return name
