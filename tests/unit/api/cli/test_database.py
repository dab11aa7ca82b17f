"""Which database a command means, without any database being there."""

from pathlib import Path
from typing import Any, Self

import pytest

from api.cli import database
from api.cli.database import Database, DatabaseChoiceError, DatabaseOptions, command_database, open_database
from api.cli.ledger_psql import psql_environ
from api.settings import Settings

OPTION, CONFIG, ENVIRONMENT = (f"postgresql://user@{name}/ledger" for name in ("option", "config", "environment"))


class _Server:
    """Stands for the embedded Postgres."""

    url = "postgresql://embedded@127.0.0.1/ledger"
    started: list[Path]

    def __init__(self) -> None:
        self.started = []
        self.released = 0

    def start(self, data_dir: Path) -> "_Server":
        self.started.append(data_dir)
        return self

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.released += 1


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> _Server:
    server = _Server()
    monkeypatch.setattr(database, "start", server.start)
    return server


def _settings(**environ: str) -> Settings:
    return Settings.read({"HOME": "/nowhere", **environ})


@pytest.mark.parametrize(
    ("given", "environ", "expected"),
    [
        ({"database_url": OPTION, "configured_url": CONFIG}, {"DATABASE_URL": ENVIRONMENT}, OPTION),
        ({"configured_url": CONFIG}, {"DATABASE_URL": ENVIRONMENT}, CONFIG),
        ({}, {"DATABASE_URL": ENVIRONMENT}, ENVIRONMENT),
    ],
)
def test_database_that_is_named_several_times_is_the_nearest(
    server: _Server, given: dict[str, Any], environ: dict[str, str], expected: str
) -> None:
    with open_database(_settings(**environ), **given) as found:
        assert (found.url, found.owner_url, found.is_embedded) == (expected, expected, False)
    assert server.started == []


def test_database_that_is_not_named_is_the_embedded_one_and_released(server: _Server, tmp_path: Path) -> None:
    with open_database(_settings(LLM_DATA_DIR=str(tmp_path))) as found:
        assert (found.url, found.is_embedded, server.released) == (server.url, True, 0)
    assert (server.started, server.released) == ([tmp_path], 1)
    with open_database(_settings(LLM_DATA_DIR=str(tmp_path)), data_dir=tmp_path / "configured") as found:
        assert found.data_dir == tmp_path / "configured"


def test_embedded_database_that_was_never_made_is_refused_where_nothing_is_to_be_made(
    server: _Server, tmp_path: Path
) -> None:
    with (
        pytest.raises(DatabaseChoiceError, match="There is no book in"),
        open_database(_settings(LLM_DATA_DIR=str(tmp_path)), create=False),
    ):
        pass
    (tmp_path / "postgres" / "cluster").mkdir(parents=True)
    with open_database(_settings(LLM_DATA_DIR=str(tmp_path)), create=False):
        assert server.started == [tmp_path]


def test_owners_url_of_another_database_is_refused(server: _Server) -> None:
    settings = _settings(DATABASE_URL=ENVIRONMENT, LLM_OWNER_DATABASE_URL="postgresql://owner@host/other")
    with pytest.raises(DatabaseChoiceError, match="'ledger', but LLM_OWNER_DATABASE_URL names 'other'"):
        open_database(settings).__enter__()
    assert server.started == []


def test_owners_url_of_another_host_is_taken(server: _Server) -> None:
    owner = "postgresql://owner@direct/ledger"
    with open_database(_settings(DATABASE_URL=ENVIRONMENT, LLM_OWNER_DATABASE_URL=owner)) as found:
        assert (found.url, found.owner_url) == (ENVIRONMENT, owner)
    assert server.started == []


def test_owners_url_alone_is_refused(server: _Server) -> None:
    settings = _settings(LLM_OWNER_DATABASE_URL="postgresql://owner@host/ledger")
    with pytest.raises(DatabaseChoiceError, match="no URL to work with"):
        open_database(settings).__enter__()
    assert server.started == []


def test_config_names_the_database_of_a_command(
    server: _Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", ENVIRONMENT)
    monkeypatch.delenv("LLM_OWNER_DATABASE_URL", raising=False)
    config = tmp_path / "config.yaml"
    config.write_text(
        f"model_list: [{{model_name: m, llm_params: {{model: openai/m, mock_response: hi}}}}]\n"
        f"general_settings: {{database_url: '{CONFIG}'}}\n"
    )
    with command_database(DatabaseOptions(config)) as found:
        assert found.url == CONFIG
    with command_database(DatabaseOptions(config, OPTION)) as found:
        assert found.url == OPTION
    assert server.started == []


def test_database_does_not_show_its_password() -> None:
    found = Database("postgresql://u:secret@h/ledger", "postgresql://o:secret@h/ledger", Path("/data"))
    assert "secret" not in repr(found) + found.shown
    assert found.shown == "postgresql://u:***@h/ledger"


def test_psql_gets_the_login_by_its_environment_and_the_owner_only_when_asked() -> None:
    found = Database("postgresql://u:secret@h/ledger", "postgresql://o:other@h:7/ledger", Path("/data"))
    environ = {"PGHOSTADDR": "192.0.2.1", "PGOPTIONS": "-c x=y", "PATH": "/bin"}
    reporting = psql_environ(found, as_owner=False, environ=environ)
    assert (reporting["PGUSER"], reporting["PGPASSWORD"], reporting["PATH"]) == ("u", "secret", "/bin")
    assert "role=responses_ledger_reporting" in reporting["PGOPTIONS"]
    assert "PGHOSTADDR" not in reporting
    owner = psql_environ(found, as_owner=True, environ=environ)
    assert (owner["PGUSER"], owner["PGPASSWORD"], owner["PGPORT"]) == ("o", "other", "7")
    assert "role=" not in owner["PGOPTIONS"]
    for options in (reporting["PGOPTIONS"], owner["PGOPTIONS"]):
        assert "default_transaction_read_only=on" in options
