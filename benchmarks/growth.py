"""Makes a book large: copies of its calls in a journal of their own, so that a rebuild has something to do.

The copies are events like their originals (without chunks, which no projection reads), under new call ids; the journal
is sealed. Their chain is not computed: a book grown here is for speed, not for `verify`.
"""

from ledger.postgres.connect import connect

_OPEN = 'SELECT ledger.open_journal(\'{"host": "benchmark"}\'::jsonb, NULL, NULL)'
_GROW = """
WITH calls AS (
    SELECT call_id, journal_id FROM ledger.calls WHERE status = 'completed' ORDER BY received_at LIMIT 2000
), copies AS (
    SELECT copy, e.* FROM calls JOIN ledger.events AS e USING (call_id, journal_id)
    CROSS JOIN generate_series(1, $2::integer) AS copy WHERE e.type <> 'chunk.received'
)
INSERT INTO ledger.events (journal_id, seq, call_id, version, type, schema, recorded_at, facts, body, chain)
SELECT $1::uuid, row_number() OVER (ORDER BY copy, call_id, version), md5(call_id::text || copy)::uuid, version,
       type, schema, recorded_at,
       CASE WHEN facts ? 'dims' THEN jsonb_set(facts, '{dims,journal_id}', to_jsonb($1::uuid::text)) ELSE facts END,
       NULL, NULL
FROM copies
"""
_SEAL = """
INSERT INTO ledger.events (journal_id, seq, type, schema, recorded_at, facts)
SELECT $1::uuid, max(seq) + 1, 'journal.sealed', 1, now(), '{"reason": "clean"}'
FROM ledger.events WHERE journal_id = $1
"""
_SEALED = "UPDATE ledger.journals SET sealed_at = now() WHERE journal_id = $1::uuid"
_PER_COPY = 2_000


async def grow(url: str, calls: int) -> int:
    """Add about `calls` calls to the book, as its owner; return how many it holds then."""
    connection = await connect(url, purpose="benchmark", role=None, statement_timeout="10min")
    try:
        await connection.execute("SET synchronous_commit = off")
        journal_id = await connection.fetchval(_OPEN)
        await connection.execute(_GROW, journal_id, -(-calls // _PER_COPY))
        await connection.execute(_SEAL, journal_id)
        await connection.execute(_SEALED, journal_id)
        await connection.execute("VACUUM ANALYZE ledger.events")
        held = await connection.fetchval("SELECT count(*) FROM ledger.events WHERE type = 'call.received'")
    finally:
        await connection.close()
    return int(held or 0)
