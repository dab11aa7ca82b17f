"""`llm ledger status`: what state the book is in; `verify` looks whether what it holds is sound."""

import asyncio
import dataclasses
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

import click

from api.cli.database import Database, DatabaseOptions, command_database
from api.cli.ledger_options import database_options
from api.cli.ledger_status_text import lines_of
from ledger.journal.identity import is_certainly_dead
from ledger.journal.journals import HEARTBEAT_S
from ledger.postgres.connect import connect
from ledger.postgres.migrate import SchemaMismatchError, check, head
from ledger.postgres.url import parse
from ledger.reports.health import Health, beating, health

#: Between the two looks at the heartbeats a living writer's counter moves for certain.
LOOK_AGAIN_S: Final = HEARTBEAT_S * 1.5


@click.command()
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@click.option("--no-wait", is_flag=True, help="Do not look twice: leaves open whether journals are being written.")
@database_options
def status(options: DatabaseOptions, *, as_json: bool, no_wait: bool) -> None:
    """Tell the state of the book: schema, rights, server, journals, projections, open calls, sizes.

    Looks at the heartbeats of open journals twice, three seconds apart. Exit status 1: the schema does not fit, a
    projection has stopped, or a table of events lacks its guard.
    """
    with command_database(options) as database:
        found = asyncio.run(_look(database, again_s=0.0 if no_wait else LOOK_AGAIN_S))
    click.echo(json.dumps(found, indent=2, default=_spelt) if as_json else "\n".join(lines_of(found)))
    if not found["ok"]:
        raise click.exceptions.Exit(1)


async def _look(database: Database, *, again_s: float) -> dict[str, Any]:
    connection = await connect(database.url, purpose="status", role=None, statement_timeout="60s")
    try:
        found: dict[str, Any] = {
            "ok": False,
            "database": database.shown,
            "embedded": database.is_embedded,
            "data_dir": str(database.data_dir),
            "schema": {"needed": head(), "problem": None},
            "separate_owner": parse(database.owner_url).user != parse(database.url).user,
        }
        try:
            await check(connection)
        except SchemaMismatchError as error:
            found["schema"]["problem"] = str(error)
            return found
        book = await health(connection)
        if again_s and book.counters:
            await asyncio.sleep(again_s)
            moved = await beating(connection, book.counters)
            for journal in book.open_journals:
                journal.beats = journal.journal_id in moved
        return {**found, **_told(book)}
    finally:
        await connection.close()


def _told(book: Health) -> dict[str, Any]:
    now = datetime.now(UTC)
    oldest = book.oldest_open_call_at
    return {
        "ok": not book.stopped and not book.unguarded,
        "server": book.server,
        "rights": {**book.login, "unguarded_tables": book.unguarded},
        "journals": {
            **book.journals,
            "open_journals": [
                {
                    **dataclasses.asdict(journal),
                    "writer_ended": is_certainly_dead(journal.writer),
                }
                for journal in book.open_journals
            ],
        },
        "projections": [dataclasses.asdict(one) for one in book.projections],
        "stopped": [{**dataclasses.asdict(one), "commands": one.commands} for one in book.stopped],
        "open_calls": book.open_calls,
        "oldest_open_call_s": None if oldest is None else max(0.0, (now - oldest).total_seconds()),
        "unknown_costs": book.unknown_costs,
        "partitions": [dataclasses.asdict(one) for one in book.partitions if not one.is_parent],
        "events_bytes": sum(one.total_bytes for one in book.partitions),
    }


def _spelt(value: object) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, UUID | Decimal):
        return str(value)
    raise TypeError(f"no JSON for {type(value).__name__}")
