"""`llm ledger migrate`: brings the schema to this version, as the owner. `llm --config FILE` does so at its start."""

import click

from api.cli.database import DatabaseOptions, command_database
from api.cli.ledger_options import database_options
from ledger.postgres.migrate import head, upgrade


@click.command()
@database_options
def migrate(options: DatabaseOptions) -> None:
    """Bring the book's schema to this version.

    As the login of LLM_OWNER_DATABASE_URL where that is set. An embedded book is made if there is none.
    """
    with command_database(options, create=True) as database:
        upgrade(database.owner_url)
        click.echo(f"The schema of {database.shown} is at revision {head()}.")
