"""Projection `calls`: one row a call, from its first event on, with its money.

A call may span many batches, and a correction of its cost may lie in another journal and be folded first: every column
is an addition, a maximum or "what is newer in the call's own journal", never a question of who came last.
"""

from ledger.projections.definition import Projection, events_where
from ledger.projections.rollup import Rollup, touch

#: What holds nothing for the row is left out before the sort.
EVENTS = events_where("call_id IS NOT NULL AND type NOT IN ('body.received', 'body.part', 'attempt.failed')")

#: One row a call and batch: aggregates pick each fact out of the events that have it.
#: `last(...)` of an attempt is spelt as a maximum over its number and the value, which needs no sort. They are grouped
#: on their own, so that the order of writing does not make the planner sort the events, which are larger and more.
FOLD = f"""
WITH called AS MATERIALIZED (
SELECT call_id, home,
    max(recorded_at) FILTER (WHERE received),
    coalesce(max(facts->>'method') FILTER (WHERE received), ''),
    coalesce(max(facts->>'path') FILTER (WHERE received), ''),
    coalesce(max(ledger.bounded(facts->>'key_id')) FILTER (WHERE received), ''),
    coalesce(max(facts->>'key_alias') FILTER (WHERE received), ''),
    coalesce(max(ledger.bounded(facts->>'org')) FILTER (WHERE received), ''),
    coalesce(max(ledger.bounded(facts->>'team')) FILTER (WHERE received), ''),
    coalesce(max(ledger.bounded(facts->>'user')) FILTER (WHERE received), ''),
    coalesce(max(ledger.bounded(facts->>'end_user')) FILTER (WHERE received), ''),
    coalesce(max(CASE facts->'tags' WHEN '[]' THEN '{{}}'
                      ELSE ARRAY(SELECT jsonb_array_elements_text(facts->'tags')) END) FILTER (WHERE received), '{{}}'),
    coalesce(max(ledger.bounded(facts->>'model')) FILTER (WHERE received), ''),
    coalesce(bool_or((facts->>'stream')::boolean) FILTER (WHERE received), false),
    coalesce(max(facts->>'client_address') FILTER (WHERE received), ''),
    max((facts->>'client_retry')::integer) FILTER (WHERE received),
    max((facts->>'body_bytes')::bigint) FILTER (WHERE received),
    coalesce(bool_and(facts->>'store_bodies' IS DISTINCT FROM 'none') FILTER (WHERE received), true),

    coalesce(max((facts->>'attempt')::integer) FILTER (WHERE type = 'attempt.started'), 0),
    coalesce(substr(max(lpad(facts->>'attempt', 6, '0') || ledger.bounded(facts->>'deployment') COLLATE "C")
                    FILTER (WHERE type = 'attempt.started'), 7), ''),
    substr(max(lpad(facts->>'attempt', 6, '0') || (facts->>'upstream_model') COLLATE "C")
           FILTER (WHERE type = 'attempt.started'), 7),
    substr(max(lpad(facts->>'attempt', 6, '0') || (facts->>'upstream_request_id') COLLATE "C")
           FILTER (WHERE type = 'attempt.answered'), 7),

    coalesce(max(substr(type, 6)) FILTER (WHERE ended), 'in_progress'),
    max(coalesce(facts->>'http_status', facts->>'status')::integer) FILTER (WHERE ended),
    max(facts->'error'->>'code') FILTER (WHERE ended),
    max(facts->>'model') FILTER (WHERE ended),
    coalesce(max(ledger.bounded(facts->>'tier')) FILTER (WHERE ended), ''),
    max(ledger.bounded(facts->>'response_id')) FILTER (WHERE ended),
    max((facts->>'first_chunk_us')::bigint) FILTER (WHERE ended),
    max((facts->>'duration_us')::bigint) FILTER (WHERE ended),
    max((facts->>'chunks')::bigint) FILTER (WHERE ended),
    max((facts->>'answer_bytes')::bigint) FILTER (WHERE ended),
    max(recorded_at) FILTER (WHERE ended),
    coalesce(bool_or((facts->>'delivered')::boolean) FILTER (WHERE ended), false),
    coalesce(bool_or(type = 'client.disconnected'), false),

    sum((facts->'usage'->>'input_tokens')::bigint) FILTER (WHERE charged),
    sum((facts->'usage'->>'cached_tokens')::bigint) FILTER (WHERE charged),
    sum((facts->'usage'->>'cache_write_tokens')::bigint) FILTER (WHERE charged),
    sum((facts->'usage'->>'output_tokens')::bigint) FILTER (WHERE charged),
    sum((facts->'usage'->>'reasoning_tokens')::bigint) FILTER (WHERE charged),
    coalesce(sum(CASE WHEN ledger.readable_cost(type, schema, facts) THEN (facts->>'billed_usd')::numeric
                      ELSE ledger.unreadable(type, journal_id, seq) END) FILTER (WHERE charged), 0),
    coalesce(sum((facts->>'estimated_usd')::numeric) FILTER (WHERE charged), 0),
    coalesce(sum((facts->>'unknown')::integer) FILTER (WHERE charged), 0),
    coalesce(max(lpad(facts->>'attempt', 5, '0') || '.' || lpad(facts->>'revision', 6, '0') || '.'
                 || (facts->>'state') COLLATE "C") FILTER (WHERE charged), '')
FROM (
    SELECT *,
        type = 'call.received' AS received,
        type IN ('call.completed', 'call.failed', 'call.incomplete', 'call.cancelled', 'call.truncated',
                 'call.abandoned', 'call.rejected') AS ended,
        type ^@ 'cost.' AS charged,
        CASE WHEN type = 'cost.corrected' THEN (facts->'dims'->>'journal_id')::uuid ELSE journal_id END AS home
    FROM ({EVENTS}) AS events
    OFFSET 0
) AS events
GROUP BY call_id, home
), into_calls AS (
INSERT INTO @target@.calls AS c (
    call_id, journal_id,
    received_at, method, path, key_id, key_alias, org, team, user_id, end_user, tags, model, stream, client_address,
    client_retry, request_bytes, bodies_stored,
    attempts, deployment, upstream_model, upstream_request_id,
    status, http_status, error_code, answered_model, tier, response_id, first_chunk_us, duration_us, chunks,
    answer_bytes, finished_at, delivered, disconnected,
    input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens,
    billed_usd, estimated_usd, unknown, cost_mark
)
SELECT * FROM called ORDER BY call_id, home
ON CONFLICT (call_id, journal_id) DO UPDATE SET
    received_at = coalesce(c.received_at, excluded.received_at),
    method = greatest(c.method, excluded.method),
    path = greatest(c.path, excluded.path),
    key_id = greatest(c.key_id, excluded.key_id),
    key_alias = greatest(c.key_alias, excluded.key_alias),
    org = greatest(c.org, excluded.org),
    team = greatest(c.team, excluded.team),
    user_id = greatest(c.user_id, excluded.user_id),
    end_user = greatest(c.end_user, excluded.end_user),
    tags = greatest(c.tags, excluded.tags),
    model = greatest(c.model, excluded.model),
    stream = c.stream OR excluded.stream,
    client_address = greatest(c.client_address, excluded.client_address),
    client_retry = coalesce(c.client_retry, excluded.client_retry),
    request_bytes = coalesce(c.request_bytes, excluded.request_bytes),
    bodies_stored = c.bodies_stored AND excluded.bodies_stored,
    attempts = greatest(c.attempts, excluded.attempts),
    deployment = coalesce(nullif(excluded.deployment, ''), c.deployment),
    upstream_model = coalesce(excluded.upstream_model, c.upstream_model),
    upstream_request_id = coalesce(excluded.upstream_request_id, c.upstream_request_id),
    status = CASE c.status WHEN 'in_progress' THEN excluded.status ELSE c.status END,
    http_status = coalesce(c.http_status, excluded.http_status),
    error_code = coalesce(c.error_code, excluded.error_code),
    answered_model = coalesce(c.answered_model, excluded.answered_model),
    tier = greatest(c.tier, excluded.tier),
    response_id = coalesce(c.response_id, excluded.response_id),
    first_chunk_us = coalesce(c.first_chunk_us, excluded.first_chunk_us),
    duration_us = coalesce(c.duration_us, excluded.duration_us),
    chunks = coalesce(c.chunks, excluded.chunks),
    answer_bytes = coalesce(c.answer_bytes, excluded.answer_bytes),
    finished_at = coalesce(c.finished_at, excluded.finished_at),
    delivered = c.delivered OR excluded.delivered,
    disconnected = c.disconnected OR excluded.disconnected,
    input_tokens = coalesce(c.input_tokens + excluded.input_tokens, c.input_tokens, excluded.input_tokens),
    cached_tokens = coalesce(c.cached_tokens + excluded.cached_tokens, c.cached_tokens, excluded.cached_tokens),
    cache_write_tokens = coalesce(c.cache_write_tokens + excluded.cache_write_tokens, c.cache_write_tokens,
                                  excluded.cache_write_tokens),
    output_tokens = coalesce(c.output_tokens + excluded.output_tokens, c.output_tokens, excluded.output_tokens),
    reasoning_tokens = coalesce(c.reasoning_tokens + excluded.reasoning_tokens, c.reasoning_tokens,
                                excluded.reasoning_tokens),
    billed_usd = c.billed_usd + excluded.billed_usd,
    estimated_usd = c.estimated_usd + excluded.estimated_usd,
    unknown = c.unknown + excluded.unknown,
    cost_mark = greatest(c.cost_mark, excluded.cost_mark)
RETURNING (c.received_at AT TIME ZONE 'UTC')::date AS day
)
{touch("into_calls", "call")}
"""  # noqa: S608 the only insertion is a constant of this package

#: How calls ended, by the day of the request; what it cost is the matter of `spend.py`.
ROLLUP = Rollup(
    prefix="call",
    rows="""
    SELECT org, team, user_id, key_id, end_user, model, deployment, tier, tags,
        (status IN ('completed', 'incomplete'))::integer AS succeeded,
        (status NOT IN ('completed', 'incomplete'))::integer AS failed
    FROM @target@.calls
    WHERE received_at >= $1::date::timestamp AT TIME ZONE 'UTC'
      AND received_at < ($1::date + 1)::timestamp AT TIME ZONE 'UTC' AND status <> 'in_progress'
""",
    sums=("succeeded", "failed"),
    has_end_users=False,
)

CALLS = Projection(
    name="calls",
    version=4,
    tables=("calls", "call_rolled"),
    statements=(FOLD,),
    numbered=False,
    rollup=ROLLUP,
)
