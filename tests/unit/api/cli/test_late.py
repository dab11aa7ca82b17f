"""Commands that are loaded when they are run: what a list says of them, and what small commands do not load."""

import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from api.cli.ledger import ledger_group
from api.cli.root import main

ROOT = Path(__file__).parents[4]
_LOADED = """
import sys
from api.cli import main
main(sys.argv[1:], standalone_mode=False)
print(*sorted({"alembic", "aiohttp", "fastapi", "rich", "sqlalchemy", "uvicorn"} & set(sys.modules)), file=sys.stderr)
"""


@pytest.mark.parametrize("group", [main, ledger_group], ids=["llm", "ledger"])
def test_list_of_commands_says_of_each_what_its_own_help_begins_with(group: object) -> None:
    late = group.late  # pyright: ignore[reportAttributeAccessIssue] - click's decorator hides the class
    for name, command in late.items():
        assert command.summary == command.load().get_short_help_str(500), name
    listed = CliRunner().invoke(group, ["--help"]).output  # pyright: ignore[reportArgumentType] - see above
    assert all(f"\n  {name} " in listed for name in late)


@pytest.mark.parametrize("arguments", ["--help", "ledger --help", "ledger psql --help", "ledger status --help"])
def test_small_command_loads_no_web_server_and_no_sqlalchemy(arguments: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _LOADED, *arguments.split()], check=True, capture_output=True, text=True, cwd=ROOT
    )
    assert done.stderr.split() == []
    assert "Usage:" in done.stdout
