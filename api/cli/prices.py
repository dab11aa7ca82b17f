"""`llm prices ...`: what things cost, from the command line, on the database itself; a proxy need not run.

A change holds in every running proxy within a second, for attempts that start then. `prices_text.py` prints.
"""

import asyncio
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import click

from api.cli.administering import administering, command_actor, told_refusals
from api.cli.database import DatabaseOptions, command_database
from api.cli.ledger_options import database_options, require_schema
from api.cli.prices_text import Difference, differences, print_differences, print_history, print_prices
from api.errors import ApiFailure
from api.price_changes import publish
from api.prices import read_prices
from api.repricing import book_repriced, repriceable
from api.routes.times import read_moment
from ledger.money.book import PriceBook
from ledger.money.exact import ZERO, plain
from ledger.money.override import wished_price, withdrawn
from ledger.money.price import Price, PriceError, canonical_tier
from ledger.money.price_file import PriceFile, PriceWish, read_price_file, read_wish
from ledger.postgres.connect import connect


@click.group()
def prices_group() -> None:
    """Show, compare, set, import and withdraw prices; settle costs whose prices were missing.

    Deployments' own prices come from the config and win over what is set here; that wins over the price list. The book
    is the database of --database_url, else of the config file's general_settings, else DATABASE_URL, else the embedded
    Postgres in LLM_DATA_DIR.
    """


def _moment(_context: click.Context, _parameter: click.Parameter, text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        return read_moment(text, "moment")
    except ApiFailure as failure:
        raise click.BadParameter(failure.error.message) from failure


async def _book(url: str) -> PriceBook:
    await require_schema(url)
    connection = await connect(url, purpose="prices", statement_timeout="30s")
    try:
        return PriceBook(await read_prices(connection))
    finally:
        await connection.close()


def _read(options: DatabaseOptions) -> PriceBook:
    with command_database(options) as database:
        return asyncio.run(_book(database.url))


@click.command(name="list")
@click.argument("text", required=False)
@click.option("--tier", help="Only this tier.")
@click.option("--at", callback=_moment, help="As of a UTC day or moment; else now.")
@click.option(
    "--json", "as_json", is_flag=True, help="As JSON, one list without deployments' own; `llm prices import` reads it."
)
@database_options
def list_prices(
    options: DatabaseOptions, text: str | None, tier: str | None, at: datetime | None, *, as_json: bool
) -> None:
    """List the prices in force, of models whose name holds TEXT."""
    book, at = _read(options), at or datetime.now(UTC)
    chosen = [
        price
        for price in sorted(book.prices, key=lambda each: (each.model, each.tier, each.deployment))
        if book.is_in_force(price, at)
        and (text is None or text.lower() in price.model.lower())
        and (tier is None or price.tier == canonical_tier(tier))
        # What the config says of one deployment must not come back by an import as a price for everybody.
        and not (as_json and price.deployment)
    ]
    if as_json:
        click.echo(json.dumps([_as_wish(price) for price in chosen], indent=2))
    else:
        print_prices(chosen)


def _as_wish(price: Price) -> dict[str, object]:
    facts = price.to_facts()
    return {name: facts[name] for name in ("model", "tier", "rates", "valid_from", "valid_to") if facts[name]}


@click.command()
@click.argument("model")
@database_options
def show(options: DatabaseOptions, model: str) -> None:
    """Show every price of MODEL: each tier, its history, every unit price, where it comes from."""
    book = _read(options)
    found = book.matching(model)
    if not found:
        raise click.ClickException(f"no price is known for model {model!r}")
    print_history(found, lambda price: book.is_in_force(price, datetime.now(UTC)))


@click.command(name="set")
@click.argument("model")
@click.argument("rates", nargs=-1, required=True, metavar="METER USD [METER USD]...")
@click.option("--tier", default="default", show_default=True)
@click.option("--from", "valid_from", callback=_moment, help="From a UTC day or moment on; else from now.")
@click.option("--until", "valid_to", callback=_moment, help="Until a UTC day or moment; else until changed.")
@database_options
def set_price(
    options: DatabaseOptions,
    model: str,
    rates: tuple[str, ...],
    tier: str,
    valid_from: datetime | None,
    valid_to: datetime | None,
) -> None:
    """Set unit prices of MODEL, in USD per token or call: llm prices set gpt-4o input_uncached 0.0000025.

    Meters that are not named keep their price. Costs that are booked already stay; see `llm prices settle`.
    """
    if len(rates) % 2:
        raise click.UsageError("give pairs of METER and USD")
    pairs = dict(zip(rates[::2], rates[1::2], strict=True))
    try:
        wish = read_wish({"model": model, "tier": tier, "rates": pairs})
    except PriceError as error:
        raise click.UsageError(str(error)) from error
    _publish(options, [wish._replace(valid_from=valid_from, valid_to=valid_to)])


def _publish(options: DatabaseOptions, wishes: Iterable[PriceWish]) -> None:
    with command_database(options) as database, told_refusals():
        asyncio.run(_published(database.url, list(wishes)))


async def _published(url: str, wishes: list[PriceWish]) -> None:
    actor = command_actor().key_id
    prices = _overrides(await _book(url), wishes, actor)
    async with administering(url) as administration:
        for price in prices:
            await publish(administration, price, actor)
            click.echo(f"{price.model} ({price.tier}) from {price.valid_from:%Y-%m-%d %H:%M:%S} UTC: {price.price_id}")


def _overrides(book: PriceBook, wishes: Iterable[PriceWish], actor: str) -> list[Price]:
    """Make all prices before the first is published: a mistake in the last one must not leave half a file in force."""
    now = datetime.now(UTC)
    try:
        return [wished_price(book, wish, now=now, actor=actor) for wish in wishes]
    except PriceError as error:
        raise click.ClickException(str(error)) from error


@click.command()
@click.argument("price_id")
@database_options
def withdraw(options: DatabaseOptions, price_id: str) -> None:
    """End a price that was set over the list, now; PRICE_ID is what `show` and `set` print."""
    with command_database(options) as database, told_refusals():
        price = asyncio.run(_withdrawn(database.url, price_id))
    click.echo(f"{price.model} ({price.tier}) ended; the price list holds again.")


async def _withdrawn(url: str, price_id: str) -> Price:
    try:
        price = withdrawn(await _book(url), price_id, datetime.now(UTC))
    except PriceError as error:
        raise click.ClickException(str(error)) from error
    async with administering(url) as administration:
        await publish(administration, price, command_actor().key_id)
    return price


def _wishes(file: Path) -> PriceFile:
    try:
        return read_price_file(file.read_bytes())
    except PriceError as error:
        raise click.ClickException(f"{file}: {error}") from error


def _told(book: PriceBook, wished: PriceFile) -> list[Difference]:
    for name, reason in wished.skipped:
        click.echo(f"skipped {name}: {reason}", err=True)
    return differences(book, wished.wishes, datetime.now(UTC))


@click.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path), required=False)
@click.option("--seed", is_flag=True, help="Compare with the price list that this installation brings.")
@database_options
def diff(options: DatabaseOptions, file: Path | None, *, seed: bool) -> None:
    """Show what FILE would change: new prices, changed ones, and which of the book it does not have."""
    if (file is None) != seed:
        raise click.UsageError("give a FILE or --seed")
    print_differences(_told(_read(options), _seed() if file is None else _wishes(file)), with_absent=True)


def _seed() -> PriceFile:
    from ledger.money.seed import seed_prices  # noqa: PLC0415 - a quarter of a second

    at = datetime.now(UTC)
    book = PriceBook(seed_prices())
    current = [price for price in book.prices if book.is_in_force(price, at)]
    return PriceFile(tuple(PriceWish(price.model, price.tier, dict(price.rates)) for price in current), ())


@click.command(name="import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--dry-run", is_flag=True, help="Only show what would change.")
@database_options
def import_prices(options: DatabaseOptions, file: Path, *, dry_run: bool) -> None:
    """Set every price of FILE that differs: a JSON or YAML list as `list --json` prints it, or LiteLLM's price map."""
    book, wished = _read(options), _wishes(file)
    told = [each for each in _told(book, wished) if each.wish is not None]
    print_differences(told, with_absent=False)
    if wished.skipped and not wished.is_map:
        raise click.ClickException(f"{file}: entries that cannot be used: {len(wished.skipped)}; nothing was set")
    wishes = [each.wish for each in told if each.wish is not None]
    if dry_run:
        _overrides(book, wishes, command_actor().key_id)
    elif wishes:
        _publish(options, wishes)


@click.command()
@click.option("--since", callback=_moment, help="Calls received from a UTC day or moment on.")
@click.option("--dry-run", is_flag=True, help="Only show what would be booked.")
@database_options
def settle(options: DatabaseOptions, since: datetime | None, *, dry_run: bool) -> None:
    """Book costs that are unknown because a price was missing, now that it is known: as corrections of these calls.

    A price counts for a call if it is valid at the moment the call was made: set it with --from in the past.
    """
    with command_database(options) as database, told_refusals():
        asyncio.run(_settle(database.url, since, dry_run=dry_run))


async def _settle(url: str, since: datetime | None, *, dry_run: bool) -> None:
    prices, actor = await _book(url), command_actor().key_id
    connection: asyncpg.Connection = await connect(url, purpose="settle", statement_timeout="5min")
    count, added_usd = 0, ZERO
    try:
        async with administering(url) as administration:
            async for each in repriceable(connection, prices, since):
                if dry_run or await book_repriced(connection, administration.journals, each, prices, actor):
                    count, added_usd = count + 1, added_usd + each.added_usd
                    click.echo(
                        f"{each.call_id} attempt {each.attempt}: {each.charge.state}, {plain(each.added_usd)} USD"
                    )
    finally:
        await connection.close()
    click.echo(f"{count} costs {'would be' if dry_run else 'were'} corrected, by {plain(added_usd)} USD in all.")


for command in (list_prices, show, set_price, withdraw, import_prices, diff, settle):
    prices_group.add_command(command)
