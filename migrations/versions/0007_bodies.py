"""Calls whose bodies are not stored, reads of others' bodies, and how a response is found that was deleted."""

from ledger.postgres.script import run_script
from migrations.comments import View, create_view, quoted

revision = "0007"
down_revision = "0006"
branch_labels = None
depends_on = None

_STORED = "Whether the bodies of request and answer were stored; false: only that they came, and how large."

CALLS = f"""
ALTER TABLE ledger.calls ADD COLUMN IF NOT EXISTS bodies_stored boolean NOT NULL DEFAULT true;
COMMENT ON COLUMN ledger.calls.bodies_stored IS {quoted(_STORED)};
CREATE INDEX IF NOT EXISTS calls_deletes ON ledger.calls (path) WHERE method = 'DELETE';
COMMENT ON INDEX ledger.calls_deletes IS 'Finds out whether a response was asked to be deleted.';
-- What is folded already is as the new fold would have it: nobody could leave bodies out before.
UPDATE ledger.projections SET version = 2 WHERE name = 'calls';
"""  # noqa: S608 a sentence of this file

#: The view as 0003 made it, with what is new behind.
CALLS_VIEW = f"""
CREATE OR REPLACE VIEW reporting.calls AS
    SELECT call_id, journal_id, received_at, finished_at, status, http_status, error_code, method, path, stream,
        key_id, key_alias, org, team, user_id, end_user, tags, model, deployment, upstream_model, answered_model,
        tier, response_id, upstream_request_id, attempts, input_tokens, cached_tokens, cache_write_tokens,
        output_tokens, reasoning_tokens, billed_usd, estimated_usd, unknown AS unknown_costs, cost_state,
        first_chunk_us, duration_us, chunks, request_bytes, answer_bytes, client_address, client_retry,
        disconnected, delivered, bodies_stored
    FROM ledger.calls WHERE received_at IS NOT NULL;
COMMENT ON COLUMN reporting.calls.bodies_stored IS {quoted(_STORED)};
"""  # noqa: S608 a sentence of this file

CHUNKS_VIEW = """
CREATE OR REPLACE VIEW reporting.chunks AS
    SELECT call_id, row_number() OVER (PARTITION BY call_id, journal_id ORDER BY version) - 1 AS n, recorded_at,
        body, ledger.utf8(body) AS text, journal_id, seq,
        coalesce(octet_length(body), (facts->>'bytes')::bigint, 0) AS bytes
    FROM ledger.events WHERE type = 'chunk.received';
COMMENT ON COLUMN reporting.chunks.bytes IS
    'How many bytes the chunk has; known where its body is not stored, too.';
"""

AUDIT_READS = View(
    "Each time somebody was shown bodies of a call of another key, by HTTP or by the command line. Not: reads in SQL.",
    """
    SELECT journal_id, seq, recorded_at, facts->>'actor' AS actor, (facts->>'call_id')::uuid AS call_id,
        facts->>'key_id' AS key_id, facts->>'shown' AS shown, facts->>'through' AS through
    FROM ledger.events WHERE type = 'audit.read' AND type <> 'chunk.received'
    """,
    {
        "journal_id": "The journal that holds the event.",
        "seq": "The event's place in its journal, from 1.",
        "recorded_at": "When it was recorded, before anything was shown.",
        "actor": "Who read: a key's id, master, or cli: and the name of the machine's user.",
        "call_id": "The call whose bodies were shown.",
        "key_id": "The key that the call belongs to.",
        "shown": "What was shown: events (with their bodies), replay, or response.",
        "through": "The route or command.",
    },
)


def upgrade() -> None:
    """Add the column, the index and the view."""
    for script in (CALLS, CALLS_VIEW, CHUNKS_VIEW, create_view("audit_reads", AUDIT_READS)):
        run_script(script)


def downgrade() -> None:
    """Drop the view; the columns stay, with values that the older fold leaves as they are."""
    run_script("DROP VIEW reporting.audit_reads; UPDATE ledger.projections SET version = 1 WHERE name = 'calls';")
