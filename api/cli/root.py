"""The root of the command line: without a subcommand it serves."""

from pathlib import Path

import click

from api.cli.late import Late, LateGroup
from api.loading import collector_paused
from api.version import VERSION

HOST = "0.0.0.0"  # noqa: S104 - what users of such proxies expect; every route but health needs a key

_GROUPS = {
    "keys": Late("api.cli.keys", "keys_group", "Issue, change, list, revoke and import virtual keys."),
    "ledger": Late(
        "api.cli.ledger", "ledger_group", "Look after the book: its state, its soundness, what it recorded."
    ),
    "prices": Late(
        "api.cli.prices",
        "prices_group",
        "Show, compare, set, import and withdraw prices; settle costs whose prices were missing.",
    ),
}


@click.group(cls=LateGroup, late=_GROUPS, invoke_without_command=True)
@click.version_option(VERSION, "--version", "-v", prog_name="responses-ledger")
@click.option("--config", "-c", "config_file", type=click.Path(path_type=Path), help="The config file to serve.")
@click.option("--host", default=HOST, show_default=True, help="The address to listen on.")
@click.option("--port", default=4000, show_default=True, type=click.IntRange(0, 65_535), help="The port; 0: any.")
@click.option("--num_workers", "--num-workers", default=1, show_default=True, type=click.IntRange(1, 256))
@click.option("--database_url", "--database-url", default=None, help="The book; wins over config and environment.")
@click.pass_context
def main(
    context: click.Context, config_file: Path | None, host: str, port: int, num_workers: int, database_url: str | None
) -> None:
    """Serve OpenAI's /responses API and keep books: llm --config config.yaml."""
    if context.invoked_subcommand is not None:
        return
    if config_file is None:
        click.echo(context.get_help())
        context.exit(2)
    with collector_paused():  # only who serves pays for loading the web server
        from api.cli.serve import ServeOptions, serve  # noqa: PLC0415 - see above

    context.exit(serve(ServeOptions(config_file, host, port, num_workers, database_url)))
