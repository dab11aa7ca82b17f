"""Which schema this version of the code needs, and whether a database has it; without Alembic, which loads slowly.

`migrate.py` brings a database to it.
"""

import re
from importlib.resources import files

import asyncpg

_MIGRATION = re.compile(r"(\d{4})_\w+\.py")


class SchemaMismatchError(Exception):
    """The database's schema does not fit this version of the code; the message says what to do."""


def known() -> list[str]:
    """Return the revisions that this code knows, oldest first; each migration's file is named after its revision."""
    names = (_MIGRATION.fullmatch(file.name) for file in files("migrations").joinpath("versions").iterdir())
    return sorted(found[1] for found in names if found is not None)


def head() -> str:
    """Return the revision that this code needs."""
    revisions = known()
    if not revisions:
        raise SchemaMismatchError("This installation has no migrations: install the package anew.")
    return revisions[-1]


def refuse_newer_schema(revision: str | None) -> None:
    """Refuse a revision that this version does not know.

    Raises:
        SchemaMismatchError: with what to do.
    """
    if revision is not None and revision not in known():
        raise SchemaMismatchError(
            f"The database's schema is at revision {revision}, which this version does not know "
            f"(its newest is {head()}): the database was migrated by a newer version. "
            "Run that version, or restore a backup made before it."
        )


async def check(connection: asyncpg.Connection) -> None:
    """Refuse a schema that is not exactly the code's.

    Raises:
        SchemaMismatchError: it is older (run `llm ledger migrate`) or newer (run the newer version).
    """
    there = await connection.fetchval("SELECT to_regclass('ledger.alembic_version') IS NOT NULL")
    revision = await connection.fetchval("SELECT version_num FROM ledger.alembic_version") if there else None
    if revision == head():
        return
    refuse_newer_schema(revision)
    raise SchemaMismatchError(
        f"The database's schema is at revision {revision or '(none)'}, this version needs {head()}: "
        "run `llm ledger migrate` with a login that owns the schema."
    )
