"""`llm ledger replay CALL_ID`: writes a recorded answer's exact bytes to stdout, at once or at the recorded pace."""

import asyncio
import json
import sys
import time
from collections.abc import AsyncIterator
from uuid import UUID

import click

from api.cli.database import DatabaseOptions, command_database
from api.cli.ledger_audit import note_command
from api.cli.ledger_options import database_options, require_schema
from ledger.postgres.connect import engine
from ledger.reports.events import Answer, answer, answer_bytes, find, receptions_of, source_of
from ledger.reports.timeline import holdings_of


@click.command()
@click.argument("call_id", type=click.UUID)
@click.option("--pace", type=click.Choice(["none", "recorded"]), default="none", show_default=True, help="How fast.")
@click.option("--headers", is_flag=True, help="Write status and headers to stderr first.")
@database_options
def replay(options: DatabaseOptions, call_id: UUID, pace: str, *, headers: bool) -> None:
    """Write the answer of a call to stdout, byte for byte as its client got it; nothing is charged.

    Where the book does not hold the client's bytes because they held a secret, stderr says so.
    """
    with command_database(options) as database:
        asyncio.run(_replay(database.url, call_id, is_paced=pace == "recorded", with_headers=headers))


async def _replay(url: str, call_id: UUID, *, is_paced: bool, with_headers: bool) -> None:
    await require_schema(url)
    reads = engine(url, purpose="replay", pool_size=1)
    try:
        async with reads.connect() as connection:
            place = await find(connection, call_id)
            if place is None:
                raise click.ClickException(f"the book holds no call {call_id}")
            first = (await receptions_of(connection, [place]))[place.call_id]
            if not first.has_bodies:
                raise click.ClickException(f"the bodies of call {call_id} were not stored: nothing can be replayed")
            if (source := await source_of(connection, place)) is not None:
                raise click.ClickException(f"call {call_id} was answered from the book: replay call {source} instead")
            head = await answer(connection, place)
            if head is None:
                raise click.ClickException(
                    f"call {call_id} got no answer, or none yet: see `llm ledger events {call_id}`"
                )
            await note_command(url, {call_id: first}, shown="replay", through="llm ledger replay")
            if with_headers:
                click.echo("\n".join(_head_lines(head)), err=True)
            if head.own is None and (await holdings_of(connection, place, head=head.after)).is_altered:
                note = "note: not the client's exact bytes: what held a secret is masked, or was not recorded"
                click.echo(note, err=True)
            await _write(answer_bytes(connection, place, head), head, is_paced=is_paced)
    finally:
        await reads.dispose()


def _head_lines(head: Answer) -> list[str]:
    return [f"HTTP {head.status}", *(f"{name}: {value}" for name, value in head.headers), ""]


async def _write(pieces: AsyncIterator[tuple[int, bytes]], head: Answer, *, is_paced: bool) -> None:
    output = sys.stdout.buffer
    if head.rejection is not None and head.own is None:
        # An older rejection holds no body, but all that its body said.
        error = {name: head.rejection.get(name) for name in ("message", "type", "param", "code")}
        output.write(json.dumps({"error": error}).encode())
    began = time.monotonic()
    async for offset_us, piece in pieces:
        if is_paced:
            output.flush()
            await asyncio.sleep(max(0.0, began + offset_us / 1e6 - time.monotonic()))
        output.write(piece)
    output.flush()
