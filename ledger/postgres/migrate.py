"""Brings the schema to the code's version. `schema.py` says which that is, `alembic_run.py` runs the migrations.

The migrations themselves lie in the package `migrations`. `upgrade` is what the proxy and `llm ledger migrate` call.
"""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from ledger.postgres.connect import connect
from ledger.postgres.schema import SchemaMismatchError, check, head

__all__ = ["SchemaMismatchError", "check", "head", "upgrade"]


def upgrade(url: str) -> None:
    """Bring the database at `url` to the code's schema, as the URL's own login; nothing happens if it is there.

    Blocks, and may be called inside a running event loop: it works in a thread of its own.

    Raises:
        SchemaMismatchError: the schema is newer than the code, or the server is older than Postgres 15.
        OSError, asyncpg.PostgresError: the database cannot be reached or refuses.
    """
    with ThreadPoolExecutor(1, thread_name_prefix="migrate") as pool:
        pool.submit(lambda: asyncio.run(_upgrade(url))).result()


async def _upgrade(url: str) -> None:
    if await _is_current(url):
        return
    # The usual start has nothing to do, and Alembic takes as long to load as the check takes ten times.
    from ledger.postgres.alembic_run import migrate  # noqa: PLC0415 - see above

    await migrate(url)


async def _is_current(url: str) -> bool:
    """Tell, without Alembic's ado, whether there is nothing to do: the usual case at a start."""
    connection = await connect(url, purpose="migrate", role=None, statement_timeout="10s")
    try:
        await check(connection)
    except SchemaMismatchError:
        return False  # what is wrong is said by what follows
    finally:
        connection.terminate()
    return True
