"""The views of schema `reporting` that show money: costs, their line items, and spend. Sums over rows are right."""

from ledger.postgres.script import run_script
from migrations.comments import View, create_view

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


_PLACE = {
    "journal_id": "The journal that holds the event.",
    "seq": "The event's place in its journal, from 1.",
}

_DIMS = {
    "org": "The key's organisation when the call came; empty: none.",
    "team": "The key's team when the call came; empty: none.",
    "user_id": "The key's user when the call came; empty: none.",
    "key_id": "The virtual key; empty: none.",
    "end_user": "For whom the caller called; empty: nobody named.",
    "model": "The model that the caller asked for.",
    "deployment": "The deployment that was called.",
    "tier": "The service tier that was served.",
    "tags": "The call's tags, sorted. One row holds all of them: sums over rows count each call once.",
}

_TOKENS = {
    "input_tokens": "Input tokens; cached and cache-write tokens are among them.",
    "cached_tokens": "Input tokens read from the upstream's cache.",
    "cache_write_tokens": "Input tokens written to the upstream's cache.",
    "output_tokens": "Output tokens; reasoning tokens are among them.",
    "reasoning_tokens": "Output tokens spent on reasoning.",
}

_USD = {
    "billed_usd": "USD by the upstream's own usage and a published price; exact, unrounded.",
    "estimated_usd": "USD estimated where the usage was not learnt; not part of billed_usd.",
}

_UNKNOWN = {"unknown_calls": "Charges whose amount is not known: not zero, and in no sum."}

_SUMS = {
    "calls": "Calls, each counted once.",
    "attempts": "Attempts at an upstream.",
    **_TOKENS,
    **_USD,
    **_UNKNOWN,
}

_SUM_COLUMNS = ", ".join(f"sum(s.{name}) AS {name}" for name in _SUMS)

VIEWS: dict[str, View] = {
    "costs": View(
        "One row a recorded cost or correction. A correction holds differences, so sums over rows are right.",
        """
        SELECT call_id, (facts->>'attempt')::integer AS attempt, (facts->>'revision')::integer AS revision,
            recorded_at, facts->>'state' AS state, facts->>'reason' AS reason, facts->>'price_id' AS price_id,
            facts->>'priced_model' AS priced_model, facts->>'requested_tier' AS requested_tier,
            (facts->'usage'->>'input_tokens')::bigint AS input_tokens,
            (facts->'usage'->>'cached_tokens')::bigint AS cached_tokens,
            (facts->'usage'->>'cache_write_tokens')::bigint AS cache_write_tokens,
            (facts->'usage'->>'output_tokens')::bigint AS output_tokens,
            (facts->'usage'->>'reasoning_tokens')::bigint AS reasoning_tokens,
            (facts->>'billed_usd')::numeric AS billed_usd, (facts->>'estimated_usd')::numeric AS estimated_usd,
            (facts->>'unknown')::integer AS unknown, (facts->'dims'->>'received_at')::timestamptz AS received_at,
            facts->'dims'->>'org' AS org, facts->'dims'->>'team' AS team, facts->'dims'->>'user' AS user_id,
            facts->'dims'->>'key' AS key_id, facts->'dims'->>'end_user' AS end_user, facts->'dims'->>'model' AS model,
            facts->'dims'->>'deployment' AS deployment, coalesce(facts->>'tier', '') AS tier,
            ARRAY(SELECT jsonb_array_elements_text(facts->'dims'->'tags')) AS tags,
            (facts->'dims'->>'journal_id')::uuid AS call_journal_id, journal_id, seq
        FROM ledger.events WHERE type IN ('cost.recorded', 'cost.corrected')
        """,
        {
            "call_id": "The call.",
            "attempt": "The attempt that is charged.",
            "revision": "1: as first recorded; higher: a correction.",
            "recorded_at": "When it was recorded.",
            "state": "What is known of the attempt's cost after this: billed, estimated or unknown.",
            "reason": "Why it is not billed, or why it was corrected; NULL: nothing to say.",
            "price_id": "The price it was computed with; see prices.",
            "priced_model": "The model whose price it is.",
            "requested_tier": "The service tier that the caller asked for.",
            **_TOKENS,
            **_USD,
            "unknown": "1: of unknown amount; -1: a correction after which it is known; 0: neither.",
            "received_at": "When the call's request was recorded: charges belong to this moment.",
            **_DIMS,
            "call_journal_id": "The journal that holds the call; a correction may lie in another.",
            **_PLACE,
        },
    ),
    "cost_line_items": View(
        "One row a line item of a cost: quantity times unit price. A correction's items are differences.",
        """
        SELECT e.call_id, (e.facts->>'attempt')::integer AS attempt, (e.facts->>'revision')::integer AS revision,
            i.n::integer AS item, i.facts->>'meter' AS meter, (i.facts->>'quantity')::numeric AS quantity,
            (i.facts->>'unit_price_usd')::numeric AS unit_price_usd, (i.facts->>'amount_usd')::numeric AS amount_usd,
            e.facts->>'state' AS state, e.facts->>'price_id' AS price_id, e.recorded_at, e.journal_id, e.seq
        FROM ledger.events e
        CROSS JOIN LATERAL jsonb_array_elements(e.facts->'items') WITH ORDINALITY AS i (facts, n)
        WHERE e.type IN ('cost.recorded', 'cost.corrected')
        """,
        {
            "call_id": "The call.",
            "attempt": "The attempt that is charged.",
            "revision": "1: as first recorded; higher: a correction.",
            "item": "Number of the item within its cost, from 1.",
            "meter": "What is counted, for example input_uncached or output.",
            "quantity": "How many of it.",
            "unit_price_usd": "USD for one of it.",
            "amount_usd": "Quantity times unit price, exact.",
            "state": "What is known of the attempt's cost after this: billed, estimated or unknown.",
            "price_id": "The price it was computed with; see prices.",
            "recorded_at": "When it was recorded.",
            **_PLACE,
        },
    ),
    "spend_hourly": View(
        "Sums by hour (UTC, of the request) and all dimensions. Sums over any rows count each call once.",
        f"SELECT s.hour, {', '.join(f's.{name}' for name in _DIMS)}, {', '.join(f's.{name}' for name in _SUMS)} "  # noqa: S608 constants of this file
        "FROM ledger.spend s",
        {"hour": "Beginning of the hour, UTC.", **_DIMS, **_SUMS},
    ),
    "spend_daily": View(
        "Sums by day (UTC, of the request) and all dimensions. Sums over any rows count each call once.",
        "SELECT (s.hour AT TIME ZONE 'UTC')::date AS day, "  # noqa: S608 constants of this file
        f"{', '.join(f's.{name}' for name in _DIMS)}, {_SUM_COLUMNS} "
        f"FROM ledger.spend s GROUP BY 1, {', '.join(f's.{name}' for name in _DIMS)}",
        {"day": "The day, UTC.", **_DIMS, **_SUMS},
    ),
    "spend_by_key": View(
        "Sums of each virtual key over all time, with what the key is called today.",
        """
        SELECT t.key_id, coalesce(k.key_alias, '') AS key_alias, coalesce(k.org, '') AS org,
            coalesce(k.team, '') AS team, coalesce(k.user_id, '') AS user_id, t.calls, t.billed_usd, t.estimated_usd,
            t.unknown_calls
        FROM ledger.key_totals t LEFT JOIN ledger.keys k ON k.key_id = t.key_id
        """,
        {
            "key_id": "The virtual key; empty: calls without one.",
            "key_alias": "The key's alias today.",
            "org": "The key's organisation today.",
            "team": "The key's team today.",
            "user_id": "The key's user today.",
            "calls": _SUMS["calls"],
            **_USD,
            **_UNKNOWN,
        },
    ),
    "spend_by_end_user": View(
        "Sums of each end user over all time.",
        "SELECT end_user, calls, billed_usd, estimated_usd, unknown_calls FROM ledger.end_user_totals",
        {
            "end_user": "The end user; empty: the calls that named nobody.",
            "calls": _SUMS["calls"],
            **_USD,
            **_UNKNOWN,
        },
    ),
    "spend_by_tag": View(
        "Sums by day (UTC) and tag. Tags overlap: a call with two tags is in two rows, so never add up over tags.",
        "SELECT (s.hour AT TIME ZONE 'UTC')::date AS day, t.tag, "  # noqa: S608 constants of this file
        f"{_SUM_COLUMNS} FROM ledger.spend s CROSS JOIN LATERAL unnest(s.tags) AS t (tag) GROUP BY 1, 2",
        {
            "day": "The day, UTC.",
            "tag": "The tag. Rows of different tags overlap: do not add them up.",
            **_SUMS,
        },
    ),
}


def upgrade() -> None:
    """Make the views of costs and spend."""
    for name, view in VIEWS.items():
        run_script(create_view(name, view))


def downgrade() -> None:
    """Drop the views; nothing is stored in them."""
    run_script("DROP VIEW " + ", ".join(f"reporting.{name}" for name in VIEWS))
