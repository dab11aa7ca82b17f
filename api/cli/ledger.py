"""`llm ledger ...`: looks after the book. Each command lies in the module of its name; docs/CLI.md describes them."""

import click

from api.cli.late import Late, LateGroup

_COMMANDS = {
    "status": Late(
        "api.cli.ledger_status",
        "status",
        "Tell the state of the book: schema, rights, server, journals, projections, open calls, sizes.",
    ),
    "verify": Late(
        "api.cli.ledger_verify",
        "verify",
        "Check the book: order, chain, calls, charges, projections, totals.",
    ),
    "replay": Late(
        "api.cli.ledger_replay",
        "replay",
        "Write the answer of a call to stdout, byte for byte as its client got it; nothing is charged.",
    ),
    "events": Late(
        "api.cli.ledger_events",
        "events",
        "List the events of a call in order, and the corrections of its cost.",
    ),
    "psql": Late(
        "api.cli.ledger_psql",
        "psql",
        "Open psql on the views of schema `reporting`; what psql takes is passed on, behind `--` where in doubt.",
    ),
    "rebuild": Late(
        "api.cli.ledger_rebuild",
        "rebuild",
        "Compute projections anew from the events, beside the live ones, then exchange them; "
        "all of them without a NAME.",
    ),
    "resume": Late(
        "api.cli.ledger_rebuild",
        "resume",
        "Let a projection go on that stopped before an event that it cannot read; `status` names the place.",
    ),
    "migrate": Late("api.cli.ledger_migrate", "migrate", "Bring the book's schema to this version."),
}


@click.group(cls=LateGroup, late=_COMMANDS)
def ledger_group() -> None:
    """Look after the book: its state, its soundness, what it recorded.

    The book is the database of --database_url, else of the config file's general_settings, else DATABASE_URL, else the
    embedded Postgres in LLM_DATA_DIR.
    """
