"""Records that somebody at the command line is shown bodies: an `audit.read` event in a journal of the command's own.

The routes' counterpart is `api/audit.py`, which this uses.
"""

import asyncio
from collections.abc import Mapping
from typing import Final
from uuid import UUID

import asyncpg
import click

from api.audit import note_reads
from api.cli.administering import command_actor
from api.errors import ApiFailure
from api.version import VERSION
from ledger.journal.identity import writer_identity
from ledger.journal.journals import Journals
from ledger.postgres.connect import CONNECTION_LOST
from ledger.reports.events import Reception

_SEAL_TIMEOUT_S: Final = 5.0


async def note_command(url: str, calls: Mapping[UUID, Reception], *, shown: str, through: str) -> None:
    """Record that the machine's user is shown bodies of these calls, durable when this returns.

    Raises:
        ClickException: it cannot be recorded; nothing may be shown then.
    """
    journals = Journals(url, writer_identity(VERSION))
    try:
        await journals.open()
        try:
            await note_reads(journals, command_actor().key_id, calls, shown=shown, through=through)
        finally:
            await asyncio.shield(journals.close(_SEAL_TIMEOUT_S))
    except (ApiFailure, *CONNECTION_LOST, asyncpg.PostgresError) as error:
        message = f"that this is read could not be recorded, so it is not shown: {error}"
        raise click.ClickException(message) from error
