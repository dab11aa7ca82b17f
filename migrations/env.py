"""Runs the migrations: one process at a time, with bounded waits, over asyncpg.

`ledger.postgres.migrate` hands in an open connection; `alembic upgrade head` on the command line reads DATABASE_URL.
"""

from alembic import context

from ledger.postgres.migrate import run_in_context

run_in_context(context)
