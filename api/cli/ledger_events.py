"""`llm ledger events CALL_ID`: one call's timeline, each event with its time, its type and what is known."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from api.cli.database import DatabaseOptions, command_database
from api.cli.ledger_audit import note_command
from api.cli.ledger_options import database_options, require_schema
from ledger.encoding import rfc3339
from ledger.events import Event
from ledger.postgres.connect import engine
from ledger.reports.events import Place, corrections_of, events_of, find, receptions_of

#: Bodies are up to a MiB each, so a page of events is small.
_PAGE: Final = 50
_FACTS_CHARS: Final = 120


@click.command()
@click.argument("call_id", type=click.UUID)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line, with all facts.")
@click.option("--bodies", is_flag=True, help="With the events' bodies: text, or base64 where they are not UTF-8.")
@database_options
def events(options: DatabaseOptions, call_id: UUID, *, as_json: bool, bodies: bool) -> None:
    """List the events of a call in order, and the corrections of its cost."""
    with command_database(options) as database:
        asyncio.run(_list(database.url, call_id, as_json=as_json, bodies=bodies))


async def _list(url: str, call_id: UUID, *, as_json: bool, bodies: bool) -> None:
    await require_schema(url)
    reads = engine(url, purpose="events", pool_size=1)
    try:
        async with reads.connect() as connection:
            place = await find(connection, call_id)
            if place is None:
                raise click.ClickException(f"the book holds no call {call_id}")
            if bodies and (first := await receptions_of(connection, [place]))[call_id].has_bodies:
                await note_command(url, first, shown="events", through="llm ledger events")
            if not as_json:
                click.echo(f"call {call_id} in journal {place.journal_id}")
            began: datetime | None = None
            async for event in _all(connection, place, bodies=bodies):
                began = began or event.recorded_at
                click.echo(_as_json(event, bodies=bodies) if as_json else _as_text(event, began, bodies=bodies))
    finally:
        await reads.dispose()


async def _all(connection: AsyncConnection, place: Place, *, bodies: bool) -> AsyncIterator[Event]:
    after = -1
    while page := await events_of(connection, place, after=after, limit=_PAGE, bodies=bodies):
        for event in page:
            yield event
        after = page[-1].version or 0
    for event in await corrections_of(connection, place):
        yield event


def _as_json(event: Event, *, bodies: bool) -> str:
    told: dict[str, Any] = {
        "journal_id": str(event.journal_id),
        "seq": event.seq,
        "version": event.version,
        "type": event.type,
        "schema": event.schema,
        "recorded_at": rfc3339(event.recorded_at),
        "facts": event.facts,
    }
    if bodies:
        text = _text(event.body)
        told["body"] = text
        if text is None and event.body is not None:
            told["body_base64"] = base64.b64encode(event.body).decode()
    return json.dumps(told, ensure_ascii=False)


def _as_text(event: Event, began: datetime, *, bodies: bool) -> str:
    seconds = (event.recorded_at - began).total_seconds()
    line = f"{rfc3339(event.recorded_at)} {seconds:+10.6f} s {event.version:>5} {event.type:<20} {_short(event.facts)}"
    if not bodies or event.body is None:
        return line.rstrip()
    text = _text(event.body)
    shown = base64.b64encode(event.body).decode() if text is None else text
    return "\n".join([line.rstrip(), *(f"    | {_visible(part)}" for part in shown.rstrip("\n").split("\n"))])


def _short(facts: dict[str, Any]) -> str:
    text = " ".join(
        f"{name}={value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)}"
        for name, value in facts.items()
        if value not in (None, "", [], {}) and name not in {"headers", "dims", "items"}
    )
    text = _visible(text)
    return text if len(text) <= _FACTS_CHARS else f"{text[:_FACTS_CHARS]}..."


def _visible(text: str) -> str:
    """Return what a terminal may be given: it would obey the escapes that a caller wrote."""
    return "".join(letter if letter.isprintable() or letter == "\t" else "\N{REPLACEMENT CHARACTER}" for letter in text)


def _text(body: bytes | None) -> str | None:
    try:
        return None if body is None else body.decode()
    except UnicodeDecodeError:
        return None
