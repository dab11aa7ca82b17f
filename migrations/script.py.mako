"""${message}"""

from ledger.postgres.script import run_script

revision = ${repr(up_revision)}
down_revision = ${repr(down_revision)}
branch_labels = None
depends_on = None


def upgrade() -> None:
    """${message}"""
    run_script("")


def downgrade() -> None:
    """Undo it."""
    run_script("")
