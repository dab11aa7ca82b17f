"""The schema `reporting`: documented views for people and their tools. A public interface: names stay."""

from ledger.postgres.script import run_script
from migrations.comments import View, create_view

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None

SCHEMA = """
CREATE SCHEMA reporting;
COMMENT ON SCHEMA reporting IS
    'Views for reports and audits: stable names, every column described. What they show is computed from the events.';

CREATE FUNCTION ledger.utf8(bytes bytea) RETURNS text LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $$
BEGIN
    RETURN convert_from(bytes, 'UTF8');
EXCEPTION WHEN character_not_in_repertoire OR untranslatable_character THEN
    RETURN NULL;
END $$;
COMMENT ON FUNCTION ledger.utf8(bytea) IS 'Bytes as text; NULL where they are not UTF-8 text.';
GRANT USAGE ON SCHEMA reporting TO responses_ledger_reporting, responses_ledger_app;
"""


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

VIEWS: dict[str, View] = {
    "calls": View(
        "One row a call: who, what, when, how it ended, what it cost. The request log.",
        """
        SELECT call_id, journal_id, received_at, finished_at, status, http_status, error_code, method, path, stream,
            key_id, key_alias, org, team, user_id, end_user, tags, model, deployment, upstream_model, answered_model,
            tier, response_id, upstream_request_id, attempts, input_tokens, cached_tokens, cache_write_tokens,
            output_tokens, reasoning_tokens, billed_usd, estimated_usd, unknown AS unknown_costs, cost_state,
            first_chunk_us, duration_us, chunks, request_bytes, answer_bytes, client_address, client_retry,
            disconnected, delivered
        FROM ledger.calls WHERE received_at IS NOT NULL
        """,
        {
            "call_id": "The call; its header x-llm-call-id.",
            "journal_id": "The journal that holds the call's events.",
            "received_at": "When the request was recorded, by the proxy's clock.",
            "finished_at": "When the call's end was recorded; NULL while in progress.",
            "status": (
                "in_progress; rejected (no upstream was called); completed, incomplete, failed, cancelled as the upstream "
                "said; truncated: the answer broke off; abandoned: its proxy died, the book was closed for it."
            ),
            "http_status": "The status that the caller was answered with.",
            "error_code": "The code of the error that ended it; NULL: none.",
            "method": "HTTP method.",
            "path": "HTTP path.",
            "stream": "Whether the caller asked for a stream.",
            "key_id": _DIMS["key_id"],
            "key_alias": "The key's alias when the call came.",
            **{name: _DIMS[name] for name in ("org", "team", "user_id", "end_user")},
            "tags": "The call's tags, sorted.",
            "model": _DIMS["model"],
            "deployment": "The deployment of the last attempt; empty: none was called.",
            "upstream_model": "The model asked of the upstream by the last attempt.",
            "answered_model": "The model that the upstream says answered.",
            "tier": "The service tier that the upstream says it served; empty: it said none.",
            "response_id": "The id of the response object.",
            "upstream_request_id": "The upstream's x-request-id of the last answered attempt.",
            "attempts": "Attempts at an upstream.",
            **_TOKENS,
            **_USD,
            "unknown_costs": "Attempts whose cost is not known: not zero, and in no sum.",
            "cost_state": "billed, estimated, mixed (both), unknown (of an attempt at least); NULL: no cost recorded.",
            "first_chunk_us": "Microseconds from the request to the answer's first chunk.",
            "duration_us": "Microseconds from the request to the end.",
            "chunks": "Chunks of the answer, where it was a stream.",
            "request_bytes": "Bytes of the request's body.",
            "answer_bytes": "Bytes of the answer's body.",
            "client_address": "The caller's network address.",
            "client_retry": "The caller's own count of retries, where it sent one.",
            "disconnected": "Whether the caller hung up early.",
            "delivered": "Whether the answer's last byte was given to the caller.",
        },
    ),
    "attempts": View(
        "One row an attempt at an upstream: retries and fallbacks of a call are further attempts. Costs: see costs.",
        """
        SELECT s.call_id, (s.facts->>'attempt')::integer AS attempt, s.journal_id, s.facts->>'kind' AS kind,
            s.facts->>'deployment' AS deployment, s.facts->>'model' AS model,
            s.facts->>'upstream_model' AS upstream_model, s.facts->>'url' AS url, s.recorded_at AS started_at,
            a.recorded_at AS answered_at, (a.facts->>'status')::integer AS http_status,
            a.facts->>'upstream_request_id' AS upstream_request_id, (a.facts->>'latency_us')::bigint AS latency_us,
            f.recorded_at AS failed_at, f.facts->>'reason' AS failed_reason, f.facts->>'message' AS failed_message,
            s.facts->>'sent_sha256' AS sent_sha256, (s.facts->>'sent_bytes')::bigint AS sent_bytes
        FROM ledger.events s
        LEFT JOIN LATERAL (
            SELECT recorded_at, facts FROM ledger.events
            WHERE journal_id = s.journal_id AND call_id = s.call_id AND type = 'attempt.answered'
              AND facts->>'attempt' = s.facts->>'attempt' LIMIT 1
        ) a ON true
        LEFT JOIN LATERAL (
            SELECT recorded_at, facts FROM ledger.events
            WHERE journal_id = s.journal_id AND call_id = s.call_id AND type = 'attempt.failed'
              AND facts->>'attempt' = s.facts->>'attempt' LIMIT 1
        ) f ON true
        WHERE s.type = 'attempt.started'
        """,
        {
            "call_id": "The call.",
            "attempt": "Number of the attempt within its call, from 1.",
            "journal_id": "The journal that holds the events.",
            "kind": "first, retry (same deployment's model group) or fallback (another one).",
            "deployment": "The deployment that was called.",
            "model": "The model group that was asked for.",
            "upstream_model": "The model named to the upstream.",
            "url": "The address that was called.",
            "started_at": "When it was recorded, before the first byte was sent.",
            "answered_at": "When the answer's head arrived; NULL: it did not.",
            "http_status": "The upstream's status.",
            "upstream_request_id": "The upstream's x-request-id.",
            "latency_us": "Microseconds from sending to the answer's head.",
            "failed_at": "When it failed; NULL: it did not.",
            "failed_reason": "Why it failed, in a word.",
            "failed_message": "Why it failed, in a sentence.",
            "sent_sha256": "SHA-256 of the body sent to the upstream, in hex.",
            "sent_bytes": "Bytes of the body sent to the upstream.",
        },
    ),
    "events": View(
        "The book itself: every event as it was appended, bodies too. Ordered by seq within a journal, by version in a call.",
        "SELECT journal_id, seq, call_id, version, type, schema, recorded_at, facts, body, chain FROM ledger.events",
        {
            **_PLACE,
            "call_id": "The call; NULL for events of the journal itself and of administration.",
            "version": "The event's place in its call, from 0.",
            "type": "What happened, in the past tense.",
            "schema": "Version of the shape of facts.",
            "recorded_at": "When it was recorded, by the writer's clock; not an order to read by.",
            "facts": "What is known. Money: decimal strings. Durations: microseconds.",
            "body": "Exact bytes, secrets masked.",
            "chain": "Hash over the journal up to here, on the last event of each flush.",
        },
    ),
    "chunks": View(
        "Every chunk of every stream: the bytes through the blank line that ends a server-sent event.",
        """
        SELECT call_id, row_number() OVER (PARTITION BY call_id, journal_id ORDER BY version) - 1 AS n, recorded_at,
            body, ledger.utf8(body) AS text, journal_id, seq
        FROM ledger.events WHERE type = 'chunk.received'
        """,
        {
            "call_id": "The call.",
            "n": "Number of the chunk within its call, from 0.",
            "recorded_at": "When it arrived, by the proxy's clock.",
            "body": "The chunk's exact bytes.",
            "text": "The bytes as text; NULL where they are not UTF-8 text.",
            **_PLACE,
        },
    ),
    "keys": View(
        "The virtual keys as they are today. Neither keys nor their hashes are shown.",
        """
        SELECT key_id, key_name, key_alias, org, team, user_id, end_user, models, metadata, tags, expires_at, blocked,
            revoked, created_at, created_by, changed_at, changed_by, revision
        FROM ledger.keys
        """,
        {
            "key_id": "The key's lasting name in the book.",
            "key_name": "What people may see of the key, for example sk-...abcd.",
            "key_alias": "A name that people gave it.",
            "org": "Organisation that its calls are booked to.",
            "team": "Team that its calls are booked to.",
            "user_id": "User that its calls are booked to.",
            "end_user": "Fixed end user of its calls; empty: the caller names one.",
            "models": "Models that it may call; empty: all.",
            "metadata": "What people attached to it.",
            "tags": "Tags of all its calls.",
            "expires_at": "From then on it is refused; NULL: never.",
            "blocked": "Refused for now.",
            "revoked": "Refused for ever.",
            "created_at": "When it was issued.",
            "created_by": "Who issued it.",
            "changed_at": "When it was changed last.",
            "changed_by": "Who changed it last.",
            "revision": "How often it was changed, from 1.",
        },
    ),
    "prices": View(
        "Every price that was ever published. A cost names its price, so past charges can be recomputed.",
        "SELECT price_id, model, tier, valid_from, valid_to, source, revision, facts FROM ledger.prices",
        {
            "price_id": "SHA-256 of the price's content; costs refer to it.",
            "model": "The model it is for.",
            "tier": "The service tier it is for.",
            "valid_from": "In force from then on.",
            "valid_to": "In force until then; NULL: until a later one begins.",
            "source": "Where it was taken from.",
            "revision": "Of two prices valid from one moment the higher one stands.",
            "facts": "The whole price: unit prices in USD, thresholds, what models it matches.",
        },
    ),
    "ledger_health": View(
        "One row a projection: how far what the other views show is behind the book, and whether it stands still.",
        """
        SELECT p.name AS projection, p.version, count(c.journal_id) FILTER (WHERE NOT c.finished) AS journals_unfinished,
            count(c.stopped_by) AS journals_stopped, string_agg(c.stopped_by, '; ') AS stopped_by,
            coalesce(sum(head.seq - c.folded_seq), 0)::bigint AS events_behind,
            coalesce(extract(epoch FROM clock_timestamp() - min(oldest.recorded_at)), 0)::numeric(20,3) AS lag_s,
            (SELECT count(*) FROM ledger.journals WHERE sealed_at IS NULL) AS journals_open
        FROM ledger.projections p
        LEFT JOIN ledger.checkpoints c ON c.projection = p.name AND NOT c.finished
        LEFT JOIN LATERAL (
            SELECT e.seq FROM ledger.events e WHERE e.journal_id = c.journal_id ORDER BY e.seq DESC LIMIT 1
        ) head ON true
        LEFT JOIN LATERAL (
            SELECT e.recorded_at FROM ledger.events e WHERE e.journal_id = c.journal_id AND e.seq = c.folded_seq + 1
        ) oldest ON true
        GROUP BY p.name, p.version
        """,
        {
            "projection": "The projection: spend and calls hold the money.",
            "version": "Version of its fold.",
            "journals_unfinished": "Journals of which more may come.",
            "journals_stopped": "Journals in which it stands before an event that it cannot read.",
            "stopped_by": "Which events, and why.",
            "events_behind": "Events that it has not folded yet.",
            "lag_s": "Age in seconds of the oldest of them.",
            "journals_open": "Journals that are being written, or whose writer died and waits for recovery.",
        },
    ),
}


def upgrade() -> None:
    """Make the schema and the views of calls, events, keys, prices and health."""
    run_script(SCHEMA)
    for name, view in VIEWS.items():
        run_script(create_view(name, view))


def downgrade() -> None:
    """Drop the views; nothing is stored in them."""
    run_script("DROP SCHEMA reporting CASCADE; DROP FUNCTION ledger.utf8(bytea);")
