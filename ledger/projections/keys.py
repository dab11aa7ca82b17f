"""Projection `keys`: the present state of each virtual key and team. The highest revision wins, in whatever order.

An event carries the whole state after the change, so that a revoked key stays revoked in every rebuild.
"""

from ledger.projections.definition import Projection, events_where

#: That they belong to no call lets a rebuild find them by an index among millions of others.
EVENTS = events_where(
    "call_id IS NULL AND type IN ('key.issued', 'key.updated', 'key.regenerated', 'key.blocked', 'key.unblocked', "
    "'key.revoked')"
)
TEAM_EVENTS = events_where("call_id IS NULL AND type IN ('team.created', 'team.updated', 'team.deleted')")


def _texts(value: str) -> str:
    """Spell a JSON array of texts as text[]; anything else is empty."""
    return f"ARRAY(SELECT jsonb_array_elements_text(CASE jsonb_typeof({value}) WHEN 'array' THEN {value} END))"


#: `former`: [{"key_hash", "until"}], the secrets that were replaced.
_FORMER = "jsonb_array_elements(CASE jsonb_typeof(key->'former') WHEN 'array' THEN key->'former' END) AS f"

FOLD = f"""
INSERT INTO @target@.keys AS k (
    key_id, key_hash, key_name, key_alias, org, team, user_id, end_user, models, metadata, tags, expires_at, blocked,
    revoked, created_at, created_by, changed_at, changed_by, revision, batch, allowed_routes, permissions, store_bodies,
    issued_hash, former_hashes, former_until
)
SELECT DISTINCT ON (key->>'key_id')
    key->>'key_id', key->>'key_hash', coalesce(key->>'key_name', ''), ledger.bounded(coalesce(key->>'key_alias', '')),
    ledger.bounded(coalesce(key->>'org', '')), ledger.bounded(coalesce(key->>'team', '')),
    ledger.bounded(coalesce(key->>'user', '')), ledger.bounded(coalesce(key->>'end_user', '')),
    {_texts("key->'models'")},
    CASE jsonb_typeof(key->'metadata') WHEN 'object' THEN key->'metadata' ELSE '{{}}' END,
    {_texts("key->'tags'")},
    (key->>'expires_at')::timestamptz, (key->>'blocked')::boolean, (key->>'revoked')::boolean,
    (key->>'created_at')::timestamptz, coalesce(key->>'created_by', ''),
    recorded_at, coalesce(actor, ''), revision, $4,
    {_texts("key->'allowed_routes'")},
    {_texts("key->'permissions'")},
    key->>'store_bodies', coalesce(key->>'issued_hash', key->>'key_hash'),
    ARRAY(SELECT f->>'key_hash' FROM {_FORMER}), ARRAY(SELECT (f->>'until')::timestamptz FROM {_FORMER})
FROM (
    SELECT facts->'key' AS key, facts->>'actor' AS actor, (facts->>'revision')::bigint AS revision, recorded_at
    FROM ({EVENTS}) AS events
) AS changes
ORDER BY key->>'key_id', revision DESC
ON CONFLICT (key_id) DO UPDATE SET
    key_hash = excluded.key_hash, key_name = excluded.key_name, key_alias = excluded.key_alias, org = excluded.org,
    team = excluded.team, user_id = excluded.user_id, end_user = excluded.end_user, models = excluded.models,
    metadata = excluded.metadata, tags = excluded.tags, expires_at = excluded.expires_at, blocked = excluded.blocked,
    revoked = excluded.revoked, created_at = excluded.created_at, created_by = excluded.created_by,
    changed_at = excluded.changed_at, changed_by = excluded.changed_by, revision = excluded.revision,
    batch = excluded.batch, allowed_routes = excluded.allowed_routes, permissions = excluded.permissions,
    store_bodies = excluded.store_bodies, issued_hash = excluded.issued_hash, former_hashes = excluded.former_hashes,
    former_until = excluded.former_until
WHERE k.revision < excluded.revision
"""  # noqa: S608 the only insertions are constants of this package

TEAMS_FOLD = f"""
INSERT INTO @target@.teams AS t (
    team_id, team_alias, org, metadata, blocked, deleted, created_at, created_by, changed_at, changed_by, revision,
    batch
)
SELECT DISTINCT ON (ledger.bounded(team->>'team_id'))
    ledger.bounded(team->>'team_id'), coalesce(team->>'team_alias', ''), ledger.bounded(coalesce(team->>'org', '')),
    CASE jsonb_typeof(team->'metadata') WHEN 'object' THEN team->'metadata' ELSE '{{}}' END,
    (team->>'blocked')::boolean, (team->>'deleted')::boolean, (team->>'created_at')::timestamptz,
    coalesce(team->>'created_by', ''), recorded_at, coalesce(actor, ''), revision, $4
FROM (
    SELECT facts->'team' AS team, facts->>'actor' AS actor, (facts->>'revision')::bigint AS revision, recorded_at
    FROM ({TEAM_EVENTS}) AS events
) AS changes
ORDER BY ledger.bounded(team->>'team_id'), revision DESC
ON CONFLICT (team_id) DO UPDATE SET
    team_alias = excluded.team_alias, org = excluded.org, metadata = excluded.metadata, blocked = excluded.blocked,
    deleted = excluded.deleted, created_at = excluded.created_at, created_by = excluded.created_by,
    changed_at = excluded.changed_at, changed_by = excluded.changed_by, revision = excluded.revision,
    batch = excluded.batch
WHERE t.revision < excluded.revision
"""  # noqa: S608 the only insertion is a constant of this package

KEYS = Projection(name="keys", version=2, tables=("keys", "teams"), statements=(FOLD, TEAMS_FOLD), numbered=True)
