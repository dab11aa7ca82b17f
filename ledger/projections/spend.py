"""Projection `spend`: sums by hour and dimensions, and the totals of each key and end user.

Past days are rolled up, see `rollup.py`.

Reads costs and corrections alone: their facts hold all dimensions of the call, and a correction holds differences, so
that everything is addition. `calls.py` shows the same money call by call.
"""

from ledger.projections.definition import Projection, events_where
from ledger.projections.rollup import Rollup, touch

COSTS = events_where("type ^@ 'cost.'")

#: The spans are read once; the three tables are fed from one grouping of them. A cost that cannot be read raises, with
#: its place, instead of counting as nothing. Hours are cut as text: the facts' times are RFC 3339 in UTC.
FOLD = f"""
WITH costs AS MATERIALIZED (
    SELECT left(dims->>'received_at', 13) AS hour, dims->>'org' AS org, dims->>'team' AS team, dims->>'user' AS user_id,
        dims->>'key' AS key_id, dims->>'end_user' AS end_user, dims->>'model' AS model,
        dims->>'deployment' AS deployment, coalesce(facts->>'tier', '') AS tier, dims->'tags' AS tags,
        sum((facts->>'calls')::bigint) AS calls,
        count(*) FILTER (WHERE type = 'cost.recorded') AS attempts,
        coalesce(sum((facts->'usage'->>'input_tokens')::bigint), 0) AS input_tokens,
        coalesce(sum((facts->'usage'->>'cached_tokens')::bigint), 0) AS cached_tokens,
        coalesce(sum((facts->'usage'->>'cache_write_tokens')::bigint), 0) AS cache_write_tokens,
        coalesce(sum((facts->'usage'->>'output_tokens')::bigint), 0) AS output_tokens,
        coalesce(sum((facts->'usage'->>'reasoning_tokens')::bigint), 0) AS reasoning_tokens,
        sum(CASE WHEN ledger.readable_cost(type, schema, facts) THEN (facts->>'billed_usd')::numeric
                 ELSE ledger.unreadable(type, journal_id, seq) END) AS billed_usd,
        sum((facts->>'estimated_usd')::numeric) AS estimated_usd,
        sum((facts->>'unknown')::bigint) AS unknown_calls
    FROM (SELECT facts->'dims' AS dims, * FROM ({COSTS}) AS events OFFSET 0) AS costs
    GROUP BY 1, 2, 3, 4, 5, 6, 7, 8, 9, 10
), named AS MATERIALIZED (
    SELECT left(hour, 10)::date AS day,
        (hour || ':00Z')::timestamptz AS hour, ledger.bounded(org) AS org, ledger.bounded(team) AS team,
        ledger.bounded(user_id) AS user_id, ledger.bounded(key_id) AS key_id, ledger.bounded(end_user) AS end_user,
        ledger.bounded(model) AS model, ledger.bounded(deployment) AS deployment, ledger.bounded(tier) AS tier,
        CASE tags WHEN '[]' THEN '{{}}' ELSE ARRAY(SELECT jsonb_array_elements_text(tags)) END AS tags,
        calls, attempts, input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens,
        billed_usd, estimated_usd, unknown_calls
    FROM costs
), into_spend AS (
    INSERT INTO @target@.spend AS s (
        hour, dims_sha256, org, team, user_id, key_id, end_user, model, deployment, tier, tags, calls, attempts,
        input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, billed_usd, estimated_usd,
        unknown_calls
    )
    SELECT hour, sha256(convert_to(jsonb_build_array(org, team, user_id, key_id, end_user, model, deployment, tier,
                                                     to_jsonb(tags))::text, 'UTF8')) AS dims_sha256,
        org, team, user_id, key_id, end_user, model, deployment, tier, tags, calls, attempts, input_tokens,
        cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, billed_usd, estimated_usd, unknown_calls
    FROM named ORDER BY hour, dims_sha256
    ON CONFLICT (hour, dims_sha256) DO UPDATE SET
        calls = s.calls + excluded.calls, attempts = s.attempts + excluded.attempts,
        input_tokens = s.input_tokens + excluded.input_tokens,
        cached_tokens = s.cached_tokens + excluded.cached_tokens,
        cache_write_tokens = s.cache_write_tokens + excluded.cache_write_tokens,
        output_tokens = s.output_tokens + excluded.output_tokens,
        reasoning_tokens = s.reasoning_tokens + excluded.reasoning_tokens,
        billed_usd = s.billed_usd + excluded.billed_usd, estimated_usd = s.estimated_usd + excluded.estimated_usd,
        unknown_calls = s.unknown_calls + excluded.unknown_calls
), into_spend_rolled AS ({touch("named", "spend")}), into_key_totals AS (
    INSERT INTO @target@.key_totals AS t (key_id, calls, billed_usd, estimated_usd, unknown_calls, batch)
    SELECT key_id, sum(calls), sum(billed_usd), sum(estimated_usd), sum(unknown_calls), $4
    FROM named GROUP BY key_id ORDER BY key_id
    ON CONFLICT (key_id) DO UPDATE SET
        calls = t.calls + excluded.calls, billed_usd = t.billed_usd + excluded.billed_usd,
        estimated_usd = t.estimated_usd + excluded.estimated_usd,
        unknown_calls = t.unknown_calls + excluded.unknown_calls, batch = excluded.batch
)
INSERT INTO @target@.end_user_totals AS t (end_user, calls, billed_usd, estimated_usd, unknown_calls, batch)
SELECT end_user, sum(calls), sum(billed_usd), sum(estimated_usd), sum(unknown_calls), $4
FROM named GROUP BY end_user ORDER BY end_user
ON CONFLICT (end_user) DO UPDATE SET
    calls = t.calls + excluded.calls, billed_usd = t.billed_usd + excluded.billed_usd,
    estimated_usd = t.estimated_usd + excluded.estimated_usd,
    unknown_calls = t.unknown_calls + excluded.unknown_calls, batch = excluded.batch
"""  # noqa: S608 the only insertion is a constant of this package

ROLLUP = Rollup(
    prefix="spend",
    rows="""
    SELECT * FROM @target@.spend
    WHERE hour >= $1::date::timestamp AT TIME ZONE 'UTC' AND hour < ($1::date + 1)::timestamp AT TIME ZONE 'UTC'
""",
    sums=(
        "calls", "attempts", "input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens",
        "reasoning_tokens", "billed_usd", "estimated_usd", "unknown_calls",
    ),
    has_end_users=True,
)  # fmt: skip

SPEND = Projection(
    name="spend",
    version=3,
    tables=("spend", "spend_rolled", "key_totals", "end_user_totals"),
    statements=(FOLD,),
    numbered=True,
    rollup=ROLLUP,
)
