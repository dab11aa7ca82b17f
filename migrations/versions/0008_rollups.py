"""Rollups of spend, and of how calls ended, by day and longer; what there is of past days is marked to be rolled up."""

from ledger.postgres.script import run_script
from migrations.comments import describe

revision = "0008"
down_revision = "0007"
branch_labels = None
depends_on = None

_DIMS = {
    "org": "The key's organisation at the time; empty where there was none.",
    "team": "The key's team at the time; empty where there was none.",
    "user_id": "The key's user at the time; empty where there was none.",
    "key_id": "The virtual key; empty where there was none.",
    "model": "The model that the caller asked for.",
    "deployment": "The deployment that was called; of several attempts, the last one's.",
    "tier": "The service tier that the upstream said it served; empty where it said none.",
}
_SUMS = {
    "calls": "Calls, counted at the attempt that ended them.",
    "attempts": "Attempts at an upstream.",
    "input_tokens": "Input tokens; cached and cache-write tokens are among them.",
    "cached_tokens": "Input tokens that were read from the upstream's cache.",
    "cache_write_tokens": "Input tokens that were written to the upstream's cache.",
    "output_tokens": "Output tokens; reasoning tokens are among them.",
    "reasoning_tokens": "Output tokens spent on reasoning.",
    "billed_usd": "USD that follow from the upstream's own usage and a published price; exact.",
    "estimated_usd": "USD estimated where the upstream's usage was not learnt; not part of billed_usd.",
    "unknown_calls": "Charges whose amount is not known; they are not zero and in no sum.",
}
_ENDS = {
    "succeeded": "Calls that ended as completed or incomplete.",
    "failed": "Calls that ended in any other way, rejected ones among them.",
}
_START = {
    "start": "First day of the period, UTC, by when the call was received.",
}


def _periods(prefix: str, sums: dict[str, str]) -> str:
    columns = "".join(f'    {name} text NOT NULL COLLATE "C",\n' for name in _DIMS)
    return f"""
CREATE TABLE ledger.{prefix}_periods (
    grain       text  NOT NULL COLLATE "C" CONSTRAINT {prefix}_periods_grain_known CHECK (grain IN ('day', 'month')),
    start       date  NOT NULL,
    dims_sha256 bytea NOT NULL,
{columns}{_columns(sums)}
    CONSTRAINT {prefix}_periods_pkey PRIMARY KEY (grain, start, dims_sha256)
) WITH (fillfactor = 70);
{
        describe(
            "TABLE",
            f"ledger.{prefix}_periods",
            _WHAT[prefix][0],
            {
                "grain": "Length of the period: day or month.",
                **_START,
                "dims_sha256": "Hash of all dimensions: together they are too long for an index.",
                **_DIMS,
                **sums,
            },
        )
    }
COMMENT ON CONSTRAINT {prefix}_periods_pkey ON ledger.{
        prefix
    }_periods IS 'One row a period and combination of dimensions.';
COMMENT ON CONSTRAINT {prefix}_periods_grain_known ON ledger.{
        prefix
    }_periods IS 'The lengths of periods that are kept.';
"""


def _names(prefix: str, sums: dict[str, str]) -> str:
    return f"""
CREATE TABLE ledger.{prefix}_names (
    dimension text NOT NULL COLLATE "C" CONSTRAINT {prefix}_names_dimension_known CHECK (dimension IN (
        'all', 'org', 'team', 'user_id', 'key_id', 'model', 'deployment', 'tier', 'end_user', 'tag')),
    grain     text NOT NULL COLLATE "C" CONSTRAINT {
        prefix
    }_names_grain_known CHECK (grain IN ('day', 'third', 'month')),
    start     date NOT NULL,
    name      text NOT NULL COLLATE "C",
    key_id    text NOT NULL COLLATE "C",
{_columns(sums)}
    CONSTRAINT {prefix}_names_pkey PRIMARY KEY (dimension, grain, start, name, key_id)
) WITH (fillfactor = 70);
{
        describe(
            "TABLE",
            f"ledger.{prefix}_names",
            _WHAT[prefix][1],
            {
                "dimension": "What is named; all: everything, under the name ''.",
                "grain": "Length of the period: day, third (of a month: from the 1st, 11th, 21st) or month.",
                **_START,
                "name": "The name in that dimension; empty where there was none.",
                "key_id": "For end users and tags: the key that the calls went through. Empty in other dimensions: all keys.",
                **sums,
            },
        )
    }
COMMENT ON CONSTRAINT {prefix}_names_pkey ON ledger.{prefix}_names IS 'One row a name, key and period.';
COMMENT ON CONSTRAINT {prefix}_names_dimension_known ON ledger.{prefix}_names IS 'The dimensions that are kept.';
COMMENT ON CONSTRAINT {prefix}_names_grain_known ON ledger.{prefix}_names IS 'The lengths of periods that are kept.';
"""


def _rolled(prefix: str) -> str:
    return f"""
CREATE TABLE ledger.{prefix}_rolled (
    grain      text    NOT NULL COLLATE "C" CONSTRAINT {
        prefix
    }_rolled_grain_known CHECK (grain IN ('day', 'third', 'month')),
    start      date    NOT NULL,
    is_current boolean NOT NULL,
    CONSTRAINT {prefix}_rolled_pkey PRIMARY KEY (grain, start)
) WITH (fillfactor = 70);
{
        describe(
            "TABLE",
            f"ledger.{prefix}_rolled",
            "The periods in which there is something, and whether their rollups say all of it.",
            {
                "grain": "Length of the period: day, third (of a month: from the 1st, 11th, 21st) or month.",
                **_START,
                "is_current": "Whether the sums in the rollup are those of the rows; a fold that touches the period says false.",
            },
        )
    }
COMMENT ON CONSTRAINT {prefix}_rolled_pkey ON ledger.{prefix}_rolled IS 'One row a period.';
COMMENT ON CONSTRAINT {prefix}_rolled_grain_known ON ledger.{prefix}_rolled IS 'The lengths of periods that are kept.';
INSERT INTO ledger.{prefix}_rolled (grain, start, is_current)
SELECT DISTINCT touched.grain, touched.start, false
FROM (SELECT DISTINCT {_DAY[prefix]} AS day FROM ledger.{_ROWS[prefix]}) AS days
CROSS JOIN LATERAL (VALUES
    ('day', day),
    ('third', date_trunc('month', day)::date + least((extract(day FROM day)::integer - 1) / 10, 2) * 10),
    ('month', date_trunc('month', day)::date)
) AS touched (grain, start) WHERE day IS NOT NULL;
GRANT SELECT, INSERT, UPDATE ON ledger.{prefix}_rolled, ledger.{prefix}_periods, ledger.{prefix}_names
    TO responses_ledger_app;
"""  # noqa: S608 constants of this file


def _columns(sums: dict[str, str]) -> str:
    return "\n".join(f"    {name} {'numeric(24,12)' if name.endswith('_usd') else 'bigint'} NOT NULL," for name in sums)


_ROWS = {"spend": "spend", "call": "calls"}
_DAY = {"spend": "(hour AT TIME ZONE 'UTC')::date", "call": "(received_at AT TIME ZONE 'UTC')::date"}
_WHAT = {
    "spend": (
        "Projection spend: sums by day or month and the dimensions of which there are few values together.",
        "Projection spend: sums by period of one name in one dimension. Tags overlap; other names do not.",
    ),
    "call": (
        "Projection calls: how many calls ended well, by day or month and the dimensions of which there are few values.",
        "Projection calls: how many calls ended well, by period, of one name in one dimension. Tags overlap.",
    ),
}

#: An older process does not know that it must mark what it touches; it folds no more from here on.
VERSIONS = """
UPDATE ledger.projections SET version = 2 WHERE name = 'spend';
UPDATE ledger.projections SET version = 3 WHERE name = 'calls';
"""


def upgrade() -> None:
    """Make the tables of the rollups, and mark all periods as not rolled up yet."""
    for prefix, sums in (("spend", _SUMS), ("call", _ENDS)):
        for script in (_periods(prefix, sums), _names(prefix, sums), _rolled(prefix)):
            run_script(script)
    run_script(VERSIONS)


def downgrade() -> None:
    """Drop the rollups; the rows that they were computed from stay."""
    run_script("""
        DROP TABLE ledger.spend_periods, ledger.spend_names, ledger.spend_rolled,
            ledger.call_periods, ledger.call_names, ledger.call_rolled;
        UPDATE ledger.projections SET version = 1 WHERE name = 'spend';
        UPDATE ledger.projections SET version = 2 WHERE name = 'calls';
    """)
