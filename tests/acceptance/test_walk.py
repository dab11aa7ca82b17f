"""README and docs/ followed word by word, page by page, beside a proxy in a fresh copy.

What kinds of blocks there are is said in tests/support/documents.py; the queries of docs/SQL.md have a test of their
own, tests/integration/test_sql_queries.py, and so has docs/SDK.md, whose programs ask an upstream (test_sdk_docs.py).
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from api.config import parse
from tests.support.documents import DOCUMENTS, LANGUAGES, ROOT, Block, blocks
from tests.support.postgres import reachable_directory, remove
from tests.support.walk import Walk, environment, first_missing, fresh_copy

README = ROOT / "README.md"
START = ROOT / "docs" / "START.md"
SDK = ROOT / "docs" / "SDK.md"
WALKED = [page for page in DOCUMENTS if page != SDK and (blocks(page, "sh") or blocks(page, "python"))]
#: Pages that follow each other beside one proxy, on one book; the long ones have theirs for themselves.
ALONE = {"CLI.md", "HTTP.md"}
WALKS = [
    [page for page in WALKED if page != START and page.name not in ALONE],
    *([page] for page in WALKED if page.name in ALONE),
]
#: Nobody who reads can have these: what a `text` block begins with that is a command all the same.
_COMMAND = re.compile(
    r"(\$ |# )?([A-Z_]+=\S+ )*(curl|\./scripts/|llm |docker |sudo |pip|python|psql|export |CREATE |GRANT )"
)


def _every(language: str) -> list[object]:
    return [
        pytest.param(block, id=f"{page.name}-{number}")
        for page in DOCUMENTS
        for number, block in enumerate(blocks(page, language), 1)
    ]


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    return fresh_copy(tmp_path)


@pytest.mark.parametrize("pages", WALKS, ids=lambda pages: ", ".join(page.name for page in pages))
def test_pages_followed_word_by_word_do_what_they_say(
    pages: list[Path], copy: Path, database_url: str, tmp_path: Path
) -> None:
    with Walk(copy, environment(tmp_path, DATABASE_URL=database_url), database_url=database_url) as walk:
        for page in pages:
            walk.follow(page)
    assert len(walk.outputs) == sum(len(blocks(page, "sh")) + len(blocks(page, "python")) for page in pages)
    described = (ROOT / "docs" / "EVENTS.md").read_text()
    with psycopg.connect(database_url) as connection:
        facts = connection.execute("SELECT DISTINCT type, jsonb_object_keys(facts) FROM ledger.events").fetchall()
    assert len(facts) > 50
    assert [fact for fact in facts if f"`{fact[1]}`" not in described] == []


def test_every_page_for_users_has_something_that_runs() -> None:
    names = ("README", "START", "CONCEPTS", "OPERATING", "MONEY", "ERRORS", "HTTP", "CLI", "SDK")
    assert {page.stem for page in (*WALKED, SDK)} == set(names)


@pytest.fixture
def newcomer() -> Iterator[Path]:
    """A home below which an embedded Postgres can lie, under root as well."""
    home = reachable_directory()
    data = home / ".local" / "share" / "responses-ledger"
    data.mkdir(parents=True)
    for directory in (home / ".local", home / ".local" / "share", data):
        directory.chmod(0o711)
    yield home
    remove(data)
    remove(home)


def test_start_followed_word_by_word_by_a_newcomer_with_nothing_does_what_it_says(copy: Path, newcomer: Path) -> None:
    with Walk(copy, environment(newcomer)) as walk:
        walk.follow(START)
    assert len(walk.outputs) == len(blocks(START, "sh"))


def test_examples_run_against_the_proxy(copy: Path, database_url: str, tmp_path: Path) -> None:
    surroundings = environment(tmp_path, DATABASE_URL=database_url, LLM_MASTER_KEY="sk-the-key-of-the-examples")
    with Walk(copy, surroundings, database_url=database_url) as walk:
        walk.start()

        def run(*command: str) -> str:
            done = subprocess.run(
                command, check=False, capture_output=True, text=True, cwd=copy, timeout=120,
                env={**surroundings, "LLM_URL": walk.url, "PYTHONPATH": "."},
            )  # fmt: skip
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


def test_examples_are_all_known() -> None:
    """Each has a test: config.yaml is what the walk starts with, prometheus/ has one in unit/api."""
    assert {path.name for path in (ROOT / "examples").iterdir()} == {
        "config.yaml",
        "keys.sh",
        "openai_sdk.py",
        "prometheus",
        "sdk.py",
    }


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_blocks_have_a_language_and_text_says_what_it_is(page: Path) -> None:
    for block in blocks(page):
        assert block.language in LANGUAGES, f"{page.name}:{block.line}: {block.language!r}"
        if block.language == "text" and not (block.is_output or block.needs_more):
            commands = [line for line in block.text.splitlines() if _COMMAND.match(line)]
            assert not commands, f"{page.name}:{block.line}: run {commands}, or say what they need"


def _config(block: Block) -> None:
    read = parse(block.text.encode(), "page.md", {"OPENAI_API_KEY": "sk-upstream", "LLM_MASTER_KEY": "sk-master-key"})
    assert read.warnings == ()


@pytest.mark.parametrize("block", _every("yaml"))
def test_yaml_is_a_config_that_is_read_without_a_warning(block: Block) -> None:
    _config(block)


def test_shell_blocks_name_programs_and_files_that_are_there() -> None:
    for page in DOCUMENTS:
        for block in blocks(page, "shell"):
            for line in block.text.splitlines():
                for word in shlex.split(line, comments=True):
                    if word.startswith(("./", "requirements", "examples/")):
                        assert (ROOT / word).exists(), f"{page.name}:{block.line}: {word}"


def test_readme_begins_with_the_two_commands() -> None:
    begin, *_ = blocks(README, "shell")
    commands = [line.split("#")[0].strip() for line in begin.text.splitlines()]
    assert commands == ["./scripts/run", "./scripts/test"]
    for command in commands:
        assert os.access(ROOT / command, os.X_OK)


@pytest.mark.parametrize(
    ("said", "printed", "missing"),
    [
        ("a  b\n...\nd", "a b\nc\nd\n", None),
        ("d\na", "a\nd\n", "a"),
        ("cost 0.2", "cost 0.3", "cost 0.2"),
        ("cost ...", "cost 0.3", None),
        ("id 01234567-89ab-cdef-0123-456789abcdef", "id 11234567-89ab-cdef-0123-456789abcdef", None),
    ],
)
def test_comparison_of_what_is_said_with_what_is_printed_is_loose_and_can_fail(
    said: str, printed: str, missing: str | None
) -> None:
    assert first_missing(said, printed) == missing
