"""`llm keys ...`: virtual keys from the command line, on the database itself; a proxy need not run.

The changes are those of HTTP (`api/routes/key_changes.py`), with the machine's user as the actor. `keys_import.py`
takes keys over from LiteLLM; `keys_text.py` says how keys are printed.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final

import click
from sqlalchemy.ext.asyncio import AsyncConnection

from api.cli.administering import administering, command_actor, told_refusals
from api.cli.database import Database, DatabaseOptions, command_database
from api.cli.keys_import import import_keys
from api.cli.keys_text import print_key, print_keys, print_secret
from api.cli.ledger_options import database_options, require_schema
from api.routes import key_changes
from api.routes.key_changes import KeyDesk
from api.routes.key_fields import PERMISSIONS, read_key_regeneration, read_key_update, read_key_wish
from api.routes.key_row import shown_key
from api.routes.reading import snapshot
from ledger.events import KEY_BLOCKED, KEY_REVOKED, KEY_UNBLOCKED
from ledger.postgres.connect import engine
from ledger.reports.key_state import RecordedKey
from ledger.reports.keys import KeyFilters, key_info, key_list

_PAGE: Final = 1_000
#: Options that say what a key is, each with the field of /key/generate and /key/update that it fills.
_FIELDS: Final = {
    "alias": "key_alias", "org": "org", "team": "team", "user": "user", "end_user": "end_user", "models": "models",
    "tags": "tags", "metadata": "metadata", "duration": "duration", "expires": "expires", "routes": "allowed_routes",
    "permissions": "permissions", "store_bodies": "store_bodies",
}  # fmt: skip
_CLEARED: Final = sorted({*_FIELDS.values()} - {"duration"})


@click.group()
def keys_group() -> None:
    """Issue, change, list, revoke and import virtual keys.

    NAME is a key, its hash, its key_id or its alias. The book is the database of --database_url, else of the config
    file's general_settings, else DATABASE_URL, else the embedded Postgres in LLM_DATA_DIR.
    """


def _fields(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options that say what a key is."""
    for option in (
        click.option(
            "--store-bodies", type=click.Choice(["all", "none"]), help="Whether its calls' bodies are stored."
        ),
        click.option("--permission", "permissions", multiple=True, type=click.Choice(PERMISSIONS), help="Repeatable."),
        click.option("--route", "routes", multiple=True, help="A path or group that it may use. Repeatable."),
        click.option("--expires", help="When it ends: a UTC day or a moment."),
        click.option("--duration", help="How long it lives: 30m, 30d, 1mo."),
        click.option("--metadata", help="A JSON object."),
        click.option("--tag", "tags", multiple=True, help="A tag of all its calls. Repeatable."),
        click.option("--model", "models", multiple=True, help="A model that it may call. Repeatable."),
        click.option("--end-user", help="Fixed end user of its calls."),
        click.option("--user", help="User that its calls are booked to."),
        click.option("--team", help="Team that its calls are booked to."),
        click.option("--org", help="Organisation that its calls are booked to."),
        click.option("--alias", help="A name for it."),
    ):
        command = option(command)
    return command


def _body(options: dict[str, Any]) -> dict[str, Any]:
    """Return what the options say as a body of /key/generate or /key/update."""
    body: dict[str, Any] = {}
    for option, field in _FIELDS.items():
        value = options.get(option)
        if value not in (None, ()):
            body[field] = list(value) if isinstance(value, tuple) else value
    if "metadata" in body:
        try:
            body["metadata"] = json.loads(body["metadata"], parse_float=Decimal)
        except ValueError as error:
            raise click.BadParameter(f"is no JSON: {error}", param_hint="--metadata") from error
    return body


_json_option = click.option("--json", "as_json", is_flag=True, help="JSON, as /key/info shows a key.")


@keys_group.command()
@_fields
@_json_option
@database_options
def issue(options: DatabaseOptions, *, as_json: bool, **fields: Any) -> None:
    """Issue a key. Its text is printed once, and stored nowhere."""

    async def work(desk: KeyDesk) -> None:
        wish = read_key_wish(_body(fields), datetime.now(UTC))
        issued = await key_changes.issue(desk, command_actor(), wish)
        print_secret(issued.key, await _shown(desk, issued.key_id), as_json=as_json)

    _change(options, work)


@keys_group.command()
@click.argument("name")
@_fields
@click.option("--clear", multiple=True, type=click.Choice(_CLEARED), help="Reset this field. Repeatable.")
@_json_option
@database_options
def update(options: DatabaseOptions, name: str, clear: tuple[str, ...], *, as_json: bool, **fields: Any) -> None:
    """Change what is given of a key; the rest stays."""

    async def work(desk: KeyDesk) -> None:
        found = await _named(desk, name)
        body = {"key": found.key["key_id"], **dict.fromkeys(clear), **_body(fields)}
        await key_changes.update(desk, command_actor(), read_key_update(body, datetime.now(UTC)))
        print_key(await _shown(desk, found.key["key_id"]), as_json=as_json)

    _change(options, work)


@keys_group.command()
@click.argument("name")
@click.option("--grace-period", help="How long the old secret is still accepted: 30m, 24h, at most 30d; usually not.")
@_json_option
@database_options
def regenerate(options: DatabaseOptions, name: str, grace_period: str | None, *, as_json: bool) -> None:
    """Give a key a new secret, which is printed once."""

    async def work(desk: KeyDesk) -> None:
        found = await _named(desk, name)
        body = {"key": found.key["key_id"], "grace_period": grace_period}
        wanted = read_key_regeneration(body, datetime.now(UTC))
        issued = await key_changes.regenerate(desk, command_actor(), wanted)
        print_secret(issued.key, await _shown(desk, issued.key_id), as_json=as_json)

    _change(options, work)


def _changing(command: str, type_: str, meaning: str) -> None:
    """Make `llm keys COMMAND NAME...`, which records events of `type_`."""

    @keys_group.command(command, help=meaning)
    @click.argument("names", nargs=-1, required=True)
    @_json_option
    @database_options
    def changing(options: DatabaseOptions, names: tuple[str, ...], *, as_json: bool) -> None:  # pyright: ignore[reportUnusedFunction] - click keeps it
        async def work(desk: KeyDesk) -> None:
            for found in [await _named(desk, name) for name in names]:
                await key_changes.change(desk, command_actor(), found, type_)
                print_key(await _shown(desk, found.key["key_id"]), as_json=as_json)

        _change(options, work)


_changing("block", KEY_BLOCKED, "Refuse keys until they are unblocked.")
_changing("unblock", KEY_UNBLOCKED, "Accept blocked keys again.")
_changing("revoke", KEY_REVOKED, "Refuse keys for ever. All are found before any is revoked.")


@keys_group.command()
@click.argument("name")
@_json_option
@database_options
def show(options: DatabaseOptions, name: str, *, as_json: bool) -> None:
    """Show a key and what it has spent."""

    async def work(desk: KeyDesk) -> None:
        print_key(await _shown(desk, (await _named(desk, name)).key["key_id"]), as_json=as_json)

    _read(options, work)


@keys_group.command("list")
@click.option("--team", help="Keys of this team.")
@click.option("--org", help="Keys of this organisation.")
@click.option("--user", help="Keys of this user.")
@click.option("--search", help="Keys with this text in one of their names.")
@click.option(
    "--status",
    type=click.Choice(["current", "active", "expired", "blocked", "revoked", "all"]),
    default="current",
    show_default=True,
    help="current: all but revoked.",
)
@_json_option
@database_options
def list_keys(options: DatabaseOptions, status: str, *, as_json: bool, **named: str | None) -> None:
    """List keys, newest first, with what each has spent."""
    filters = KeyFilters(
        team=named["team"],
        org=named["org"],
        user_id=named["user"],
        search=named["search"],
        status=None if status == "all" else status,
    )

    async def work(desk: KeyDesk) -> None:
        async with snapshot(desk.reads) as connection:
            print_keys([row async for row in _all(connection, filters)], as_json=as_json)

    _read(options, work)


async def _all(connection: AsyncConnection, filters: KeyFilters) -> AsyncGenerator[dict[str, Any]]:
    page = 1
    while rows := (await key_list(connection, filters=filters, page=page, size=_PAGE)).rows:
        for row in rows:
            yield shown_key(row)
        page += 1


async def _named(desk: KeyDesk, name: str) -> RecordedKey:
    """Return the key of a name, which may be its alias."""
    if not name.startswith("sk-"):
        async with snapshot(desk.reads) as connection:
            known = await key_info(connection, **key_changes.names_of(name)) is not None
        if not known:
            return await key_changes.find_alias(desk, name)
    return await key_changes.find(desk, name)


async def _shown(desk: KeyDesk, key_id: str) -> dict[str, Any]:
    async with snapshot(desk.reads) as connection:
        row = await key_info(connection, key_id=key_id)
    return {} if row is None else shown_key(row)


def _change(options: DatabaseOptions, work: Callable[[KeyDesk], Awaitable[None]]) -> None:
    async def run(url: str) -> None:
        async with administering(url) as book, _reads(url) as reads:
            await work(KeyDesk(reads, book, lambda _: False, lambda _: None))

    _run(options, run)


def _read(options: DatabaseOptions, work: Callable[[KeyDesk], Awaitable[None]]) -> None:
    async def run(url: str) -> None:
        await require_schema(url)
        async with _reads(url) as reads:
            await work(KeyDesk(reads, _NOTHING, lambda _: False, lambda _: None))

    _run(options, run)


#: Commands that only look open no journal.
_NOTHING: Any = None


@asynccontextmanager
async def _reads(url: str) -> AsyncGenerator[Any]:
    reads = engine(url, purpose="keys", pool_size=3)
    try:
        yield reads
    finally:
        await reads.dispose()


def _run(options: DatabaseOptions, run: Callable[[str], Awaitable[None]]) -> None:
    async def started(database: Database) -> None:
        await run(database.url)

    with command_database(options) as database, told_refusals():
        asyncio.run(started(database))


keys_group.add_command(import_keys)
