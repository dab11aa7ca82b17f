"""Rollups: sums of past days, parts of months and months, so that a report reads thousands of rows, not millions.

They are not folded with each batch, which would write each charge five times more: a fold only marks the periods that
it touches as stale, in its own transaction, and `roller.py` sums a stale period that is over anew, from the
projection's own rows. `ledger/reports/periods.py` reads a period's rollup where it is current, and else the rows; both
in one snapshot, so an answer does not depend on what is rolled up.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import asyncpg

#: The dimensions of `*_periods`: a key has one org, team and user at a time, and models and tiers are few.
PERIOD_DIMENSIONS = ("org", "team", "user_id", "key_id", "model", "deployment", "tier")
#: End users by the key that they came through. There may be tens of thousands, so all keys together are kept as well.
END_USER_OF_KEY = "end_user_of_key"
#: The dimensions of `*_names`; `all` has the one name ''. Tags are kept by key, too.
NAME_DIMENSIONS = ("all", *PERIOD_DIMENSIONS, "end_user", END_USER_OF_KEY, "tag")
#: From fine to coarse, in days; the last of a month is as long as the month has days left. From the eighth on each is
#: two of the one before, so that few cover any period: a name of tens of thousands is in nearly every one of them.
GRAINS = {"day": 1, "eighth": 4, "quarter": 8, "half": 16, "month": 32}
#: The grains of `*_periods`, of which there are too few rows for the others to save anything.
PERIOD_GRAINS = ("day", "month")

_FEW = ", ".join(PERIOD_DIMENSIONS)
_LENGTHS = ", ".join(f"('{grain}', {days})" for grain, days in GRAINS.items())

#: The oldest period that is over and stale, days first. The hour's grace leaves a day alone while calls of its last
#: minutes still end. The lock waits for a fold that touches the period, and makes the next one wait.
_STALE = f"""
SELECT r.grain, r.start, p.until
FROM @target@.@prefix@_rolled AS r JOIN (VALUES {_LENGTHS}) AS g (grain, days) USING (grain)
CROSS JOIN LATERAL (
    SELECT least(r.start + g.days, (date_trunc('month', r.start) + interval '1 month')::date) AS until
) AS p
WHERE NOT r.is_current AND p.until <= ((now() - interval '1 hour') AT TIME ZONE 'UTC')::date
ORDER BY g.days, r.start LIMIT 1 FOR UPDATE OF r
"""  # noqa: S608 constants of this file
#: A shorter period that came while the lock was waited for.
_STALE_WITHIN = """
SELECT EXISTS (
    SELECT FROM @target@.@prefix@_rolled
    WHERE grain = ANY ($3::text[]) AND NOT is_current AND start >= $1 AND start < $2
)
"""
_ROLLED = "UPDATE @target@.@prefix@_rolled SET is_current = true WHERE grain = $1 AND start = $2"


@dataclass(frozen=True, slots=True)
class Rollup:
    """What is rolled up: `rows` is a query of a day's rows ($1 its date) with all dimensions, tags, and `sums`.

    End users are most of the names, and rolled up only where reports ask for all of them.
    """

    prefix: str
    rows: str
    sums: tuple[str, ...]
    has_end_users: bool

    @property
    def tables(self) -> tuple[str, ...]:
        """The tables of sums; which of their periods can be trusted is in `rolled`."""
        return (f"{self.prefix}_periods", f"{self.prefix}_names")

    @property
    def rolled(self) -> str:
        """The table of periods."""
        return f"{self.prefix}_rolled"


def touch(source: str, prefix: str) -> str:
    """Return a CTE's query that marks the periods of the dates `day` of the CTE `source` as stale."""
    return f"""
    INSERT INTO @target@.{prefix}_rolled AS r (grain, start, is_current)
    SELECT DISTINCT touched.grain, touched.start, false
    FROM (SELECT DISTINCT day FROM {source} WHERE day IS NOT NULL) AS days
    CROSS JOIN LATERAL (
        SELECT grain, date_trunc('month', day)::date + (extract(day FROM day)::integer - 1) / days * days AS start
        FROM (VALUES {_LENGTHS}) AS lengths (grain, days)
    ) AS touched
    ORDER BY touched.grain, touched.start
    ON CONFLICT (grain, start) DO UPDATE SET is_current = false WHERE r.is_current
"""  # noqa: S608 constants of this package


async def roll_up(connection: asyncpg.Connection, rollup: Rollup, target: str) -> bool:
    """Sum one stale period that is over anew, in the caller's transaction; False where there is none.

    Folds go on meanwhile; one that touches this very period waits. Only one process may do this at a time: a longer
    period is summed from shorter ones.
    """
    row = await connection.fetchrow(_spelt(_STALE, rollup, target))
    if row is None:
        return False
    grain, start, until = row["grain"], row["start"], row["until"]
    shorter = list(GRAINS)[: list(GRAINS).index(grain)]
    if shorter and await connection.fetchval(_spelt(_STALE_WITHIN, rollup, target), start, until, shorter):
        return True
    for statement in _statements(rollup, grain):
        arguments: list[date] = [start] if grain == "day" else [start, until]
        await connection.execute(_spelt(statement, rollup, target), *arguments)
    await connection.execute(_spelt(_ROLLED, rollup, target), grain, start)
    return True


async def roll_up_all(connection: asyncpg.Connection, rollup: Rollup, target: str) -> None:
    """Sum every stale period that is over anew."""
    more = True
    while more:
        async with connection.transaction():
            more = await roll_up(connection, rollup, target)


def _spelt(statement: str, rollup: Rollup, target: str) -> str:
    return statement.replace("@target@", target).replace("@prefix@", rollup.prefix)


def _statements(rollup: Rollup, grain: str) -> tuple[str, ...]:
    """Spell how a period is summed: a day from the rows, a longer one from those of the grain below."""
    if grain == "day":
        return _periods_of_day(rollup), _names_of_day(rollup)
    grains = list(GRAINS)
    names = _longer("names", grain, grains[grains.index(grain) - 1], rollup.sums)
    if grain not in PERIOD_GRAINS:
        return (names,)
    return _longer("periods", grain, "day", rollup.sums), names


def _added(sums: Sequence[str]) -> str:
    return ", ".join(f"sum({name}) AS {name}" for name in sums)


def _replaced(sums: Sequence[str]) -> str:
    """A row that is there is written over where it differs: what a name was once in, it stays in."""
    there, due = (", ".join(f"{table}.{name}" for name in sums) for table in ("t", "excluded"))
    written = ", ".join(f"{name} = excluded.{name}" for name in sums)
    return f"{written} WHERE ({there}) IS DISTINCT FROM ({due})"


def _periods_of_day(rollup: Rollup) -> str:
    sums = ", ".join(rollup.sums)
    return f"""
INSERT INTO @target@.@prefix@_periods AS t (grain, start, dims_sha256, {_FEW}, {sums})
SELECT 'day', $1::date, sha256(convert_to(jsonb_build_array({_FEW})::text, 'UTF8')) AS dims_sha256, {_FEW}, {sums}
FROM (SELECT {_FEW}, {_added(rollup.sums)} FROM ({rollup.rows}) AS rows GROUP BY {_FEW}) AS periods
ORDER BY dims_sha256
ON CONFLICT (grain, start, dims_sha256) DO UPDATE SET {_replaced(rollup.sums)}
"""  # noqa: S608 constants of this package


def _names_of_day(rollup: Rollup) -> str:
    """Names of which there are few are summed from the day's periods, which are there by then."""
    sums, added = ", ".join(rollup.sums), _added(rollup.sums)
    singles = ", ".join(f"('{name}', {name})" for name in PERIOD_DIMENSIONS)
    end_users = f"""
    UNION ALL
    SELECT 'end_user', end_user, '', {added} FROM end_users GROUP BY end_user
    UNION ALL
    SELECT '{END_USER_OF_KEY}', end_user, key_id, {sums} FROM end_users
"""  # noqa: S608 constants of this package
    return f"""
WITH rows AS MATERIALIZED ({rollup.rows}), end_users AS MATERIALIZED (
    SELECT end_user, key_id, {added} FROM rows GROUP BY end_user, key_id
), names AS (
    SELECT named.dimension, named.name, '' COLLATE "C" AS key_id, {added}
    FROM @target@.@prefix@_periods AS p
    CROSS JOIN LATERAL (VALUES ('all', '' COLLATE "C"), {singles}) AS named (dimension, name)
    WHERE p.grain = 'day' AND p.start = $1::date
    GROUP BY named.dimension, named.name
    UNION ALL
    SELECT 'tag', ledger.bounded(tag), key_id, {added} FROM rows CROSS JOIN LATERAL unnest(tags) AS tag
    GROUP BY ledger.bounded(tag), key_id
    {end_users if rollup.has_end_users else ""}
)
INSERT INTO @target@.@prefix@_names AS t (dimension, grain, start, name, key_id, {sums})
SELECT dimension, 'day', $1::date, name, key_id, {sums} FROM names ORDER BY dimension, key_id, name
ON CONFLICT (dimension, grain, start, name, key_id) DO UPDATE SET {_replaced(rollup.sums)}
"""  # noqa: S608 constants of this package


def _longer(table: str, grain: str, shorter: str, sums: Sequence[str]) -> str:
    """Spell a longer period ($1 to $2) as the sum of shorter ones."""
    dims = ("dims_sha256", *PERIOD_DIMENSIONS) if table == "periods" else ("dimension", "key_id", "name")
    columns = ", ".join(dims)
    order = "dims_sha256" if table == "periods" else columns
    unique = "grain, start, dims_sha256" if table == "periods" else "dimension, grain, start, name, key_id"
    return f"""
INSERT INTO @target@.@prefix@_{table} AS t (grain, start, {columns}, {", ".join(sums)})
SELECT '{grain}', $1::date, {columns}, {_added(sums)} FROM @target@.@prefix@_{table}
WHERE grain = '{shorter}' AND start >= $1::date AND start < $2::date
GROUP BY {columns} ORDER BY {order}
ON CONFLICT ({unique}) DO UPDATE SET {_replaced(sums)}
"""  # noqa: S608 constants of this package
