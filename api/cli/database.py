"""Which database holds the book, for every command: an option, the config, the environment, else the embedded one.

`open_database` is what `serve` uses too; `command_database` reads the options that all `llm ledger` commands share.
What is then done with the URL is the command's affair.
"""

import contextlib
from collections.abc import Generator
from dataclasses import dataclass, field
from pathlib import Path

from api.config import load
from api.settings import Settings
from ledger.postgres.embedded import EmbeddedServer, start
from ledger.postgres.embedded_layout import Layout
from ledger.postgres.url import parse


class DatabaseChoiceError(Exception):
    """It cannot be said which database is meant, or there is no book there; the message says what to do."""


@dataclass(frozen=True, slots=True)
class Database:
    """The book's database. `owner_url` migrates and rebuilds; it is `url` itself where nothing else was given."""

    url: str = field(repr=False)
    owner_url: str = field(repr=False)
    data_dir: Path
    embedded: EmbeddedServer | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether it is the embedded Postgres of `data_dir`, which runs at least until the context ends."""
        return self.embedded is not None

    @property
    def shown(self) -> str:
        """The URL without its password."""
        return parse(self.url).redacted()


@dataclass(frozen=True, slots=True)
class DatabaseOptions:
    """What a command line says about the database."""

    config_file: Path | None = None
    database_url: str | None = field(default=None, repr=False)


@contextlib.contextmanager
def open_database(
    settings: Settings,
    *,
    database_url: str | None = None,
    configured_url: str | None = None,
    data_dir: Path | None = None,
    create: bool = True,
) -> Generator[Database]:
    """Give the database of `database_url`, else `configured_url`, else DATABASE_URL, else the embedded one.

    The embedded one is started, or joined where it runs, and released at the end. `data_dir` wins over LLM_DATA_DIR.
    Without `create`, an embedded one that was never made is an error rather than an empty book. Blocks.

    Raises:
        DatabaseChoiceError: the owner's URL names another database, or there is no embedded book.
        DatabaseUrlError: a URL cannot be read.
        EmbeddedPostgresError: the embedded Postgres does not start.
    """
    directory = data_dir or settings.data_dir
    url = database_url or configured_url or settings.database_url
    owner_url = settings.owner_database_url
    if url is not None:
        _require_one_database(url, owner_url)
        yield Database(url, owner_url or url, directory)
        return
    if owner_url is not None:
        raise DatabaseChoiceError(
            "LLM_OWNER_DATABASE_URL is set, but no URL to work with: set DATABASE_URL too, or unset it to use the "
            f"embedded Postgres in {directory}."
        )
    if not create and not Layout(directory.absolute() / "postgres").cluster.exists():
        raise DatabaseChoiceError(
            f"There is no book in {directory}: name one by --database_url, DATABASE_URL or --config, or its data "
            "directory by LLM_DATA_DIR. (`llm --config FILE` and `llm ledger migrate` make one.)"
        )
    with start(directory) as server:
        yield Database(server.url, server.url, directory, server)


@contextlib.contextmanager
def command_database(options: DatabaseOptions, *, create: bool = False) -> Generator[Database]:
    """Give the database that the options of a `llm ledger` command and the environment name; see `open_database`.

    Raises:
        ConfigError: the config file cannot be used.
    """
    settings = Settings.read()
    configured_url, data_dir = None, None
    if options.config_file is not None:
        general = load(options.config_file, settings.environ).general
        configured_url, data_dir = general.database_url, general.data_dir
    with open_database(
        settings,
        database_url=options.database_url,
        configured_url=configured_url,
        data_dir=data_dir,
        create=create,
    ) as database:
        yield database


def _require_one_database(url: str, owner_url: str | None) -> None:
    """Refuse names that differ, which would migrate the wrong database; hosts may, as with a pooler."""
    name = parse(url).database
    owners = None if owner_url is None else parse(owner_url).database
    if name is not None and owners is not None and name != owners:
        raise DatabaseChoiceError(
            f"The book is database {name!r}, but LLM_OWNER_DATABASE_URL names {owners!r}: both must name the same."
        )
