"""What keys gained: routes, permissions, former secrets, whether bodies are stored; and teams beside them.

Expands only: defaults are what a fold makes of events that lack the fact.
"""

from ledger.postgres.script import run_script
from migrations.comments import View, create_view, describe, quoted

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None

KEYS = """
ALTER TABLE ledger.keys
    ADD COLUMN allowed_routes text[] NOT NULL DEFAULT '{}',
    ADD COLUMN permissions text[] NOT NULL DEFAULT '{}',
    ADD COLUMN store_bodies text,
    ADD COLUMN issued_hash text NOT NULL DEFAULT '',
    ADD COLUMN former_hashes text[] NOT NULL DEFAULT '{}',
    ADD COLUMN former_until timestamptz[] NOT NULL DEFAULT '{}';
UPDATE ledger.keys SET issued_hash = key_hash;
CREATE INDEX keys_former ON ledger.keys USING gin (former_hashes) WHERE former_hashes <> '{}';
CREATE INDEX keys_alias ON ledger.keys (key_alias) WHERE key_alias <> '';
CREATE INDEX keys_team ON ledger.keys (team) WHERE team <> '';
"""

TEAMS = """
CREATE TABLE ledger.teams (
    team_id    text        NOT NULL CONSTRAINT teams_pkey PRIMARY KEY,
    team_alias text        NOT NULL,
    org        text        NOT NULL,
    metadata   jsonb       NOT NULL,
    blocked    boolean     NOT NULL,
    deleted    boolean     NOT NULL,
    created_at timestamptz NOT NULL,
    created_by text        NOT NULL,
    changed_at timestamptz NOT NULL,
    changed_by text        NOT NULL,
    revision   bigint      NOT NULL,
    batch      bigint      NOT NULL
);
CREATE INDEX teams_batch ON ledger.teams (batch);
GRANT SELECT, INSERT, UPDATE ON ledger.teams TO responses_ledger_app;
UPDATE ledger.projections SET version = 2 WHERE name = 'keys';
"""

COLUMN_COMMENTS = {
    "allowed_routes": "Routes that it may use, as paths, paths with a trailing star, or groups; empty: all.",
    "permissions": "What it may beyond its own rows: view, admin; empty: nothing.",
    "store_bodies": "Whether bodies of its calls are stored: all, none; NULL: as the configuration says.",
    "issued_hash": "SHA-256 of the secret that it was issued with; its revisions are counted under it.",
    "former_hashes": "SHA-256 of secrets that were replaced by others.",
    "former_until": "Until when each of former_hashes is still accepted.",
}

INDEX_COMMENTS = {
    "keys_former": "Finds a key by a secret that was replaced.",
    "keys_alias": "Finds a key by the name that people gave it.",
    "keys_team": "The keys of a team.",
    "teams_batch": "What changed since a batch.",
}

TEAM_COLUMNS = {
    "team_id": "The team, as keys name it.",
    "team_alias": "A name that people gave it.",
    "org": "The organisation that it belongs to.",
    "metadata": "What people attached to it.",
    "blocked": "Its keys are refused for now.",
    "deleted": "Deleted; it may be created anew.",
    "created_at": "When it was created.",
    "created_by": "Who created it.",
    "changed_at": "When it was changed last.",
    "changed_by": "Who changed it last.",
    "revision": "How often it was changed, from 1.",
}

_KEY_NAMES = (
    "key_id, key_name, key_alias, org, team, user_id, end_user, models, metadata, tags, expires_at, blocked, revoked, "
    "created_at, created_by, changed_at, changed_by, revision"
)

KEYS_VIEW = f"""
CREATE OR REPLACE VIEW reporting.keys AS
SELECT {_KEY_NAMES}, allowed_routes, permissions, store_bodies,
    (SELECT max(until) FROM unnest(former_until) AS until) AS former_until
FROM ledger.keys;
"""  # noqa: S608 - constants of this file

KEYS_VIEW_COMMENTS = {
    **{name: COLUMN_COMMENTS[name] for name in ("allowed_routes", "permissions", "store_bodies")},
    "former_until": "Until when a secret that was replaced is accepted at most; NULL: none ever was.",
}

TEAMS_VIEW = View(
    "The teams that were created; keys may name others, which exist as names only.",
    f"SELECT {', '.join(name for name in TEAM_COLUMNS if name != 'deleted')} FROM ledger.teams WHERE NOT deleted",  # noqa: S608 - constants of this file
    {name: text for name, text in TEAM_COLUMNS.items() if name != "deleted"},
)

_OLD_QUERY = f"CREATE VIEW reporting.keys AS SELECT {_KEY_NAMES} FROM ledger.keys;"  # noqa: S608 - constants of this file
OLD_KEYS_VIEW = f"{_OLD_QUERY}\nGRANT SELECT ON reporting.keys TO responses_ledger_reporting, responses_ledger_app;"


def _comments() -> str:
    columns = {**TEAM_COLUMNS, "batch": "The batch of projection keys that changed the row."}
    lines = [describe("TABLE", "ledger.teams", "Projection keys: the present state of each team.", columns)]
    lines += [f"COMMENT ON COLUMN ledger.keys.{name} IS {quoted(text)};" for name, text in COLUMN_COMMENTS.items()]
    lines += [f"COMMENT ON INDEX ledger.{name} IS {quoted(text)};" for name, text in INDEX_COMMENTS.items()]
    lines += [f"COMMENT ON COLUMN reporting.keys.{n} IS {quoted(text)};" for n, text in KEYS_VIEW_COMMENTS.items()]
    lines.append("COMMENT ON CONSTRAINT teams_pkey ON ledger.teams IS 'A team has one row.';")
    return "\n".join(lines)


def upgrade() -> None:
    """Add the columns, the table and its view."""
    for script in (KEYS, TEAMS, KEYS_VIEW, create_view("teams", TEAMS_VIEW), _comments()):
        run_script(script)


def downgrade() -> None:
    """Take them away; the events stay."""
    run_script("""
        DROP VIEW reporting.teams, reporting.keys;
        DROP TABLE ledger.teams;
        ALTER TABLE ledger.keys DROP COLUMN allowed_routes, DROP COLUMN permissions, DROP COLUMN store_bodies,
            DROP COLUMN issued_hash, DROP COLUMN former_hashes, DROP COLUMN former_until;
        DROP INDEX ledger.keys_alias, ledger.keys_team;
        UPDATE ledger.projections SET version = 1 WHERE name = 'keys';
    """)
    run_script(OLD_KEYS_VIEW)
