"""Rollups of end users over all keys, beside those by key: most reports ask for the former, which are far fewer."""

from ledger.postgres.script import run_script

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None

_DIMENSIONS = ("all", "org", "team", "user_id", "key_id", "model", "deployment", "tier", "end_user", "tag")


def _known(prefix: str, dimensions: tuple[str, ...]) -> str:
    listed = ", ".join(f"'{name}'" for name in dimensions)
    constraint = f"{prefix}_names_dimension_known"
    return f"""
TRUNCATE ledger.{prefix}_names;
UPDATE ledger.{prefix}_rolled SET is_current = false;
ALTER TABLE ledger.{prefix}_names DROP CONSTRAINT {constraint};
ALTER TABLE ledger.{prefix}_names ADD CONSTRAINT {constraint} CHECK (dimension IN ({listed}));
COMMENT ON CONSTRAINT {constraint} ON ledger.{prefix}_names IS 'The dimensions that are kept.';
COMMENT ON COLUMN ledger.{prefix}_names.key_id IS
    'For end_user_of_key and tag: the key that the calls went through. Empty in other dimensions: all keys.';
"""  # noqa: S608 constants of this file


def upgrade() -> None:
    """Let the rollups be made anew, with one more dimension."""
    for prefix in ("spend", "call"):
        run_script(_known(prefix, (*_DIMENSIONS, "end_user_of_key")))


def downgrade() -> None:
    """Let the rollups be made anew, without it."""
    for prefix in ("spend", "call"):
        run_script(_known(prefix, _DIMENSIONS))
