"""The journal: events, the journals that hold them, checkpoints of their readers, revisions of administered subjects."""

from ledger.postgres.script import run_script

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None

ROLES = """
DO $$
BEGIN
    -- Roles belong to the cluster, not to this database: another database may have made them, even at this moment.
    BEGIN CREATE ROLE responses_ledger_app NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END;
    BEGIN CREATE ROLE responses_ledger_reporting NOLOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END;
    -- The migrating login must be able to step down into them. (A superuser can without a grant.)
    IF NOT (SELECT rolsuper FROM pg_roles WHERE rolname = current_user) THEN
        EXECUTE format('GRANT responses_ledger_app, responses_ledger_reporting TO %I', current_user);
    END IF;
END $$;
"""

EVENTS = """
CREATE TABLE ledger.events (
    journal_id  uuid        NOT NULL,
    seq         bigint      NOT NULL CONSTRAINT events_seq_from_one CHECK (seq >= 1),
    call_id     uuid,
    version     integer,
    type        text        NOT NULL,
    schema      smallint    NOT NULL,
    recorded_at timestamptz NOT NULL,
    facts       jsonb       NOT NULL,
    body        bytea,
    chain       bytea,
    CONSTRAINT events_pkey PRIMARY KEY (journal_id, seq),
    CONSTRAINT events_version_of_a_call CHECK ((call_id IS NULL) = (version IS NULL))
) PARTITION BY RANGE (journal_id);
CREATE INDEX events_call ON ledger.events (call_id, version);
CREATE INDEX events_folded ON ledger.events (journal_id, seq) WHERE type <> 'chunk.received';

COMMENT ON TABLE ledger.events IS
    'Append-only: what happened, one row an event. A mistake is answered by a further event, never by a change.';
COMMENT ON COLUMN ledger.events.journal_id IS 'The journal: one writer''s log. Partitions are days of this id.';
COMMENT ON COLUMN ledger.events.seq IS 'Place in the journal, from 1, without a gap; commit order equals this order.';
COMMENT ON COLUMN ledger.events.call_id IS 'The call (UUIDv7); NULL for events of the journal itself and of administration.';
COMMENT ON COLUMN ledger.events.version IS 'Place in the call, from 0, without a gap; NULL where call_id is.';
COMMENT ON COLUMN ledger.events.type IS 'What happened, in the past tense, for example chunk.received.';
COMMENT ON COLUMN ledger.events.schema IS 'Version of the type''s facts; older ones are upcast on reading, never rewritten.';
COMMENT ON COLUMN ledger.events.recorded_at IS 'When the writer recorded it, by its own clock. Never an order to read by.';
COMMENT ON COLUMN ledger.events.facts IS 'What is known: no floats, money as decimal strings, durations in whole microseconds.';
COMMENT ON COLUMN ledger.events.body IS 'Exact bytes, as received, with secrets masked.';
COMMENT ON COLUMN ledger.events.chain IS
    'On the last event of each flush: SHA-256 over the previous chain and the leaves of the flush; NULL elsewhere.';
COMMENT ON CONSTRAINT events_pkey ON ledger.events IS 'The fence: of two writers of one journal, one hits this key.';
COMMENT ON CONSTRAINT events_seq_from_one ON ledger.events IS 'A journal begins at 1.';
COMMENT ON CONSTRAINT events_version_of_a_call ON ledger.events IS 'Only a call counts versions.';
COMMENT ON INDEX ledger.events_call IS 'All events of one call, in order.';
COMMENT ON INDEX ledger.events_folded IS 'What projections read: everything but the chunks.';

CREATE FUNCTION ledger.refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'ledger.events is append-only: % on % refused; record a further event instead', TG_OP, TG_RELID::regclass
        USING ERRCODE = 'restrict_violation';
END $$;
COMMENT ON FUNCTION ledger.refuse_change() IS 'Refuses UPDATE, DELETE and TRUNCATE of events, on the parent and on each partition.';
CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.events
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change();
ALTER TABLE ledger.events ENABLE ALWAYS TRIGGER events_append_only;
"""

JOURNALS = """
CREATE TABLE ledger.journals (
    journal_id    uuid        NOT NULL CONSTRAINT journals_pkey PRIMARY KEY,
    opened_at     timestamptz NOT NULL DEFAULT clock_timestamp(),
    writer        jsonb       NOT NULL,
    heartbeat     bigint      NOT NULL DEFAULT 0,
    backend_pid   integer,
    backend_start timestamptz,
    sealed_at     timestamptz,
    sealed_seq    bigint
);
CREATE INDEX journals_open ON ledger.journals (journal_id) WHERE sealed_at IS NULL;
COMMENT ON TABLE ledger.journals IS 'One row a journal: who writes it, whether it lives, where it ended. The events are the truth.';
COMMENT ON COLUMN ledger.journals.journal_id IS 'UUIDv7 by the database''s clock, above every earlier one.';
COMMENT ON COLUMN ledger.journals.opened_at IS 'When it was opened, by the database''s clock.';
COMMENT ON COLUMN ledger.journals.writer IS 'Host, process id and version of its writer.';
COMMENT ON COLUMN ledger.journals.heartbeat IS 'Raised by the writer every two seconds; a counter, so that no clocks are compared.';
COMMENT ON COLUMN ledger.journals.backend_pid IS 'The Postgres backend that the writer appends through.';
COMMENT ON COLUMN ledger.journals.backend_start IS 'Start of that backend, so that a reused process id is not mistaken for it.';
COMMENT ON COLUMN ledger.journals.sealed_at IS 'When journal.sealed was recorded; NULL while open. A hint: the event decides.';
COMMENT ON COLUMN ledger.journals.sealed_seq IS 'The seq of journal.sealed.';
COMMENT ON CONSTRAINT journals_pkey ON ledger.journals IS 'A journal has one row.';
COMMENT ON INDEX ledger.journals_open IS 'What heartbeats and recovery look at.';

CREATE TABLE ledger.projections (
    name    text    NOT NULL CONSTRAINT projections_pkey PRIMARY KEY,
    version integer NOT NULL,
    batch   bigint  NOT NULL DEFAULT 0
);
COMMENT ON TABLE ledger.projections IS 'One row a projection. Locking the row is the right to fold; a process with an older version does not fold.';
COMMENT ON COLUMN ledger.projections.name IS 'The projection.';
COMMENT ON COLUMN ledger.projections.version IS 'Version of its fold.';
COMMENT ON COLUMN ledger.projections.batch IS 'Raised by one with each folded batch, under the row''s lock: rows changed since a batch can be asked for.';
COMMENT ON CONSTRAINT projections_pkey ON ledger.projections IS 'A projection has one row.';

CREATE TABLE ledger.checkpoints (
    projection text    NOT NULL CONSTRAINT checkpoints_projection_fkey REFERENCES ledger.projections (name) ON DELETE CASCADE,
    journal_id uuid    NOT NULL,
    folded_seq bigint  NOT NULL DEFAULT 0,
    finished   boolean NOT NULL DEFAULT false,
    stopped_by text,
    CONSTRAINT checkpoints_pkey PRIMARY KEY (projection, journal_id)
);
CREATE INDEX checkpoints_unfinished ON ledger.checkpoints (projection, journal_id) WHERE NOT finished;
COMMENT ON TABLE ledger.checkpoints IS 'How far each projection has folded each journal; changes in the transaction that changes the projection''s rows.';
COMMENT ON COLUMN ledger.checkpoints.projection IS 'The projection.';
COMMENT ON COLUMN ledger.checkpoints.journal_id IS 'The journal.';
COMMENT ON COLUMN ledger.checkpoints.folded_seq IS 'All events up to and with this seq are folded.';
COMMENT ON COLUMN ledger.checkpoints.finished IS 'journal.sealed has been folded: nothing more will come.';
COMMENT ON COLUMN ledger.checkpoints.stopped_by IS 'Why the projection stopped at this journal: an event that it cannot read; NULL while it runs.';
COMMENT ON CONSTRAINT checkpoints_pkey ON ledger.checkpoints IS 'One checkpoint a projection and journal.';
COMMENT ON CONSTRAINT checkpoints_projection_fkey ON ledger.checkpoints IS 'Only known projections have checkpoints.';
COMMENT ON INDEX ledger.checkpoints_unfinished IS 'What a poll visits: sealed and folded journals cost nothing.';

CREATE TABLE ledger.subjects (
    kind     text   NOT NULL,
    id       text   NOT NULL,
    revision bigint NOT NULL DEFAULT 0,
    CONSTRAINT subjects_pkey PRIMARY KEY (kind, id)
);
COMMENT ON TABLE ledger.subjects IS 'Revision counters by compare-and-set: which of two changes to one subject is the later one.';
COMMENT ON COLUMN ledger.subjects.kind IS 'key, price, cost and so on.';
COMMENT ON COLUMN ledger.subjects.id IS 'The subject''s identity within its kind.';
COMMENT ON COLUMN ledger.subjects.revision IS 'The latest revision given out. A revision without an event is harmless.';
COMMENT ON CONSTRAINT subjects_pkey ON ledger.subjects IS 'One counter a subject.';
"""

OPENING = """
CREATE FUNCTION ledger.journal_floor(at timestamptz) RETURNS uuid LANGUAGE sql IMMUTABLE PARALLEL SAFE AS $$
    SELECT (lpad(to_hex(floor(extract(epoch FROM at) * 1000)::bigint), 12, '0') || '00000000000000000000')::uuid
$$;
COMMENT ON FUNCTION ledger.journal_floor(timestamptz) IS 'The least UUIDv7 of a moment: the bound of a partition, or of a query by time.';

CREATE FUNCTION ledger.open_partition(day timestamptz) RETURNS void LANGUAGE plpgsql
    SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    leaf text := 'events_' || to_char(day AT TIME ZONE 'UTC', 'YYYYMMDD');
    lower_bound uuid := ledger.journal_floor(day);
    upper_bound uuid := ledger.journal_floor(day + interval '1 day');
BEGIN
    IF to_regclass('ledger.' || leaf) IS NOT NULL THEN
        RETURN;
    END IF;
    -- LIKE + CHECK + ATTACH: CREATE TABLE ... PARTITION OF would lock out every append while it waits and works.
    EXECUTE format('CREATE TABLE ledger.%I (LIKE ledger.events INCLUDING ALL EXCLUDING COMMENTS)', leaf);
    EXECUTE format('ALTER TABLE ledger.%I ADD CONSTRAINT bounds CHECK (journal_id >= %L AND journal_id < %L)',
                   leaf, lower_bound, upper_bound);
    EXECUTE format('CREATE TRIGGER events_append_only BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.%I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION ledger.refuse_change()', leaf);
    EXECUTE format('ALTER TABLE ledger.%I ENABLE ALWAYS TRIGGER events_append_only', leaf);
    EXECUTE format('GRANT SELECT, INSERT ON ledger.%I TO responses_ledger_app', leaf);
    EXECUTE format('ALTER TABLE ledger.events ATTACH PARTITION ledger.%I FOR VALUES FROM (%L) TO (%L)',
                   leaf, lower_bound, upper_bound);
    EXECUTE format('ALTER TABLE ledger.%I DROP CONSTRAINT bounds', leaf);
    EXECUTE format('COMMENT ON TABLE ledger.%I IS %L', leaf, 'Events of the journals opened on ' || to_char(day AT TIME ZONE 'UTC', 'YYYY-MM-DD') || ' UTC.');
END $$;
COMMENT ON FUNCTION ledger.open_partition(timestamptz) IS 'Makes the partition of one UTC day, unless it is there.';

CREATE FUNCTION ledger.open_journal(writer jsonb, backend_pid integer, backend_start timestamptz) RETURNS uuid
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET lock_timeout = '5s' AS $$
DECLARE
    newest uuid;
    millis bigint;
    id     uuid;
    random text := replace(gen_random_uuid()::text, '-', '');
BEGIN
    -- One opening at a time, so that ids rise; an opening is rare and takes milliseconds.
    PERFORM pg_advisory_xact_lock(hashtextextended('responses-ledger open_journal', 0));
    SELECT j.journal_id INTO newest FROM ledger.journals j ORDER BY j.journal_id DESC LIMIT 1;
    millis := floor(extract(epoch FROM clock_timestamp()) * 1000)::bigint;
    IF newest IS NOT NULL THEN
        -- A clock that went back must not sort a new journal before an older one.
        millis := greatest(millis, ('x' || lpad(left(replace(newest::text, '-', ''), 12), 16, '0'))::bit(64)::bigint + 1);
    END IF;
    id := (lpad(to_hex(millis), 12, '0') || '7' || substr(random, 1, 3) || '8' || substr(random, 4, 15))::uuid;
    PERFORM ledger.open_partition(date_trunc('day', to_timestamp(millis / 1000.0) AT TIME ZONE 'UTC') AT TIME ZONE 'UTC');
    INSERT INTO ledger.journals (journal_id, writer, backend_pid, backend_start)
        VALUES (id, open_journal.writer, open_journal.backend_pid, open_journal.backend_start);
    INSERT INTO ledger.checkpoints (projection, journal_id) SELECT p.name, id FROM ledger.projections p;
    RETURN id;
END $$;
COMMENT ON FUNCTION ledger.open_journal(jsonb, integer, timestamptz) IS
    'Opens a journal: its id by the database''s clock, its day''s partition, its row, its checkpoints.';
"""

GRANTS = """
REVOKE ALL ON FUNCTION ledger.open_partition(timestamptz) FROM PUBLIC;
REVOKE ALL ON FUNCTION ledger.open_journal(jsonb, integer, timestamptz) FROM PUBLIC;
GRANT USAGE ON SCHEMA ledger TO responses_ledger_app;
GRANT EXECUTE ON FUNCTION ledger.open_journal(jsonb, integer, timestamptz) TO responses_ledger_app;
GRANT SELECT, INSERT ON ledger.events TO responses_ledger_app;
GRANT SELECT, UPDATE ON ledger.journals TO responses_ledger_app;
GRANT SELECT, UPDATE ON ledger.projections TO responses_ledger_app;
GRANT SELECT, UPDATE ON ledger.checkpoints TO responses_ledger_app;
GRANT SELECT, INSERT, UPDATE ON ledger.subjects TO responses_ledger_app;
GRANT SELECT ON ledger.alembic_version TO responses_ledger_app;
"""


def upgrade() -> None:
    """Make the journal's tables, functions, guards and roles."""
    for script in (ROLES, EVENTS, JOURNALS, OPENING, GRANTS):
        run_script(script)


def downgrade() -> None:
    """Refuse: going back would delete the book."""
    raise RuntimeError(
        "The first migration cannot be undone: it holds the book. Drop the database by hand if you mean to."
    )
