"""Rollups of spend by name can be ranked by a whole number, and read by key: for reports of tens of thousands of names."""

from ledger.postgres.script import run_script

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None

#: A rollup is computed anew in the background; a table that is empty gets its column at once, without being rewritten.
UPGRADE = """
TRUNCATE ledger.spend_names;
UPDATE ledger.spend_rolled SET is_current = false;
ALTER TABLE ledger.spend_names ADD COLUMN usd_micros bigint NOT NULL
    GENERATED ALWAYS AS (floor((billed_usd + estimated_usd) * 1000000)::bigint) STORED;
COMMENT ON COLUMN ledger.spend_names.usd_micros IS
    'billed_usd and estimated_usd together in millionths, rounded down: finds the most expensive names; never shown.';
CREATE INDEX spend_names_key ON ledger.spend_names (grain, start, key_id, name) WHERE dimension = 'end_user_of_key';
COMMENT ON INDEX ledger.spend_names_key IS 'The end users of a key.';
"""


def upgrade() -> None:
    """Let the rollups be made anew, with both."""
    run_script(UPGRADE)


def downgrade() -> None:
    """Drop both."""
    run_script("""
        DROP INDEX ledger.spend_names_key;
        ALTER TABLE ledger.spend_names DROP COLUMN usd_micros;
    """)
