"""Responses whose cost may still be learnt by asking for them are found by an index of their own, however large the book."""

from ledger.postgres.script import run_script

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None

UNSETTLED = """
CREATE INDEX IF NOT EXISTS calls_unsettled ON ledger.calls (received_at)
    WHERE status = 'completed' AND method = 'POST' AND unknown > 0 AND input_tokens IS NULL AND response_id IS NOT NULL;
COMMENT ON INDEX ledger.calls_unsettled IS
    'Finds responses that were accepted without usage and are not settled: background responses, above all.';
"""


def upgrade() -> None:
    """Add the index."""
    run_script(UNSETTLED)


def downgrade() -> None:
    """Drop it."""
    run_script("DROP INDEX ledger.calls_unsettled")
