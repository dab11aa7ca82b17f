"""`llm ledger psql`: opens psql on the book, as the reporting role and without the right to write."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping

import click

from api.cli.database import Database, DatabaseOptions, command_database
from api.cli.ledger_options import database_options
from ledger.postgres.connect import REPORTING_ROLE
from ledger.postgres.embedded_binaries import installed
from ledger.postgres.url import parse

_READ_ONLY = "-c default_transaction_read_only=on"
_REPORTING = f"-c role={REPORTING_ROLE} -c search_path=reporting {_READ_ONLY}"
_OWNER = f"-c search_path=reporting,ledger,public {_READ_ONLY}"

#: Variables that psql honours and our own connections do not: they could lead to another server than the one chosen.
_LEADS_ELSEWHERE = frozenset({"PGHOSTADDR", "PGSERVICE", "PGSERVICEFILE", "PGOPTIONS"})


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--as-owner", is_flag=True, help="As the owner's login instead of the reporting role.")
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="[PSQL-ARGUMENT]...")
@database_options
def psql(options: DatabaseOptions, arguments: tuple[str, ...], *, as_owner: bool) -> None:
    """Open psql on the views of schema `reporting`; what psql takes is passed on, behind `--` where in doubt.

    Read-only: with --as-owner, `SET default_transaction_read_only = off` lifts that for the session.
    """
    with command_database(options) as database:
        program = find_psql()
        environ = psql_environ(database, as_owner=as_owner, environ=os.environ)
        if database.is_embedded:
            # The server must outlive psql, so this process stays and keeps its share in it.
            status = _run(program, arguments, environ)
        else:
            sys.stdout.flush()
            os.execve(program, [program, *arguments], environ)  # noqa: S606 - replacing this process is the point
    raise click.exceptions.Exit(status)


def find_psql() -> str:
    """Return the path of psql: the one on PATH, which may be newer, else the embedded wheel's.

    Raises:
        EmbeddedPostgresError: there is neither.
    """
    return shutil.which("psql") or str(installed().bin / "psql")


def psql_environ(database: Database, *, as_owner: bool, environ: Mapping[str, str]) -> dict[str, str]:
    """Return the environment that makes psql connect to the book; so the password stands in no command line."""
    own = parse(database.owner_url if as_owner else database.url).psql_env()
    kept = {name: value for name, value in environ.items() if name not in _LEADS_ELSEWHERE}
    options = " ".join(filter(None, [own.get("PGOPTIONS"), _OWNER if as_owner else _REPORTING]))
    return {**kept, **own, "PGAPPNAME": "responses-ledger psql", "PGOPTIONS": options}


def _run(program: str, arguments: tuple[str, ...], environ: Mapping[str, str]) -> int:
    with subprocess.Popen([program, *arguments], env=dict(environ)) as process:  # noqa: S603 - psql, by the user's wish
        while True:
            try:
                return process.wait()
            except KeyboardInterrupt:
                # Ctrl-C is meant for the query; psql has got it as well.
                continue
