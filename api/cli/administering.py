"""How a command changes something: a journal of its own, sealed at the end, and the user of the machine as the actor.

What is changed lies in `api/routes/key_changes.py` and the like, the same as for HTTP.
"""

import asyncio
import os
import pwd
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import click

from api.administration import Administration
from api.auth import Caller
from api.cli.ledger_options import require_schema
from api.errors import ApiFailure
from api.version import VERSION
from ledger.errors import LedgerUnavailableError
from ledger.journal.identity import writer_identity
from ledger.journal.journals import Journals
from ledger.projections.projector import Projector

_SEAL_TIMEOUT_S: Final = 5.0


@asynccontextmanager
async def administering(url: str) -> AsyncGenerator[Administration]:
    """Give what records administrative changes in the book at `url`.

    Raises:
        SchemaMismatchError: the book was not migrated to this version.
        OSError, asyncpg.PostgresError: the database cannot be reached or refuses.
    """
    await require_schema(url)
    journals = Journals(url, writer_identity(VERSION))
    projector = Projector(url)
    await journals.open()
    try:
        yield Administration(url, journals, projector)
    finally:
        await asyncio.shield(journals.close(_SEAL_TIMEOUT_S))
        await projector.close()


def command_actor() -> Caller:
    """Return who runs the command, as the system knows it, not as the environment says it: `cli:NAME`."""
    try:
        name = pwd.getpwuid(os.getuid()).pw_name
    except KeyError:
        name = f"uid {os.getuid()}"
    return Caller(f"cli:{name}", is_admin=True)


@contextmanager
def told_refusals() -> Generator[None]:
    """Turn what a change is refused with into one line on stderr and exit status 1."""
    try:
        yield
    except ApiFailure as failure:
        raise click.ClickException(failure.error.message) from failure
    except LedgerUnavailableError as error:
        raise click.ClickException(f"the change could not be recorded: {error}") from error
