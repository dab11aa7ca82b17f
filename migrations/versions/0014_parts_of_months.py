"""Rollups of parts of months, each of two shorter ones, and names that are ranked without reading their rows."""

from ledger.postgres.script import run_script

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None

_GRAINS = {"day": 1, "eighth": 4, "quarter": 8, "half": 16, "month": 32}
_FORMER = ("day", "third", "month")
_LENGTH = (
    "Length of the period: day, eighth (of a month: four days, from the 1st, 5th, ... 29th), quarter (eight days), half"
    " (from the 1st and 17th) or month. The last of a month ends with it."
)
_FORMER_LENGTH = "Length of the period: day, third (of a month: from the 1st, 11th, 21st) or month."


def _emptied(prefix: str, former: str) -> str:
    return f"TRUNCATE ledger.{prefix}_names; DELETE FROM ledger.{prefix}_rolled WHERE {former};"  # noqa: S608 constants of this file


def _marked(prefix: str, grains: dict[str, int]) -> str:
    """Mark the periods of every day in which there is something as not rolled up yet."""
    lengths = ", ".join(f"('{grain}', {days})" for grain, days in grains.items())
    return f"""
INSERT INTO ledger.{prefix}_rolled (grain, start, is_current)
SELECT DISTINCT lengths.grain,
    date_trunc('month', d.start)::date + (extract(day FROM d.start)::integer - 1) / days * days, false
FROM ledger.{prefix}_rolled AS d CROSS JOIN (VALUES {lengths}) AS lengths (grain, days) WHERE d.grain = 'day'
ON CONFLICT (grain, start) DO UPDATE SET is_current = false;
"""  # noqa: S608 constants of this file


def _known(prefix: str, grains: tuple[str, ...], sentence: str) -> str:
    """Let the tables of `prefix` hold these grains."""
    listed = ", ".join(f"'{grain}'" for grain in grains)
    return "".join(
        f"""
ALTER TABLE ledger.{prefix}_{table} DROP CONSTRAINT {prefix}_{table}_grain_known;
ALTER TABLE ledger.{prefix}_{table} ADD CONSTRAINT {prefix}_{table}_grain_known CHECK (grain IN ({listed}));
COMMENT ON CONSTRAINT {prefix}_{table}_grain_known ON ledger.{prefix}_{table} IS 'The lengths of periods that are kept.';
COMMENT ON COLUMN ledger.{prefix}_{table}.grain IS '{sentence}';
"""
        for table in ("names", "rolled")
    )


#: `sum` of whole numbers makes a numeric of each group and compares numerics; this stays with whole numbers, and refuses
#: what overflows.
SUM = """
CREATE AGGREGATE ledger.sum_of_micros (bigint) (
    SFUNC = int8pl, STYPE = bigint, COMBINEFUNC = int8pl, PARALLEL = SAFE
);
COMMENT ON AGGREGATE ledger.sum_of_micros (bigint) IS 'Sum of millionths of USD, as a whole number.';
"""
#: The rank is in the keys, where it is read without the rows; so are they vacuumed as soon as there are more of them.
#: Little is ever changed, so that no room need be left for it.
RANKED = """
ALTER TABLE ledger.spend_names DROP CONSTRAINT spend_names_pkey;
ALTER TABLE ledger.spend_names ADD CONSTRAINT spend_names_pkey
    PRIMARY KEY (dimension, grain, start, name, key_id) INCLUDE (usd_micros);
COMMENT ON CONSTRAINT spend_names_pkey ON ledger.spend_names IS 'One row a name, key and period.';
DROP INDEX ledger.spend_names_key;
CREATE INDEX spend_names_key ON ledger.spend_names (grain, start, key_id, name) INCLUDE (usd_micros)
    WHERE dimension = 'end_user_of_key';
COMMENT ON INDEX ledger.spend_names_key IS 'The end users of a key.';
"""
UNRANKED = """
ALTER TABLE ledger.spend_names DROP CONSTRAINT spend_names_pkey;
ALTER TABLE ledger.spend_names ADD CONSTRAINT spend_names_pkey PRIMARY KEY (dimension, grain, start, name, key_id);
COMMENT ON CONSTRAINT spend_names_pkey ON ledger.spend_names IS 'One row a name, key and period.';
DROP INDEX ledger.spend_names_key;
CREATE INDEX spend_names_key ON ledger.spend_names (grain, start, key_id, name) WHERE dimension = 'end_user_of_key';
COMMENT ON INDEX ledger.spend_names_key IS 'The end users of a key.';
DROP AGGREGATE ledger.sum_of_micros (bigint);
"""
_TABLES = ("spend_periods", "spend_names", "call_periods", "call_names")


def upgrade() -> None:
    """Let the rollups be made anew, of other lengths; an older process does not mark these and folds no more."""
    for prefix in ("spend", "call"):
        run_script(_emptied(prefix, "grain = 'third'"))
        run_script(_known(prefix, tuple(_GRAINS), _LENGTH))
        run_script(_marked(prefix, _GRAINS))
    run_script(SUM + RANKED)
    for table in _TABLES:
        run_script(f"ALTER TABLE ledger.{table} RESET (fillfactor);")
        run_script(f"ALTER TABLE ledger.{table} SET (autovacuum_vacuum_insert_scale_factor = 0.02);")
    run_script("""
        UPDATE ledger.projections SET version = 3 WHERE name = 'spend';
        UPDATE ledger.projections SET version = 4 WHERE name = 'calls';
    """)


def downgrade() -> None:
    """Let the rollups be made anew, of the former lengths."""
    for prefix in ("spend", "call"):
        run_script(_emptied(prefix, "grain <> 'day'"))
        run_script(_known(prefix, _FORMER, _FORMER_LENGTH))
        run_script(_marked(prefix, {"day": 1, "month": 32}))
        run_script(_thirds(prefix))
    run_script(UNRANKED)
    for table in _TABLES:
        run_script(f"ALTER TABLE ledger.{table} RESET (autovacuum_vacuum_insert_scale_factor);")
        run_script(f"ALTER TABLE ledger.{table} SET (fillfactor = 70);")
    run_script("""
        UPDATE ledger.projections SET version = 2 WHERE name = 'spend';
        UPDATE ledger.projections SET version = 3 WHERE name = 'calls';
    """)


def _thirds(prefix: str) -> str:
    return f"""
INSERT INTO ledger.{prefix}_rolled (grain, start, is_current)
SELECT DISTINCT 'third',
    date_trunc('month', start)::date + least((extract(day FROM start)::integer - 1) / 10, 2) * 10, false
FROM ledger.{prefix}_rolled WHERE grain = 'day';
"""  # noqa: S608 constants of this file
