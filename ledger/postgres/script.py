"""Runs a script of several SQL statements inside a migration.

SQLAlchemy's asyncpg dialect prepares every statement, and a prepared statement is a single one; asyncpg itself takes a
script. The script joins the migration's transaction, so a migration is applied wholly or not at all.
"""

from typing import Any

import asyncpg
from alembic import context, op


def run_script(script: str) -> None:
    """Execute `script`, any number of statements separated by semicolons, in the migration's transaction."""
    if context.is_offline_mode():
        # As it stands: compiled by SQLAlchemy, each % of a format or a RAISE would be doubled.
        op.get_context().impl.static_output(script)
        return
    bind = op.get_bind()
    bind.exec_driver_sql("SELECT 1")  # SQLAlchemy begins the transaction with the first statement that it sees itself
    adapted: Any = bind.connection

    async def execute(connection: asyncpg.Connection) -> None:
        await connection.execute(script)

    adapted.run_async(execute)
