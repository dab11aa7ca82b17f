"""Projection `keys`: the present state of each virtual key. The highest revision wins, in whatever order events come.

An event carries the whole state after the change, so that a revoked key stays revoked in every rebuild.
"""

from ledger.projections.definition import Projection, events_where

#: That they belong to no call lets a rebuild find them by an index among millions of others.
EVENTS = events_where(
    "call_id IS NULL AND type IN ('key.issued', 'key.updated', 'key.blocked', 'key.unblocked', 'key.revoked')"
)

FOLD = f"""
INSERT INTO @target@.keys AS k (
    key_id, key_hash, key_name, key_alias, org, team, user_id, end_user, models, metadata, tags, expires_at, blocked,
    revoked, created_at, created_by, changed_at, changed_by, revision, batch
)
SELECT DISTINCT ON (key->>'key_id')
    key->>'key_id', key->>'key_hash', coalesce(key->>'key_name', ''), coalesce(key->>'key_alias', ''),
    ledger.bounded(coalesce(key->>'org', '')), ledger.bounded(coalesce(key->>'team', '')),
    ledger.bounded(coalesce(key->>'user', '')), ledger.bounded(coalesce(key->>'end_user', '')),
    ARRAY(SELECT jsonb_array_elements_text(CASE jsonb_typeof(key->'models') WHEN 'array' THEN key->'models' END)),
    CASE jsonb_typeof(key->'metadata') WHEN 'object' THEN key->'metadata' ELSE '{{}}' END,
    ARRAY(SELECT jsonb_array_elements_text(CASE jsonb_typeof(key->'tags') WHEN 'array' THEN key->'tags' END)),
    (key->>'expires_at')::timestamptz, (key->>'blocked')::boolean, (key->>'revoked')::boolean,
    (key->>'created_at')::timestamptz, coalesce(key->>'created_by', ''),
    recorded_at, coalesce(actor, ''), revision, $4
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
    batch = excluded.batch
WHERE k.revision < excluded.revision
"""  # noqa: S608 the only insertion is a constant of this package

KEYS = Projection(name="keys", version=1, tables=("keys",), statements=(FOLD,), numbered=True)
