"""Tables beside the live ones, with the same definition: made for a rebuild, filled, and put in the live ones' place.

Definitions are read from the catalogue, so that there is one place where a table is described: its migration.
`rebuild.py` fills them.
"""

import asyncpg

from ledger.projections.definition import Projection

#: What a fold needs while it loads, beside unique indexes. All other indexes are made afterwards, in less time.
_PRIMARY_KEYS = """
SELECT pg_get_constraintdef(c.oid) AS definition, c.conname AS name, obj_description(c.oid, 'pg_constraint') AS comment
FROM pg_constraint c WHERE c.conrelid = $1::text::regclass AND c.contype = 'p'
"""
_INDEXES = """
SELECT c.relname AS name, pg_get_indexdef(i.indexrelid) AS definition,
    obj_description(i.indexrelid, 'pg_class') AS comment
FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid
WHERE i.indrelid = $1::text::regclass AND NOT i.indisprimary AND i.indisunique = $2 ORDER BY c.relname
"""
_GRANTS = """
SELECT a.privilege_type AS privilege, a.grantee::regrole::text AS grantee
FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
WHERE c.oid = $1::text::regclass AND a.grantee <> 0 AND a.grantee <> c.relowner
"""
_OPTIONS = "SELECT coalesce(reloptions, '{}') FROM pg_class WHERE oid = $1::text::regclass"
_OWNER = "SELECT relowner::regrole::text FROM pg_class WHERE oid = $1::text::regclass"

#: Views that read a table directly; what reads these views does not notice the exchange.
_DEPENDANTS = """
SELECT DISTINCT v.oid, v.relkind::text AS kind, v.oid::regclass::text AS name, v.relowner::regrole::text AS owner,
    v.reloptions AS options, pg_get_viewdef(v.oid) AS query
FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid JOIN pg_class v ON v.oid = r.ev_class
WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
  AND d.refobjid = ANY ($1::text[]::regclass[]) AND v.oid <> d.refobjid
ORDER BY name
"""


class ExchangeError(Exception):
    """The rebuilt tables cannot take the live ones' place; the live ones are untouched."""


async def create(connection: asyncpg.Connection, projection: Projection, schema: str) -> None:
    """Make empty tables like the live ones in `schema`, with their unique keys and no other index."""
    for table in projection.all_tables:
        shadow = f"{schema}.{table}"
        await connection.execute(f"CREATE TABLE {shadow} (LIKE ledger.{table} INCLUDING ALL EXCLUDING INDEXES)")
        # LIKE leaves out how the table is stored.
        if options := await connection.fetchval(_OPTIONS, f"ledger.{table}"):
            await connection.execute(f"ALTER TABLE {shadow} SET ({', '.join(options)})")
        for key in await connection.fetch(_PRIMARY_KEYS, f"ledger.{table}"):
            await connection.execute(f"ALTER TABLE {shadow} ADD CONSTRAINT {key['name']} {key['definition']}")
            await _comment(connection, f"CONSTRAINT {key['name']} ON {shadow}", key["comment"])
        await _add_indexes(connection, table, schema, unique=True)


async def complete(connection: asyncpg.Connection, projection: Projection, schema: str) -> None:
    """Give loaded tables what the live ones have: indexes, comments, owner, grants, statistics."""
    for table in projection.all_tables:
        live, shadow = f"ledger.{table}", f"{schema}.{table}"
        await _add_indexes(connection, table, schema, unique=False)
        about = await connection.fetchval("SELECT obj_description($1::text::regclass, 'pg_class')", live)
        await _comment(connection, f"TABLE {shadow}", about)
        for grant in await connection.fetch(_GRANTS, live):
            await connection.execute(f"GRANT {grant['privilege']} ON {shadow} TO {grant['grantee']}")
        await connection.execute(f"ALTER TABLE {shadow} OWNER TO {await connection.fetchval(_OWNER, live)}")
        await connection.execute(f"ANALYZE {shadow}")


async def _add_indexes(connection: asyncpg.Connection, table: str, schema: str, *, unique: bool) -> None:
    for index in await connection.fetch(_INDEXES, f"ledger.{table}", unique):
        definition: str = index["definition"]
        await connection.execute(definition.replace(f" ON ledger.{table} ", f" ON {schema}.{table} ", 1))
        await _comment(connection, f"INDEX {schema}.{index['name']}", index["comment"])


async def exchange(connection: asyncpg.Connection, projection: Projection, schema: str) -> None:
    """Put the tables of `schema` in the live ones' place and drop these, in the caller's transaction.

    Views keep their identity, and with it their comments, grants and the views upon them: each is replaced by its own
    definition, whose names then mean the new tables. Views are locked before tables, as readers do it.

    Raises:
        ExchangeError: something reads the live tables that cannot be pointed at others.
        asyncpg.LockNotAvailableError: a reader is in the way; roll back and try again.
    """
    # Nothing on the path: definitions come back with every name qualified.
    await connection.execute("SET LOCAL search_path = pg_catalog")
    views = await connection.fetch(_DEPENDANTS, [f"ledger.{table}" for table in projection.all_tables])
    for view in views:
        if view["kind"] != "v":
            raise ExchangeError(
                f"{view['name']} reads projection {projection.name} and is no plain view: drop it first."
            )
        # Changes nothing, but locks the view and not what it reads, events among it.
        await connection.execute(f"ALTER VIEW {view['name']} OWNER TO {view['owner']}")
    for table in projection.all_tables:
        await connection.execute(f"ALTER TABLE ledger.{table} RENAME TO {table}_retired")
        await _step_aside(connection, table)
        await connection.execute(f"ALTER TABLE {schema}.{table} SET SCHEMA ledger")
    for view in views:
        options = f" WITH ({', '.join(view['options'])})" if view["options"] else ""
        await connection.execute(f"CREATE OR REPLACE VIEW {view['name']}{options} AS {view['query']}")
    try:
        for table in projection.all_tables:
            await connection.execute(f"DROP TABLE ledger.{table}_retired")
    except asyncpg.DependentObjectsStillExistError as error:
        raise ExchangeError(f"Something depends on a table of projection {projection.name}: {error}") from error


async def _step_aside(connection: asyncpg.Connection, table: str) -> None:
    """Free the names of a retired table's indexes; they belong to the schema, and the new table brings its own."""
    rows = await connection.fetch(
        "SELECT c.relname AS name FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid"
        " WHERE i.indrelid = $1::text::regclass",
        f"ledger.{table}_retired",
    )
    for row in rows:
        await connection.execute(f"ALTER INDEX ledger.{row['name']} RENAME TO {row['name']}_retired")


async def _comment(connection: asyncpg.Connection, what: str, comment: str | None) -> None:
    if comment is not None:
        await connection.execute(f"COMMENT ON {what} IS {await _quoted(connection, comment)}")


async def _quoted(connection: asyncpg.Connection, text: str) -> str:
    return str(await connection.fetchval("SELECT quote_literal($1::text)", text))
