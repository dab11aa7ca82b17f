"""Looks whether a projection holds what its events say: computes it anew in temporary tables, and compares.

Needs no more rights than the application has, locks nothing, and changes nothing. `rebuild.py` repairs what it finds.
"""

from dataclasses import dataclass
from typing import Any

import asyncpg

from ledger.postgres.connect import connect
from ledger.projections.catalogue import by_names
from ledger.projections.definition import Projection
from ledger.projections.rebuild import catch_up
from ledger.projections.rollup import roll_up_all
from ledger.projections.shadow import create

_SESSION = {"work_mem": "128MB", "temp_buffers": "64MB", "plan_cache_mode": "force_custom_plan", "jit": "off"}
#: More differences than these tell nothing new.
DIFFERENCES_MAX = 100
#: Which batch wrote a row differs by nature.
_BESIDE_THE_POINT = frozenset({"batch"})

_COLUMNS = """
SELECT attname FROM pg_attribute WHERE attrelid = $1::text::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum
"""
_POSITIONS = "SELECT journal_id, folded_seq FROM ledger.checkpoints WHERE projection = $1"


@dataclass(frozen=True, slots=True)
class Difference:
    """A row of `table` that is only in one of the two: `found` in the live table, or `expected` from the events."""

    table: str
    side: str
    row: dict[str, Any]


async def compare(url: str, projection: str) -> list[Difference]:
    """Return how the live tables of `projection` differ from its events, as far as these are folded; [] is well.

    At most DIFFERENCES_MAX a table and side are returned.
    """
    (definition,) = by_names([projection])
    connection = await connect(url, purpose="compare", **_SESSION)
    try:
        await connection.execute("CREATE TEMP TABLE checkpoints (LIKE ledger.checkpoints INCLUDING ALL)")
        await create(connection, definition, "pg_temp")
        await catch_up(connection, definition, "pg_temp", up_to=await _positions(connection, definition))
        # One snapshot for the checkpoints and the rows that belong to them; what is still to be folded is little.
        async with connection.transaction(isolation="repeatable_read"):
            await catch_up(connection, definition, "pg_temp", up_to=await _positions(connection, definition))
            found = [
                difference
                for table in definition.tables
                if definition.rollup is None or table != definition.rollup.rolled
                for difference in await _differences(connection, table)
            ]
            return found + await _rollup_differences(connection, definition)
    finally:
        await connection.close()


async def _positions(connection: asyncpg.Connection, projection: Projection) -> dict[Any, int]:
    return {row["journal_id"]: row["folded_seq"] for row in await connection.fetch(_POSITIONS, projection.name)}


async def _rollup_differences(connection: asyncpg.Connection, projection: Projection) -> list[Difference]:
    """Compare the periods that the live rollup calls current; a stale one is not read, and may hold what it likes."""
    rollup = projection.rollup
    if rollup is None:
        return []
    await roll_up_all(connection, rollup, "pg_temp")
    current = f"(grain, start) IN (SELECT grain, start FROM ledger.{rollup.rolled} WHERE is_current)"  # noqa: S608 a name of this package
    return [
        difference for table in rollup.tables for difference in await _differences(connection, table, where=current)
    ]


async def _differences(connection: asyncpg.Connection, table: str, *, where: str = "true") -> list[Difference]:
    names = [row["attname"] for row in await connection.fetch(_COLUMNS, f"ledger.{table}")]
    columns = ", ".join(name for name in names if name not in _BESIDE_THE_POINT)
    live, anew = (
        f"SELECT {columns} FROM {schema}.{table} WHERE {where}"  # noqa: S608 names out of the catalogue
        for schema in ("ledger", "pg_temp")
    )
    found = await connection.fetch(f"{live} EXCEPT ALL {anew} LIMIT {DIFFERENCES_MAX}")
    expected = await connection.fetch(f"{anew} EXCEPT ALL {live} LIMIT {DIFFERENCES_MAX}")
    return [Difference(table, "found", dict(row)) for row in found] + [
        Difference(table, "expected", dict(row)) for row in expected
    ]
