"""`llm keys import`: LiteLLM's keys with the hashes that they have, so that their clients go on with what they hold.

What a row means is read by `api/litellm_keys.py`. What was spent before is not invented into the book.
"""

import asyncio
import csv
import io
import json
import sys
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterable, Iterable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict, dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, Final

import asyncpg
import click

from api.cli.administering import administering, command_actor, told_refusals
from api.cli.database import DatabaseOptions, command_database
from api.cli.ledger_options import database_options, require_schema
from api.exact_json import encode
from api.litellm_keys import BUDGETS, REFUSED, ImportedKey, RowError, read_row
from api.routes.key_batches import KeyBatches, Registered
from ledger.money.exact import plain
from ledger.postgres.connect import connect
from ledger.projections.projector import Projector

_FILE_BYTES_MAX: Final = 256 * 1024 * 1024
_TABLE: Final = '"LiteLLM_VerificationToken"'
#: Rows of one transaction: rivals for an alias or a key wait for as long as it takes.
_BATCH_ROWS: Final = 500


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a row: imported, exists or refused; in a dry run, what would."""

    row: int
    key_name: str
    key_alias: str
    outcome: str
    key_id: str
    remarks: str


@click.command("import")
@click.argument("file", required=False, type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--from-database", "source_url", help=f"LiteLLM's database: reads its table {_TABLE}.")
@click.option("--dry-run", is_flag=True, help="Say what would be done; record nothing.")
@click.option(
    "--ignore-budgets", is_flag=True, help="Import keys with budgets and limits, which are not enforced here."
)
@click.option(
    "--ignore", multiple=True, type=click.Choice(REFUSED), help="Import keys although this is lost. Repeatable."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object a row.")
@database_options
def import_keys(
    options: DatabaseOptions,
    file: Path | None,
    source_url: str | None,
    ignore: tuple[str, ...],
    *,
    dry_run: bool,
    ignore_budgets: bool,
    as_json: bool,
) -> None:
    """Take over LiteLLM's keys from FILE (CSV with a header, or a JSON array) or from its database.

    A key keeps its hash, so its clients go on with the key they have. A key that is here already is left as it is: the
    command can be run again. What LiteLLM had counted as spent is not booked. Exit status 1: a row was refused.
    """
    if (file is None) == (source_url is None):
        raise click.UsageError("Name a FILE or --from-database.")
    ignored = {*ignore, *(BUDGETS if ignore_budgets else ())}
    counts: Counter[str] = Counter()
    spent = Decimal(0)

    text = "" if file is None else _read(file)

    async def run(url: str) -> None:
        nonlocal spent
        rows = _of_file(file, text) if file is not None else _of_database(source_url or "")
        async with _importer(url, ignored, dry_run=dry_run) as importer:
            async for batch in _batches(rows):
                for outcome, spend in await importer.take(batch):
                    counts[outcome.outcome] += 1
                    spent += spend
                    click.echo(encode(asdict(outcome)) if as_json else _line(outcome))

    with command_database(options) as database, told_refusals():
        asyncio.run(run(database.url))
    told = ", ".join(f"{counts[kind]:,} {kind}" for kind in ("imported", "exists", "refused"))
    click.echo(f"{'dry run: ' if dry_run else ''}{told}", err=True)
    if spent:
        note = "as spent by these keys; nothing of it was booked, the book begins at zero"
        click.echo(f"LiteLLM had counted {plain(spent)} USD {note}", err=True)
    if counts["refused"]:
        raise click.exceptions.Exit(1)


class _Importer:
    """Takes rows, some hundred at a time."""

    def __init__(self, batches: KeyBatches, ignored: set[str]) -> None:
        self._batches = batches
        self._ignored = ignored

    async def take(self, rows: Iterable[tuple[int, dict[str, Any]]]) -> list[tuple[Outcome, Decimal]]:
        """Import rows; return what became of each, and what LiteLLM had counted for it if it was imported."""
        read = [(number, row, self._read(row)) for number, row in rows]
        keys = [key for _, _, key in read if isinstance(key, ImportedKey)]
        registered = iter(await self._batches.register([key.state for key in keys]))
        return [
            _refused(number, row, key) if isinstance(key, str) else _taken(number, row, key, next(registered))
            for number, row, key in read
        ]

    def _read(self, row: dict[str, Any]) -> ImportedKey | str:
        """Return the key of a row, or why it cannot be one."""
        try:
            return read_row(row, ignored=self._ignored)
        except RowError as error:
            return str(error)
        except RecursionError:
            return "it is nested too deep"


def _refused(number: int, row: dict[str, Any], reason: str) -> tuple[Outcome, Decimal]:
    alias, name = str(row.get("key_alias") or "")[:60], str(row.get("key_name") or "")[:20]
    return Outcome(number, name, alias, "refused", "", reason), Decimal(0)


def _taken(number: int, row: dict[str, Any], key: ImportedKey, became: Registered) -> tuple[Outcome, Decimal]:
    outcome, spend = _refused(number, row, became.refused)
    if became.refused:
        return outcome, spend
    what = "imported" if became.is_new else "exists"
    told = replace(outcome, outcome=what, key_id=became.key_id, remarks="; ".join(key.notes))
    return told, key.spend if became.is_new else spend


@asynccontextmanager
async def _importer(url: str, ignored: set[str], *, dry_run: bool) -> AsyncGenerator[_Importer]:
    await require_schema(url)
    async with AsyncExitStack() as stack:
        book = None if dry_run else await stack.enter_async_context(administering(url))
        if book is not None:
            # The events of an import that was killed are known by the projection alone.
            projector = Projector(url, names=["keys"])
            stack.push_async_callback(projector.close)
            await projector.catch_up()
        batches = KeyBatches(url, book, command_actor(), source="litellm")
        stack.callback(batches.close)
        yield _Importer(batches, ignored)


async def _batches(rows: AsyncIterable[dict[str, Any]]) -> AsyncGenerator[list[tuple[int, dict[str, Any]]]]:
    """Give the rows with their numbers, from 1, `_BATCH_ROWS` at a time."""
    batch: list[tuple[int, dict[str, Any]]] = []
    number = 0
    async for row in rows:
        number += 1
        batch.append((number, row))
        if len(batch) == _BATCH_ROWS:
            yield batch
            batch = []
    if batch:
        yield batch


def _line(outcome: Outcome) -> str:
    named = " ".join(part for part in (outcome.key_name, outcome.key_alias, outcome.key_id) if part)
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in named)
    return f"row {outcome.row:<5} {outcome.outcome:<9} {shown}{f': {outcome.remarks}' if outcome.remarks else ''}"


def _read(file: Path) -> str:
    if file.stat().st_size > _FILE_BYTES_MAX:
        raise click.ClickException(f"{file} is larger than {_FILE_BYTES_MAX} bytes: import it in parts")
    try:
        return file.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise click.ClickException(f"{file} is no UTF-8: {error.reason} at byte {error.start}") from error


async def _of_file(file: Path, text: str) -> AsyncGenerator[dict[str, Any]]:
    try:
        for row in _rows_of_text(text):
            yield row
    except (ValueError, RecursionError, csv.Error) as error:
        raise click.ClickException(f"{file} is neither CSV with a header nor a JSON array: {error}") from error


def _rows_of_text(text: str) -> Iterator[dict[str, Any]]:
    if text.lstrip().startswith("["):
        rows: list[Any] = json.loads(text, parse_float=Decimal)
        if not all(isinstance(row, dict) for row in rows):
            raise ValueError("the array holds what is no object")
        yield from rows
        return
    csv.field_size_limit(min(_FILE_BYTES_MAX, sys.maxsize))
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    if "token" not in (reader.fieldnames or ()):
        raise ValueError("no column is named token")
    for row in reader:
        if None in row:
            raise ValueError(f"line {reader.line_num} has more fields than the header")
        yield row


async def _of_database(url: str) -> AsyncGenerator[dict[str, Any]]:
    connection = await connect(url, purpose="keys import", role=None, statement_timeout="60s")
    try:
        async with connection.transaction(readonly=True):
            query = f"SELECT to_jsonb(t)::text AS row FROM {_TABLE} AS t ORDER BY t.token"  # noqa: S608 - a constant
            async for record in connection.cursor(query):
                yield json.loads(record["row"], parse_float=Decimal)
    except asyncpg.UndefinedTableError as error:
        raise click.ClickException(f"there is no table {_TABLE} in that database") from error
    finally:
        await connection.close()
