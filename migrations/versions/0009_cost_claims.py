"""Who is about to correct the cost of a call: what makes a later settlement happen once, whoever else tries."""

from ledger.postgres.script import run_script
from migrations.comments import describe, quoted

revision = "0009"
down_revision = "0008"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE ledger.cost_claims (
    call_id    uuid        NOT NULL CONSTRAINT cost_claims_pkey PRIMARY KEY,
    attempt    integer     NOT NULL,
    revision   integer     NOT NULL,
    journal_id uuid        NOT NULL,
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp()
);
GRANT SELECT, INSERT, UPDATE ON ledger.cost_claims TO responses_ledger_app;
"""

SENTENCE = (
    "The latest claim to correct a cost of a call. It is spent when its event is in the book, or when its journal was "
    "sealed without it: then no such event can come any more."
)
COLUMNS = {
    "call_id": "The call.",
    "attempt": "The attempt whose cost is corrected.",
    "revision": "The revision that the correction has.",
    "journal_id": "The journal to which the claimer appends it.",
    "claimed_at": "When it was claimed.",
}


def upgrade() -> None:
    """Make the table of claims."""
    run_script(TABLE)
    run_script(describe("TABLE", "ledger.cost_claims", SENTENCE, COLUMNS))
    run_script(f"COMMENT ON CONSTRAINT cost_claims_pkey ON ledger.cost_claims IS {quoted('One claim a call.')};")


def downgrade() -> None:
    """Drop the claims; corrections that were made stay."""
    run_script("DROP TABLE ledger.cost_claims;")
