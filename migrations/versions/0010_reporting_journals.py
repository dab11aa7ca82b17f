"""The view of journals: through it events are read by time, one journal after the other, instead of the whole book."""

from ledger.postgres.script import run_script
from migrations.comments import View, create_view

revision = "0010"
down_revision = "0009"
branch_labels = None
depends_on = None

VIEW = View(
    "One row a journal: one writer's append-only log. Events of a period lie in the journals that were open in it.",
    """
    SELECT journal_id, opened_at, sealed_at, sealed_seq, writer->>'host' AS host, writer->>'version' AS version
    FROM ledger.journals
    """,
    {
        "journal_id": "The journal; ids rise with the time of opening.",
        "opened_at": "When it was opened, by the database's clock.",
        "sealed_at": "When it was sealed; NULL while it is being written, or while its dead writer waits for recovery.",
        "sealed_seq": "The seq of its last event, where it is sealed.",
        "host": "The machine of its writer.",
        "version": "The version of its writer's program.",
    },
)


def upgrade() -> None:
    """Make the view."""
    run_script(create_view("journals", VIEW))


def downgrade() -> None:
    """Drop the view; nothing is stored in it."""
    run_script("DROP VIEW reporting.journals")
