"""What is read from the environment."""

from pathlib import Path

import pytest

from api.settings import Settings, default_data_dir


def test_settings_with_nothing_set_use_a_directory_below_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    settings = Settings.read({"DATABASE_URL": " ", "HOME": "/dev/null/home"})
    assert settings.data_dir == tmp_path / ".data"
    assert (settings.database_url, settings.owner_database_url, settings.master_key) == (None, None, None)


def test_settings_show_no_secret() -> None:
    environ = {
        "DATABASE_URL": "postgres://u:s3cret@h/d",
        "LLM_OWNER_DATABASE_URL": "postgres://o:s3cret@h/d",
        "LLM_MASTER_KEY": "sk-s3cret",
        "OPENAI_API_KEY": "sk-s3cret",
        "LLM_DATA_DIR": "/srv/x",
        "OTHER": "s3cret",
    }
    settings = Settings.read(environ)
    assert "s3cret" not in repr(settings)
    assert settings.database_url == environ["DATABASE_URL"]
    assert settings.owner_database_url == environ["LLM_OWNER_DATABASE_URL"]
    assert settings.master_key == settings.openai_api_key == "sk-s3cret"
    assert settings.data_dir == Path("/srv/x")
    assert settings.environ["OTHER"] == "s3cret"


def test_default_data_dir_follows_the_platform(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path)}
    assert default_data_dir(home, "linux") == tmp_path / ".local" / "share" / "responses-ledger"
    assert default_data_dir(home, "darwin") == tmp_path / "Library" / "Application Support" / "responses-ledger"
    assert default_data_dir({**home, "XDG_DATA_HOME": str(tmp_path / "x")}) == tmp_path / "x" / "responses-ledger"
    assert default_data_dir({**home, "XDG_DATA_HOME": "relative"}, "linux").is_relative_to(tmp_path / ".local")


def test_default_data_dir_with_a_file_in_the_way_is_below_the_current_one(tmp_path: Path) -> None:
    (tmp_path / ".local").write_text("")
    assert default_data_dir({"HOME": str(tmp_path)}, "linux") == Path.cwd() / ".data"
