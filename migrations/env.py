"""Runs the migrations: one process at a time, with bounded waits, over asyncpg.

`ledger.postgres.alembic_run` hands in an open connection; `alembic upgrade head` on the command line reads
DATABASE_URL.
"""

from alembic import context

from ledger.postgres.alembic_run import run_in_context

run_in_context(context)
