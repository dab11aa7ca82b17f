"""The schema `reporting`: documented views for people and their tools. A public interface: names stay."""

from dataclasses import dataclass

from ledger.postgres.script import run_script

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
"""


@dataclass(frozen=True)
class View:
    """One view: its sentence, its query, and a sentence for each of its columns, in their order."""

    comment: str
    query: str
    columns: dict[str, str]


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

GRANTS = """
GRANT USAGE ON SCHEMA reporting TO responses_ledger_reporting, responses_ledger_app;
GRANT SELECT ON ALL TABLES IN SCHEMA reporting TO responses_ledger_reporting, responses_ledger_app;
"""


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _create(name: str, view: View) -> str:
    comments = [
        f"COMMENT ON COLUMN reporting.{name}.{column} IS {_quoted(text)};" for column, text in view.columns.items()
    ]
    return "\n".join(
        [
            f"CREATE VIEW reporting.{name} AS {view.query};",
            f"COMMENT ON VIEW reporting.{name} IS {_quoted(view.comment)};",
            *comments,
        ]
    )


def upgrade() -> None:
    """Make the schema, its views and comments, and let the reporting role read them, and nothing else."""
    run_script(SCHEMA)
    for name, view in VIEWS.items():
        run_script(_create(name, view))
    run_script(GRANTS)


def downgrade() -> None:
    """Drop the views; nothing is stored in them."""
    run_script("DROP SCHEMA reporting CASCADE; DROP FUNCTION ledger.utf8(bytea);")
