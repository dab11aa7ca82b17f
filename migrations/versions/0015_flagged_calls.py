"""Calls that a report picks by how they went are found by an index of their own: interrupted, unpriced, estimated."""

from ledger.postgres.script import run_script

revision = "0015"
down_revision = "0014"
branch_labels = None
depends_on = None

#: Each of `_FLAGS` in `ledger/reports/spend.py` is one of its conditions, or two. A call that gets one of them at its end
#: is written anew in any case, for other indexes hold what else it gets then.
FLAGGED = """
CREATE INDEX calls_flagged ON ledger.calls (received_at)
    WHERE estimated_usd <> 0 OR unknown > 0 OR status IN ('truncated', 'abandoned', 'cancelled') OR disconnected;
COMMENT ON INDEX ledger.calls_flagged IS
    'Finds the few calls that were interrupted, or whose cost is estimated or unknown, for reports of these alone.';
"""


def upgrade() -> None:
    """Add the index."""
    run_script(FLAGGED)


def downgrade() -> None:
    """Drop it."""
    run_script("DROP INDEX ledger.calls_flagged;")
