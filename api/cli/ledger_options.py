"""What all `llm ledger` commands share: the options that name the database, and how expected faults are told.

A fault that somebody can do something about is one line and exit status 1, wrong usage is 2. A traceback is a defect.
"""

import contextlib
import functools
from collections.abc import Callable, Generator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import asyncpg
import click

from api.cli.database import DatabaseChoiceError, DatabaseOptions
from api.config_nodes import ConfigError
from ledger.postgres.connect import connect
from ledger.postgres.embedded_error import EmbeddedPostgresError
from ledger.postgres.migrate import SchemaMismatchError, check
from ledger.postgres.url import DatabaseUrlError
from ledger.projections.rebuild import RebuildError

if TYPE_CHECKING:
    from sqlalchemy.exc import DBAPIError

_OURS = (
    ConfigError,
    DatabaseChoiceError,
    DatabaseUrlError,
    EmbeddedPostgresError,
    RebuildError,
    SchemaMismatchError,
)


def database_options(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command `--config` and `--database_url`; it is called with `options`, a `DatabaseOptions`."""

    @click.option("--config", "config_file", type=click.Path(path_type=Path), help="Config that names the book.")
    @click.option("--database_url", "--database-url", help="The book; wins over config and environment.")
    @functools.wraps(command)
    def with_options(config_file: Path | None, database_url: str | None, **rest: Any) -> None:
        # `llm --config FILE ledger status` is the same as `llm ledger status --config FILE`.
        above = click.get_current_context().find_root().params
        options = DatabaseOptions(config_file or above.get("config_file"), database_url or above.get("database_url"))
        with told_faults():
            command(options=options, **rest)

    return with_options


@contextlib.contextmanager
def told_faults() -> Generator[None]:
    """Turn what may go wrong outside of this program into one line on stderr and exit status 1."""
    try:
        yield
    except _OURS as error:
        raise click.ClickException(str(error)) from error
    except _sqlalchemy_error() as error:
        raise click.ClickException(_of_database(error.orig or error)) from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise click.ClickException(_of_database(error)) from error
    except BrokenPipeError:
        # Whoever read our output has seen enough.
        raise click.exceptions.Exit(0) from None
    except (OSError, TimeoutError) as error:
        raise click.ClickException(f"the database is out of reach: {type(error).__name__}: {error}") from error


def _sqlalchemy_error() -> type["DBAPIError"]:
    """Return the class; an `except` asks for it only when something was raised, and few commands load SQLAlchemy."""
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415 - see above

    return DBAPIError


def _of_database(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return f"the database refused: {text[0] if text else type(error).__name__}"


async def require_schema(url: str) -> None:
    """Refuse a book that was not migrated to this version.

    Raises:
        SchemaMismatchError: with what to do.
    """
    try:
        connection = await connect(url, purpose="schema check", statement_timeout="10s")
    except (asyncpg.InvalidParameterValueError, asyncpg.UndefinedObjectError) as error:
        # The application's role is made by the first migration; without it there is no book.
        raise SchemaMismatchError(
            f"There is no book in this database ({str(error).splitlines()[0]}): run `llm ledger migrate`."
        ) from error
    try:
        await check(connection)
    finally:
        await connection.close()
