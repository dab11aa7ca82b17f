"""`llm ledger ...`: looks after the book. Each command lies in the module of its name; docs/CLI.md describes them."""

import click

from api.cli.ledger_events import events
from api.cli.ledger_migrate import migrate
from api.cli.ledger_psql import psql
from api.cli.ledger_rebuild import rebuild, resume
from api.cli.ledger_replay import replay
from api.cli.ledger_status import status
from api.cli.ledger_verify import verify


@click.group()
def ledger_group() -> None:
    """Look after the book: its state, its soundness, what it recorded.

    The book is the database of --database_url, else of the config file's general_settings, else DATABASE_URL, else the
    embedded Postgres in LLM_DATA_DIR.
    """


for command in (status, verify, replay, events, psql, rebuild, resume, migrate):
    ledger_group.add_command(command)
