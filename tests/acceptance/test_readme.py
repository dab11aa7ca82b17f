"""README word by word: its `sh` and `python` blocks run against a proxy that was started as README says.

Blocks of the language `shell` set things up (they install, or start the proxy, or read the key of a default place) and
are not run here; the newcomer's part of them is in test_scripts.py.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import psycopg
import pytest

from api.config import parse
from tests.support.documents import ROOT, Block, blocks

README = ROOT / "README.md"
KEY = "sk-the-key-of-the-readme-test"
STORY = "Once upon a time a clerk"
_BEHIND = "SELECT sum(events_behind), sum(journals_stopped) FROM reporting.ledger_health"


@dataclass
class Reader:
    """Somebody who follows README beside a running proxy, in the checkout."""

    url: str
    database_url: str
    environment: dict[str, str]

    def run(self, block: Block) -> str:
        """Run a block as it stands, but for the proxy's port; return what it printed."""
        text = block.text.replace("http://127.0.0.1:4000", self.url)
        assert self.url in text or "4000" not in block.text
        command = ["bash", "-euo", "pipefail", "-c", text] if block.language == "sh" else [sys.executable, "-c", text]
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=ROOT, env=self.environment, timeout=120
        )
        assert done.returncode == 0, f"README.md:{block.line}: {done.stderr}\n{done.stdout}"
        self.wait_until_folded()
        return done.stdout

    def wait_until_folded(self) -> None:
        """Return when the views show all that has happened."""
        deadline = time.monotonic() + 20
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            while (row := connection.execute(_BEHIND).fetchone()) != (0, 0):
                assert time.monotonic() < deadline, f"projections are behind: {row}"
                time.sleep(0.02)


@pytest.fixture
def reader(database_url: str, tmp_path: Path) -> Iterator[Reader]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "LLM_", "OPENAI"))}
    environment |= {"DATABASE_URL": database_url, "LLM_MASTER_KEY": KEY, "LLM_DATA_DIR": str(tmp_path)}
    command = [sys.executable, "-P", "-m", "api.cli", "--config", "examples/config.yaml", "--port", "0"]
    with subprocess.Popen(
        command, cwd=ROOT, env={**environment, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True
    ) as proxy:
        assert proxy.stdout is not None
        first = proxy.stdout.readline()
        running = re.fullmatch(r"RUNNING on http://0\.0\.0\.0:(\d+)\n", first)
        assert running is not None, f"instead of the ready line: {first!r}"
        yield Reader(f"http://127.0.0.1:{running[1]}", database_url, environment)
        proxy.send_signal(signal.SIGTERM)
        proxy.stdout.read()
        assert proxy.wait(60) == 0


def test_readme_followed_word_by_word_shows_what_it_says(reader: Reader) -> None:
    first, sql, replay, keys = blocks(README, "sh")
    sdk, ours = blocks(README, "python")

    said = reader.run(first)
    assert said.count(STORY) >= 1
    assert "event: response.completed" in said
    story, usage = reader.run(sdk).split("\n", 1)
    assert story.startswith(STORY)
    assert "ResponseUsage(" in usage

    table = reader.run(sql)
    assert re.search(r"completed \| gpt-4o \| alice +\| \{trial\} +\|", table), table
    assert re.search(r"master \| +\| +4 \| 0\.\d+ \| 0\.0+ \| +0", table), table
    assert "event: response.created" in table

    played = reader.run(replay)
    assert "call.received" in played
    assert "cost.recorded" in played
    assert played.count("event: response.completed\n") == 2, "from the command line and by HTTP"

    printed = reader.run(ours).splitlines()
    assert re.search(r" 0\.0\d+$", printed[0]), printed
    assert printed[-1] == "response.completed"

    told = reader.run(keys)
    assert STORY in told
    assert '"team":"research"' in told
    assert '"blocked":true' in told


def test_examples_run_against_the_proxy(reader: Reader) -> None:
    environment = {**reader.environment, "LLM_URL": reader.url, "PYTHONPATH": str(ROOT)}

    def run(*command: str) -> str:
        done = subprocess.run(
            command, check=False, capture_output=True, text=True, cwd=ROOT, env=environment, timeout=120
        )
        assert done.returncode == 0, f"{command}: {done.stderr}\n{done.stdout}"
        return done.stdout

    sdk = run(sys.executable, "examples/openai_sdk.py")
    assert re.search(r"^call [0-9a-f-]{36} cost 0\.0\d+ USD$", sdk, re.MULTILINE), sdk
    assert sdk.endswith("56 out\n400 model_not_found\n")
    ours = run(sys.executable, "examples/sdk.py")
    assert ours.startswith("Hello yourself: 0.00005 USD, billed\n"), ours
    assert len(re.findall(r"^call [0-9a-f-]{36} cost 0\.0\d+ USD$", ours, re.MULTILINE)) == 2, ours
    assert re.search(r"^2 at once, 0\.0\d+ USD\n400 model_not_found\n$", ours, re.MULTILINE), ours
    assert run("examples/keys.sh").endswith("after its revocation: 401\n")
    assert {path.name for path in (ROOT / "examples").iterdir()} == {
        "config.yaml",
        "keys.sh",
        "openai_sdk.py",
        "prometheus",
        "sdk.py",
    }


def test_readmes_config_is_one_that_is_read_without_a_warning() -> None:
    (config,) = blocks(README, "yaml")
    read = parse(config.text.encode(), "README.md", {"OPENAI_API_KEY": "sk-upstream"})
    assert [model.model_name for model in read.model_list] == ["gpt-4o-mini"]
    assert read.warnings == ()


def test_readme_begins_with_the_two_commands() -> None:
    begin, *_ = blocks(README, "shell")
    commands = [line.split("#")[0].strip() for line in begin.text.splitlines()]
    assert commands == ["./scripts/run", "./scripts/test"]
    for command in commands:
        assert os.access(ROOT / command, os.X_OK)
