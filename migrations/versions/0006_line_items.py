"""Sums of line items by day, for reports of costs in OpenAI's shape; and the view of them."""

from ledger.postgres.script import run_script
from migrations.comments import View, create_view, describe

revision = "0006"
down_revision = "0005"
branch_labels = None
depends_on = None

TABLE = """
CREATE TABLE ledger.line_items (
    keyed         boolean        NOT NULL,
    day           date           NOT NULL,
    dims_sha256   bytea          NOT NULL,
    org           text           NOT NULL COLLATE "C",
    team          text           NOT NULL COLLATE "C",
    user_id       text           NOT NULL COLLATE "C",
    key_id        text           NOT NULL COLLATE "C",
    model         text           NOT NULL COLLATE "C",
    meter         text           NOT NULL COLLATE "C",
    quantity      bigint         NOT NULL,
    amount_usd    numeric(24,12) NOT NULL,
    unknown_costs bigint         NOT NULL,
    CONSTRAINT line_items_pkey PRIMARY KEY (keyed, day, dims_sha256)
) WITH (fillfactor = 70);
COMMENT ON CONSTRAINT line_items_pkey ON ledger.line_items IS 'One row a day and combination of dimensions.';
"""

_DIMS = {
    "org": "The key's organisation when the call came; empty: none.",
    "team": "The key's team when the call came; empty: none.",
    "user_id": "The key's user when the call came; empty: none.",
    "key_id": "The virtual key; empty: none.",
    "model": "The model that the caller asked for.",
    "meter": "What is counted, for example input_uncached or output. unknown: charges of unknown amount; other: not itemised.",
}
_SUMS = {
    "quantity": "How many of it.",
    "amount_usd": "USD, billed and estimated together: an item of a correction may take from one and add to the other.",
    "unknown_costs": "Charges whose amount is not known, in rows of the meter unknown: not zero, and in no sum.",
}
COLUMNS = {
    "keyed": "true: by key; false: the same sums over all organisations, teams, users and keys, which are then empty.",
    "day": "The day (UTC) on which the call was received.",
    "dims_sha256": "Hash of all dimensions: together they are too long for an index.",
    **_DIMS,
    **_SUMS,
}

VIEW = View(
    "Sums by day (UTC, of the request), key, model and meter: what a bill shows. Sums over rows are right.",
    f"SELECT day, {', '.join(_DIMS)}, {', '.join(_SUMS)} FROM ledger.line_items WHERE keyed",  # noqa: S608 constants of this file
    {"day": COLUMNS["day"], **_DIMS, **_SUMS},
)

#: What is there already is folded by the processes at their start.
REGISTER = """
INSERT INTO ledger.projections (name, version) VALUES ('line_items', 1);
INSERT INTO ledger.checkpoints (projection, journal_id) SELECT 'line_items', j.journal_id FROM ledger.journals j;
GRANT SELECT, INSERT, UPDATE ON ledger.line_items TO responses_ledger_app;
"""


def upgrade() -> None:
    """Make the table and its view, and register the projection."""
    sentence = "Projection line_items: sums of line items by day, once by key and once over all keys."
    for script in (
        TABLE,
        describe("TABLE", "ledger.line_items", sentence, COLUMNS),
        REGISTER,
        create_view("line_items_daily", VIEW),
    ):
        run_script(script)


def downgrade() -> None:
    """Drop both; the events that they were computed from stay."""
    run_script("""
        DELETE FROM ledger.projections WHERE name = 'line_items';
        DROP VIEW reporting.line_items_daily;
        DROP TABLE ledger.line_items;
    """)
