"""The projections' tables: keys, prices, calls, spend and its totals. Everything here can be rebuilt from the events."""

from ledger.postgres.script import run_script
from migrations.comments import describe, quoted

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

FUNCTIONS = """
CREATE FUNCTION ledger.bounded(value text) RETURNS text LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT CASE WHEN octet_length(value) <= 800 THEN value ELSE left(value, 180) || '#' || md5(value) END
$$;
COMMENT ON FUNCTION ledger.bounded(text) IS
    'A name short enough for an index: itself, or its beginning and a hash. A long name must not stop a fold.';

CREATE FUNCTION ledger.readable_cost(type text, schema smallint, facts jsonb) RETURNS boolean
    LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT type IN ('cost.recorded', 'cost.corrected') AND schema = 1
       AND num_nulls(facts->>'attempt', facts->>'revision', facts->>'calls', facts->>'billed_usd',
                     facts->>'estimated_usd', facts->>'unknown') = 0
       AND facts ? 'usage' AND facts->>'state' IN ('billed', 'estimated', 'unknown')
       AND facts->'dims' ?& '{journal_id,received_at,org,team,user,key,end_user,model,deployment,tags}'
$$;
COMMENT ON FUNCTION ledger.readable_cost(text, smallint, jsonb) IS
    'Whether a fold of money knows how to read this cost. Where it does not, it must stop: skipping would book too little.';

CREATE FUNCTION ledger.unreadable(type text, journal_id uuid, seq bigint) RETURNS numeric LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'cannot read event % of journal %: % is of an unknown kind or schema, or lacks a fact', seq, journal_id, type
        USING ERRCODE = 'data_exception';
END $$;
COMMENT ON FUNCTION ledger.unreadable(text, uuid, bigint) IS 'Stops a fold at an event that it cannot read, and names it.';
"""

KEYS = """
CREATE TABLE ledger.keys (
    key_id     text        NOT NULL CONSTRAINT keys_pkey PRIMARY KEY,
    key_hash   text        NOT NULL,
    key_name   text        NOT NULL,
    key_alias  text        NOT NULL,
    org        text        NOT NULL,
    team       text        NOT NULL,
    user_id    text        NOT NULL,
    end_user   text        NOT NULL,
    models     text[]      NOT NULL,
    metadata   jsonb       NOT NULL,
    tags       text[]      NOT NULL,
    expires_at timestamptz,
    blocked    boolean     NOT NULL,
    revoked    boolean     NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text        NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by text        NOT NULL,
    revision   bigint      NOT NULL,
    batch      bigint      NOT NULL
);
CREATE UNIQUE INDEX keys_hash ON ledger.keys (key_hash);
CREATE INDEX keys_batch ON ledger.keys (batch);
"""

PRICES = """
CREATE TABLE ledger.prices (
    price_id   text        NOT NULL CONSTRAINT prices_pkey PRIMARY KEY,
    model      text        NOT NULL,
    tier       text        NOT NULL,
    valid_from timestamptz NOT NULL,
    valid_to   timestamptz,
    source     text        NOT NULL,
    facts      jsonb       NOT NULL,
    revision   bigint      NOT NULL,
    batch      bigint      NOT NULL
);
CREATE INDEX prices_model ON ledger.prices (model, tier, valid_from);
CREATE INDEX prices_batch ON ledger.prices (batch);
"""

# Comparing bytes is all that these names need; a language's collation takes longer.
CALLS = """
CREATE TABLE ledger.calls (
    call_id             uuid           NOT NULL,
    journal_id          uuid           NOT NULL,
    received_at         timestamptz,
    method              text           NOT NULL COLLATE "C" DEFAULT '',
    path                text           NOT NULL COLLATE "C" DEFAULT '',
    key_id              text           NOT NULL COLLATE "C" DEFAULT '',
    key_alias           text           NOT NULL COLLATE "C" DEFAULT '',
    org                 text           NOT NULL COLLATE "C" DEFAULT '',
    team                text           NOT NULL COLLATE "C" DEFAULT '',
    user_id             text           NOT NULL COLLATE "C" DEFAULT '',
    end_user            text           NOT NULL COLLATE "C" DEFAULT '',
    tags                text[]         NOT NULL COLLATE "C" DEFAULT '{}',
    model               text           NOT NULL COLLATE "C" DEFAULT '',
    stream              boolean        NOT NULL DEFAULT false,
    client_address      text           NOT NULL COLLATE "C" DEFAULT '',
    client_retry        integer,
    request_bytes       bigint,
    status              text           NOT NULL COLLATE "C" DEFAULT 'in_progress' CONSTRAINT calls_status_known CHECK (
        status IN ('in_progress', 'rejected', 'completed', 'incomplete', 'failed', 'cancelled', 'truncated', 'abandoned')
    ),
    http_status         integer,
    error_code          text           COLLATE "C",
    attempts            integer        NOT NULL DEFAULT 0,
    deployment          text           NOT NULL COLLATE "C" DEFAULT '',
    upstream_model      text           COLLATE "C",
    upstream_request_id text           COLLATE "C",
    answered_model      text           COLLATE "C",
    tier                text           NOT NULL COLLATE "C" DEFAULT '',
    response_id         text           COLLATE "C",
    input_tokens        bigint,
    cached_tokens       bigint,
    cache_write_tokens  bigint,
    output_tokens       bigint,
    reasoning_tokens    bigint,
    billed_usd          numeric(24,12) NOT NULL DEFAULT 0,
    estimated_usd       numeric(24,12) NOT NULL DEFAULT 0,
    unknown             integer        NOT NULL DEFAULT 0,
    cost_mark           text           NOT NULL COLLATE "C" DEFAULT '',
    cost_state          text           COLLATE "C" GENERATED ALWAYS AS (
        CASE WHEN cost_mark = '' THEN NULL
             WHEN unknown > 0 OR substr(cost_mark, 14) = 'unknown' THEN 'unknown'
             WHEN estimated_usd = 0 AND substr(cost_mark, 14) = 'billed' THEN 'billed'
             WHEN billed_usd = 0 THEN 'estimated'
             ELSE 'mixed' END) STORED,
    first_chunk_us      bigint,
    duration_us         bigint,
    chunks              bigint,
    answer_bytes        bigint,
    finished_at         timestamptz,
    disconnected        boolean        NOT NULL DEFAULT false,
    delivered           boolean        NOT NULL DEFAULT false,
    CONSTRAINT calls_pkey PRIMARY KEY (call_id, journal_id),
    CONSTRAINT calls_finished_when_ended CHECK ((status = 'in_progress') = (finished_at IS NULL))
);
CREATE INDEX calls_received ON ledger.calls (received_at, call_id);
CREATE INDEX calls_key_received ON ledger.calls (key_id, received_at, call_id);
CREATE INDEX calls_end_user_received ON ledger.calls (end_user, received_at, call_id) WHERE end_user <> '';
CREATE INDEX calls_response ON ledger.calls (response_id) WHERE response_id IS NOT NULL;
"""

SPEND = """
CREATE TABLE ledger.spend (
    hour               timestamptz    NOT NULL,
    dims_sha256        bytea          NOT NULL,
    org                text           NOT NULL COLLATE "C",
    team               text           NOT NULL COLLATE "C",
    user_id            text           NOT NULL COLLATE "C",
    key_id             text           NOT NULL COLLATE "C",
    end_user           text           NOT NULL COLLATE "C",
    model              text           NOT NULL COLLATE "C",
    deployment         text           NOT NULL COLLATE "C",
    tier               text           NOT NULL COLLATE "C",
    tags               text[]         NOT NULL COLLATE "C",
    calls              bigint         NOT NULL,
    attempts           bigint         NOT NULL,
    input_tokens       bigint         NOT NULL,
    cached_tokens      bigint         NOT NULL,
    cache_write_tokens bigint         NOT NULL,
    output_tokens      bigint         NOT NULL,
    reasoning_tokens   bigint         NOT NULL,
    billed_usd         numeric(24,12) NOT NULL,
    estimated_usd      numeric(24,12) NOT NULL,
    unknown_calls      bigint         NOT NULL,
    CONSTRAINT spend_pkey PRIMARY KEY (hour, dims_sha256)
);
CREATE INDEX spend_key ON ledger.spend (key_id, hour);
CREATE INDEX spend_end_user ON ledger.spend (end_user, hour) WHERE end_user <> '';

CREATE TABLE ledger.key_totals (
    key_id        text           NOT NULL COLLATE "C" CONSTRAINT key_totals_pkey PRIMARY KEY,
    calls         bigint         NOT NULL,
    billed_usd    numeric(24,12) NOT NULL,
    estimated_usd numeric(24,12) NOT NULL,
    unknown_calls bigint         NOT NULL,
    batch         bigint         NOT NULL
);
CREATE INDEX key_totals_batch ON ledger.key_totals (batch);

CREATE TABLE ledger.end_user_totals (
    end_user      text           NOT NULL COLLATE "C" CONSTRAINT end_user_totals_pkey PRIMARY KEY,
    calls         bigint         NOT NULL,
    billed_usd    numeric(24,12) NOT NULL,
    estimated_usd numeric(24,12) NOT NULL,
    unknown_calls bigint         NOT NULL,
    batch         bigint         NOT NULL
);
CREATE INDEX end_user_totals_batch ON ledger.end_user_totals (batch);
"""

SKIPPED = """
CREATE TABLE ledger.skipped_events (
    projection text        NOT NULL,
    journal_id uuid        NOT NULL,
    seq        bigint      NOT NULL,
    skipped_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    CONSTRAINT skipped_events_pkey PRIMARY KEY (projection, journal_id, seq)
);
COMMENT ON TABLE ledger.skipped_events IS
    'Events that somebody ordered a projection to pass over because it cannot read them; a rebuild obeys as well.';
COMMENT ON COLUMN ledger.skipped_events.projection IS 'The projection that passes over the event.';
COMMENT ON COLUMN ledger.skipped_events.journal_id IS 'The event''s journal.';
COMMENT ON COLUMN ledger.skipped_events.seq IS 'The event''s place in its journal.';
COMMENT ON COLUMN ledger.skipped_events.skipped_at IS 'When it was ordered.';
COMMENT ON CONSTRAINT skipped_events_pkey ON ledger.skipped_events IS 'An order is given once.';
"""

_CALL_DIMS = {
    "key_id": "The virtual key; empty where there was none.",
    "org": "The key's organisation at the time; empty where there was none.",
    "team": "The key's team at the time; empty where there was none.",
    "user_id": "The key's user at the time; empty where there was none.",
    "end_user": "For whom the caller called; empty where nobody was named.",
    "model": "The model that the caller asked for.",
    "deployment": "The deployment that was called; of several attempts, the last one's.",
    "tags": "The call's tags, sorted, each once.",
    "tier": "The service tier that the upstream said it served; empty where it said none.",
}

_MONEY = {
    "input_tokens": "Input tokens; cached and cache-write tokens are among them.",
    "cached_tokens": "Input tokens that were read from the upstream's cache.",
    "cache_write_tokens": "Input tokens that were written to the upstream's cache.",
    "output_tokens": "Output tokens; reasoning tokens are among them.",
    "reasoning_tokens": "Output tokens spent on reasoning.",
    "billed_usd": "USD that follow from the upstream's own usage and a published price; exact.",
    "estimated_usd": "USD estimated where the upstream's usage was not learnt; not part of billed_usd.",
}

_TOTALS = {
    "calls": "Calls whose cost is recorded.",
    **{name: _MONEY[name] for name in ("billed_usd", "estimated_usd")},
    "unknown_calls": "Charges whose amount is not known; they are not zero and in no sum.",
    "batch": "The batch of projection spend that changed the row last.",
}

COMMENTS: dict[str, tuple[str, dict[str, str]]] = {
    "keys": (
        "Projection keys: the present state of each virtual key, by its highest revision. Holds no key, only its hash.",
        {
            "key_id": "The key's lasting name in the book.",
            "key_hash": "SHA-256 of the key, in hex; a revoked key's too, so that it is refused by name.",
            "key_name": "What people may see of the key, for example sk-...abcd.",
            "key_alias": "A name that people gave it.",
            "org": "Organisation that its calls are booked to.",
            "team": "Team that its calls are booked to.",
            "user_id": "User that its calls are booked to.",
            "end_user": "Fixed end user of its calls; empty where the caller names one.",
            "models": "Models that it may call; empty: all.",
            "metadata": "What people attached to it.",
            "tags": "Tags of all its calls.",
            "expires_at": "From then on it is refused; NULL: never.",
            "blocked": "Refused for now.",
            "revoked": "Refused for ever.",
            "created_at": "When it was issued.",
            "created_by": "Who issued it.",
            "changed_at": "When the latest revision was recorded.",
            "changed_by": "The actor of the latest revision.",
            "revision": "The latest revision; of two changes the higher one stands.",
            "batch": "The batch of projection keys that changed the row: processes ask for batch > the last one they saw.",
        },
    ),
    "prices": (
        "Projection prices: every price that was published. A change is a further price with a later validity.",
        {
            "price_id": "SHA-256 of the price's content.",
            "model": "The model it is for.",
            "tier": "The service tier it is for.",
            "valid_from": "In force from then on.",
            "valid_to": "In force until then; NULL: until a later one begins.",
            "source": "Where it was taken from.",
            "facts": "The whole price: matching, unit prices in USD, thresholds.",
            "revision": "The latest revision; of two prices valid from one moment the higher one stands.",
            "batch": "The batch of projection prices that changed the row.",
        },
    ),
    "calls": (
        (
            "Projection calls: one row a call, from its first event on. A row without received_at is not a call yet: "
            "a correction in another journal was folded first."
        ),
        {
            "call_id": "The call.",
            "journal_id": "The journal that holds its events.",
            "received_at": "When the request was recorded.",
            "method": "HTTP method.",
            "path": "HTTP path.",
            "key_alias": "The key's alias at the time.",
            **_CALL_DIMS,
            "stream": "Whether the caller asked for a stream.",
            "client_address": "The caller's network address.",
            "client_retry": "The caller's own count of retries, where it sent one.",
            "request_bytes": "Bytes of the request's body.",
            "status": "in_progress, rejected (no upstream was called), or how the call ended.",
            "http_status": "The status that the caller was answered with.",
            "error_code": "The error's code, where it ended in one.",
            "attempts": "Attempts at an upstream so far.",
            "upstream_model": "The model asked of the upstream by the last attempt.",
            "upstream_request_id": "The upstream's own id of the last attempt that it answered.",
            "answered_model": "The model that the upstream says answered.",
            "response_id": "The id of the response object.",
            **_MONEY,
            "unknown": "Attempts whose cost is not known; it is not zero and in no sum.",
            "cost_mark": "Attempt, revision and state of the latest cost, so that the highest of them can be kept.",
            "cost_state": "billed, estimated, mixed (both kinds of USD), unknown (of an attempt at least); NULL: no cost yet.",
            "first_chunk_us": "Microseconds from the request to the answer's first chunk.",
            "duration_us": "Microseconds from the request to the end.",
            "chunks": "Chunks of the answer, where it was a stream.",
            "answer_bytes": "Bytes of the answer's body.",
            "finished_at": "When its end was recorded; NULL while in progress.",
            "disconnected": "Whether the caller hung up early.",
            "delivered": "Whether the answer's last byte was given to the caller.",
        },
    ),
    "spend": (
        "Projection spend: sums by hour and all dimensions; one row a set of tags, so that sums count each call once.",
        {
            "hour": "Beginning of the hour (UTC) in which the call was received.",
            "dims_sha256": "Hash of all dimensions: together they are too long for an index.",
            **_CALL_DIMS,
            "calls": "Calls, counted at the attempt that ended them.",
            "attempts": "Attempts at an upstream.",
            **_MONEY,
            "unknown_calls": _TOTALS["unknown_calls"],
        },
    ),
    "key_totals": (
        "Projection spend: the sums of each key over all time.",
        {"key_id": _CALL_DIMS["key_id"], **_TOTALS},
    ),
    "end_user_totals": (
        "Projection spend: the sums of each end user over all time.",
        {"end_user": "The end user; empty: the calls that named nobody.", **_TOTALS},
    ),
}

INDEX_COMMENTS = {
    "keys_hash": "Finds a key by what the caller sent; no two keys share a hash.",
    "keys_batch": "What changed since a batch.",
    "prices_model": "The prices of one model and tier over time.",
    "prices_batch": "What changed since a batch.",
    "calls_received": "The log by time, page after page.",
    "calls_key_received": "One key's log by time.",
    "calls_end_user_received": "One end user's log by time.",
    "calls_response": "Finds a call by its response.",
    "spend_key": "One key's sums over time.",
    "spend_end_user": "One end user's sums over time.",
    "key_totals_batch": "What changed since a batch.",
    "end_user_totals_batch": "What changed since a batch.",
}

CONSTRAINT_COMMENTS = {
    ("keys", "keys_pkey"): "A key has one row.",
    ("prices", "prices_pkey"): "A price has one row.",
    ("calls", "calls_pkey"): "A call has one row; all its events lie in one journal, which is the unit of sharding.",
    ("calls", "calls_status_known"): "The states a call can be in.",
    ("calls", "calls_finished_when_ended"): "A call is in progress exactly as long as it has no end.",
    ("spend", "spend_pkey"): "One row an hour and combination of dimensions.",
    ("key_totals", "key_totals_pkey"): "A key has one row of totals.",
    ("end_user_totals", "end_user_totals_pkey"): "An end user has one row of totals.",
}

REGISTER = """
INSERT INTO ledger.projections (name, version) VALUES ('keys', 1), ('prices', 1), ('spend', 1), ('calls', 1);
INSERT INTO ledger.checkpoints (projection, journal_id)
    SELECT p.name, j.journal_id FROM ledger.projections p CROSS JOIN ledger.journals j;

GRANT SELECT, INSERT, UPDATE ON ledger.keys, ledger.prices, ledger.calls, ledger.spend, ledger.key_totals,
    ledger.end_user_totals TO responses_ledger_app;
GRANT SELECT, INSERT ON ledger.skipped_events TO responses_ledger_app;
"""


def _comments() -> str:
    """Spell COMMENT ON for every table, column, index and constraint of this migration."""
    tables = COMMENTS.items()
    lines = [describe("TABLE", f"ledger.{table}", sentence, columns) for table, (sentence, columns) in tables]
    lines += [f"COMMENT ON INDEX ledger.{name} IS {quoted(text)};" for name, text in INDEX_COMMENTS.items()]
    lines += [
        f"COMMENT ON CONSTRAINT {name} ON ledger.{table} IS {quoted(text)};"
        for (table, name), text in CONSTRAINT_COMMENTS.items()
    ]
    return "\n".join(lines)


def upgrade() -> None:
    """Make the projections' tables, register the projections, give the application its rights."""
    for script in (FUNCTIONS, KEYS, PRICES, CALLS, SPEND, SKIPPED, _comments(), REGISTER):
        run_script(script)


def downgrade() -> None:
    """Drop the projections; the events that they were computed from stay."""
    run_script("""
        DELETE FROM ledger.projections WHERE name IN ('keys', 'prices', 'spend', 'calls');
        DROP TABLE ledger.keys, ledger.prices, ledger.calls, ledger.spend, ledger.key_totals, ledger.end_user_totals,
            ledger.skipped_events;
        DROP FUNCTION ledger.bounded(text), ledger.readable_cost(text, smallint, jsonb), ledger.unreadable(text, uuid, bigint);
    """)
