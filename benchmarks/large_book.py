"""Makes a book of a million calls in a minute or two, so that reports have something to add up.

The events are what the proxy records, as far as a projection reads them: requests, attempts, ends, costs and some
corrections; no bodies and no chunks. Their chain is not computed: such a book is for speed, not for `verify`.

What it holds, for N calls over 90 days up to now: 200 keys (one has 15 % of the calls) in 12 teams, 3 organisations
and of 40 users; up to 20,000 end users, of whom a few call often and most seldom, each through two keys or the large
one; 6 models in 2 deployments each; 3 tiers; none to three of 8 tags; and of every hundred calls about 92 billed, 2
estimated, 1 of unknown cost, 1 corrected afterwards, 1 rejected, 2 failed.
"""

from collections.abc import Callable

import asyncpg

from ledger.postgres.connect import connect

DAYS = 90
_CALLS_A_JOURNAL = 50_000
_OPEN = 'SELECT ledger.open_journal(\'{"host": "benchmark"}\'::jsonb, NULL, NULL)'
_SEALED = "UPDATE ledger.journals SET sealed_at = now() WHERE journal_id = $1::uuid"

#: $1 journal, $2 first call, $3 last call, $4 calls in all, $5 days. Draws are made once a call, innermost.
_FILL = """
WITH drawn AS MATERIALIZED (
    SELECT n, now() - ($4 - n) * ($5::float8 / $4) * interval '1 day' AS at, random() AS of_user, random() AS of_key,
        floor(random() * 100)::int AS fate, floor(random() * 6)::int AS model, floor(random() * 2)::int AS side,
        floor(random() * 20)::int AS tier, floor(random() * 10)::int AS tags, floor(random() * 4000)::int AS tokens
    FROM generate_series($2::bigint, $3::bigint) AS n
), dealt AS MATERIALIZED (
    SELECT *, floor(20000 * of_user * of_user)::int AS end_user,
        CASE WHEN of_key < 0.15 THEN 0 ELSE (floor(20000 * of_user * of_user)::int * 7 + side) % 200 END AS key,
        md5($1::uuid::text || n)::uuid AS call_id,
        (ARRAY['gpt-4o', 'gpt-4o-mini', 'gpt-5', 'gpt-5-mini', 'gpt-5-nano', 'o3'])[model + 1] AS name,
        CASE WHEN fate = 0 THEN 'rejected' WHEN fate IN (1, 2) THEN 'failed' WHEN fate IN (3, 4) THEN 'truncated'
             WHEN fate = 5 THEN 'abandoned' ELSE 'completed' END AS status,
        CASE WHEN fate IN (3, 4) THEN 'estimated' WHEN fate = 5 THEN 'unknown' ELSE 'billed' END AS state,
        CASE WHEN tier < 17 THEN 'default' WHEN tier < 19 THEN 'priority' ELSE 'flex' END AS served,
        (ARRAY['[]', '[]', '[]', '[]', '["batch"]', '["prod"]', '["prod"]', '["beta", "prod"]', '["ci", "nightly"]',
               '["alpha", "prod", "search"]'])[tags + 1]::jsonb AS tag_set
    FROM drawn
), named AS MATERIALIZED (
    SELECT *, 'key-' || key AS key_id, 'team-' || key % 12 AS team, 'org-' || key % 3 AS org,
        'user-' || key % 40 AS person,
        CASE WHEN end_user % 10 = 9 THEN '' ELSE 'customer-' || end_user END AS for_whom,
        name || '-' || side AS deployment,
        to_char(at AT TIME ZONE 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"') AS spelt,
        trim_scale(tokens * 0.0000025 + 40 * 0.00001)::text AS usd
    FROM dealt
), costed AS MATERIALIZED (
    SELECT *, jsonb_build_object(
            'attempt', 1, 'revision', 1, 'final', true, 'calls', 1, 'state', state, 'reason', NULL,
            'items', CASE WHEN fate IN (1, 2, 5) THEN '[]'::jsonb ELSE jsonb_build_array(
                jsonb_build_object('meter', 'input_uncached', 'quantity', tokens - tokens / 3, 'unit_price_usd',
                    '0.0000025', 'amount_usd', ((tokens - tokens / 3) * 0.0000025)::text),
                jsonb_build_object('meter', 'input_cached', 'quantity', tokens / 3, 'unit_price_usd', '0.0000025',
                    'amount_usd', (tokens / 3 * 0.0000025)::text),
                jsonb_build_object('meter', 'output', 'quantity', 40, 'unit_price_usd', '0.00001',
                    'amount_usd', '0.0004')) END,
            'usage', CASE WHEN fate IN (1, 2, 5) THEN NULL ELSE jsonb_build_object('input_tokens', tokens,
                'cached_tokens', tokens / 3, 'cache_write_tokens', 0, 'output_tokens', 40, 'reasoning_tokens', 10) END,
            'price_id', NULL, 'priced_model', NULL, 'tier', served, 'requested_tier', '', 'unknown', (fate = 5)::int,
            'billed_usd', CASE WHEN fate > 5 THEN usd ELSE '0' END,
            'estimated_usd', CASE WHEN fate IN (3, 4) THEN usd ELSE '0' END,
            'dims', jsonb_build_object('journal_id', $1::uuid::text, 'received_at', spelt, 'org', org, 'team', team,
                'user', person, 'key', key_id, 'end_user', for_whom, 'model', name, 'deployment', deployment,
                'tags', tag_set)) AS cost
    FROM named
)
INSERT INTO ledger.events (journal_id, seq, call_id, version, type, schema, recorded_at, facts)
SELECT $1::uuid, row_number() OVER (ORDER BY n, place), call_id, row_number() OVER (PARTITION BY n ORDER BY place) - 1,
    type, 1, at + place * interval '10 ms', facts
FROM costed CROSS JOIN LATERAL (VALUES
    (0, 'call.received', jsonb_build_object('method', 'POST', 'path', '/responses', 'query', '', 'headers', '[]'::jsonb,
        'key_id', key_id, 'key_alias', '', 'org', org, 'team', team, 'user', person, 'end_user', for_whom,
        'tags', tag_set, 'model', name, 'stream', side = 1, 'client_address', '10.0.0.1', 'client_retry', NULL,
        'body_bytes', 300, 'content_encoding', '', 'parts', 1)),
    (1, 'call.rejected', CASE WHEN status = 'rejected' THEN jsonb_build_object('status', 400, 'reason', 'parameter',
        'error', '{"code": "invalid_value"}'::jsonb) END),
    (2, 'attempt.started', CASE WHEN status <> 'rejected' THEN jsonb_build_object('attempt', 1, 'kind', 'first',
        'deployment', deployment, 'model', name, 'upstream_model', name,
        'url', 'https://api.openai.com/v1/responses') END),
    (3, 'attempt.answered', CASE WHEN status <> 'rejected' THEN jsonb_build_object('attempt', 1, 'status', 200,
        'upstream_request_id', 'req_' || n, 'latency_us', 52000) END),
    (4, 'call.' || status, CASE WHEN status <> 'rejected' THEN jsonb_build_object('attempt', 1, 'attempts', 1,
        'http_status', CASE WHEN status = 'failed' THEN 502 ELSE 200 END,
        'response_id', CASE WHEN status = 'completed' THEN 'resp_' || $1::uuid::text || n END,
        'model', name, 'tier', served,
        'chunks', 0, 'answer_bytes', 900, 'first_chunk_us', 81000, 'duration_us', 1200000,
        'delivered', status = 'completed', 'error', NULL) END),
    (5, 'cost.recorded', CASE WHEN status <> 'rejected' THEN cost END),
    (6, 'cost.corrected', CASE WHEN fate = 4 THEN cost || jsonb_build_object('revision', 2, 'calls', 0,
        'state', 'billed', 'reason', 'settled', 'usage', NULL, 'items', '[]'::jsonb, 'billed_usd', usd,
        'estimated_usd', '-' || usd) END)
) AS e (place, type, facts) WHERE facts IS NOT NULL
"""
_SEAL = """
INSERT INTO ledger.events (journal_id, seq, type, schema, recorded_at, facts)
SELECT $1::uuid, max(seq) + 1, 'journal.sealed', 1, now(), '{"reason": "clean"}'
FROM ledger.events WHERE journal_id = $1
"""


async def fill(url: str, calls: int, told: Callable[[int], None] | None = None) -> None:
    """Add `calls` calls of the last 90 days to the book, as its owner; `told` gets how many are there."""
    connection = await connect(url, purpose="benchmark", role=None, statement_timeout="10min", work_mem="256MB")
    try:
        await connection.execute("SET synchronous_commit = off; SELECT setseed(0.5)")
        for first in range(1, calls + 1, _CALLS_A_JOURNAL):
            last = min(first + _CALLS_A_JOURNAL - 1, calls)
            await _fill_journal(connection, first, last, calls)
            if told is not None:
                told(last)
        await connection.execute("VACUUM ANALYZE ledger.events")
    finally:
        await connection.close()


async def _fill_journal(connection: asyncpg.Connection, first: int, last: int, calls: int) -> None:
    journal_id = await connection.fetchval(_OPEN)
    await connection.execute(_FILL, journal_id, first, last, calls, DAYS)
    await connection.execute(_SEAL, journal_id)
    await connection.execute(_SEALED, journal_id)
