"""`llm ledger rebuild` and `resume`: computes projections anew, and lets one go on that stopped at an event."""

import asyncio
from collections.abc import Callable
from uuid import UUID

import asyncpg
import click

from api.cli.database import DatabaseOptions, command_database
from api.cli.ledger_options import database_options, require_schema
from api.cli.progress import progress_bar
from ledger.postgres.connect import connect
from ledger.projections.catalogue import ALL, by_names
from ledger.projections.projector import resume as resume_projection
from ledger.projections.rebuild import rebuild as rebuild_projections

_NAMES = ", ".join(projection.name for projection in ALL)


@click.command(epilog=f"Projections: {_NAMES}.")
@click.argument("names", nargs=-1, metavar="[NAME]...")
@database_options
def rebuild(options: DatabaseOptions, names: tuple[str, ...]) -> None:
    """Compute projections anew from the events, beside the live ones, then exchange them; all of them without a NAME.

    As the login of LLM_OWNER_DATABASE_URL where that is set. Readers see the old tables until the exchange.
    """
    try:
        chosen = [projection.name for projection in by_names(names or None)]
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    with command_database(options) as database, progress_bar("rebuilding", "events") as advance:
        asyncio.run(_rebuild(database.owner_url, chosen, advance))
    click.echo(f"Rebuilt {', '.join(chosen)}.")


async def _rebuild(url: str, names: list[str], advance: Callable[[int, int], None]) -> None:
    await require_schema(url)
    await rebuild_projections(url, names, advance)


@click.command()
@click.argument("projection", type=click.Choice([projection.name for projection in ALL]))
@click.argument("journal_id", type=click.UUID)
@click.argument("seq", type=click.IntRange(min=1), required=False)
@database_options
def resume(options: DatabaseOptions, projection: str, journal_id: UUID, seq: int | None) -> None:
    """Let a projection go on that stopped before an event that it cannot read; `status` names the place.

    Without SEQ the event is tried again, for example after an upgrade. With SEQ, which must be that event, it is passed
    over if it still cannot be read, now and in every rebuild: what it says is then in no sum.
    """
    with command_database(options) as database:
        resumed = asyncio.run(_resume(database.url, projection, journal_id, seq))
    if not resumed:
        raise click.ClickException(f"projection {projection} is not stopped in journal {journal_id}")
    how = f"event {seq} will be passed over if it cannot be read" if seq is not None else "the event is tried again"
    click.echo(f"Projection {projection} goes on in journal {journal_id}: {how}.")


async def _resume(url: str, projection: str, journal_id: UUID, seq: int | None) -> bool:
    await require_schema(url)
    connection: asyncpg.Connection = await connect(url, purpose="resume", statement_timeout="30s")
    try:
        return await resume_projection(connection, projection, journal_id, skip_seq=seq)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    finally:
        await connection.close()
