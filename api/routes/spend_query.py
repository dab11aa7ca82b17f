"""What reports on spend are asked, and how their sums look: the filters that they share, read once and the same way.

The routes are in `spend.py`, `global_spend.py`, `activity.py`; tables as CSV in `csv_answer.py`.
"""

from datetime import UTC, datetime, timedelta
from typing import Any, Final, get_args

from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import bad_request
from api.routes.key_changes import names_of
from api.routes.parameters import Given, Parameter
from ledger.money.exact import plain
from ledger.reports.keys import key_id_of
from ledger.reports.spend import GroupBy, SpendFilters, Sums
from ledger.reports.tables import TOKENS

#: Before any call, for sums over all time.
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
GROUPS_MAX: Final = 10_000
TRUNCATED: Final = "x-llm-truncated"

KEY: Final = Parameter("key_id", "Calls of this key: the key, its hash or its key_id.", ("api_key",))
FILTERS: Final = (
    KEY,
    Parameter("user_id", "Calls of this user's keys.", ("internal_user_id", "user")),
    Parameter("end_user", "Calls for this end user; empty: for nobody named.", ("end_user_id", "customer_id")),
    Parameter("model", "Calls that asked for this model.", ("model_group",)),
    Parameter("org", "Calls of this organisation's keys.", ("organization_id",)),
    Parameter("team", "Calls of this team's keys.", ("team_id",)),
    Parameter("tag", "Calls with this tag."),
)
FLAGS: Final = (
    Parameter("interrupted", "true: calls that were cut, cancelled, abandoned or hung up on."),
    Parameter("unpriced", "true: calls with an unknown cost."),
    Parameter("estimated", "true: calls with an estimated cost."),
)
GROUPS: Final[dict[str, GroupBy]] = {
    **{name: name for name in get_args(GroupBy)},
    "api_key": "key",
    "customer": "end_user",
    "organization": "org",
    "internal_user": "user",
}


def dimensions_of(given: Given) -> dict[str, str | None]:
    """Return the filters by dimension, but for the key."""
    return {name: given.text(name) for name in ("end_user", "org", "team", "user_id", "model", "tag")}


async def key_id_given(connection: AsyncConnection, given: Given) -> str | None:
    """Return the key_id that a filter means; a key or a hash that nobody has matches nothing."""
    name = given.text("key_id")
    names = {} if name is None else names_of(name)
    if "key_hash" in names:
        return await key_id_of(connection, names["key_hash"]) or f"unknown key {names['key_hash']}"
    return name


async def key_ids_given(connection: AsyncConnection, given: Given) -> tuple[str, ...] | None:
    """Return the key_id that a filter means as the reports take it; None where none is given."""
    key_id = await key_id_given(connection, given)
    return None if key_id is None else (key_id,)


async def filters_of(connection: AsyncConnection, given: Given) -> SpendFilters:
    """Return the filters of a request with FILTERS and FLAGS."""
    named = {"key_id": await key_id_given(connection, given), **dimensions_of(given)}
    filters: dict[str, Any] = {name: (value,) for name, value in named.items() if value is not None}
    filters |= {each.name: given.flag(each.name) for each in FLAGS}
    return SpendFilters(**filters)


def period_of(given: Given, *, days: int | None) -> tuple[datetime, datetime]:
    """Return the period asked for; where an end of it is open, the last `days` up to now, or (None) all time."""
    start, end = given.period()
    until = end or datetime.now(UTC) + timedelta(hours=1)
    since = start or (EPOCH if days is None else until - timedelta(days=days))
    if since >= until:
        raise bad_request(
            "start_date must be earlier than end_date, or than now where that is absent.", param="start_date"
        )
    return since, until


def day_of(bucket: datetime | None) -> str:
    """Return a day as answers name it."""
    return "" if bucket is None else bucket.strftime("%Y-%m-%d")


def shown_sums(sums: Sums) -> dict[str, Any]:
    """Return sums as answers show them: `spend` a number, as LiteLLM has it; ours are texts, and the unknown apart."""
    return {
        "spend": sums.billed_usd + sums.estimated_usd,
        "billed_usd": plain(sums.billed_usd),
        "estimated_usd": plain(sums.estimated_usd),
        "unknown_calls": sums.unknown_calls,
        "calls": sums.calls,
        "attempts": sums.attempts,
        **{name: getattr(sums, name) for name in TOKENS},
        "total_tokens": sums.input_tokens + sums.output_tokens,
    }


SUM_COLUMNS: Final = tuple(shown_sums(Sums()))
