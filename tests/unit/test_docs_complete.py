"""What the code has is in the documents: routes, commands, options, events, metrics, headers, error codes."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import click
import pytest

from api.cli.root import main
from api.errors import unknown_path
from api.metrics.layout import COUNTERS, GAUGES
from ledger import events
from tests.support.authorisation import Row, rows
from tests.support.documents import DOCUMENTS, ROOT, blocks, prose

HTTP = ROOT / "docs" / "HTTP.md"
CLI = ROOT / "docs" / "CLI.md"
SOURCES = [path for folder in ("api", "llm") for path in sorted((ROOT / folder).rglob("*.py"))]
EVERYTHING = "".join(page.read_text() for page in DOCUMENTS if page.name != "CHANGELOG.md")
#: What makes an answer that is an error; the code is an argument of each.
_FAILURES = {"ApiError", "bad_request", "unauthorized", "forbidden", "not_found", "_conflict", "_refused"}
#: Of every command; said once, under "Which book".
_WHICH_BOOK = {"--config", "--database_url"}
_TYPES = {"invalid_request_error", "server_error"}
_CODE = re.compile(r"[a-z]+(_[a-z]+)+")


def _short(path: str) -> str:
    """A path as the page names it: prefixes are said once, what varies has any name."""
    return re.sub(r"\{[^}]*\}", "{}", re.sub(r"^(/openai)?/v1(?=/responses|/models|/organization)", "", path))


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.route)
def test_route_is_in_the_http_reference_and_has_an_example_that_runs(row: Row) -> None:
    path = _short(row.path.partition("?")[0])
    named = {_short(word) for word in re.findall(r"/[\w./{}:-]+", HTTP.read_text())}
    assert path in named, f"docs/HTTP.md does not name {row.route}"
    examples = "".join(block.text for block in blocks(HTTP, "sh"))
    asked = r"[^/\s?\"']+".join(re.escape(part) for part in path.split("{}"))
    assert re.search(rf"\$URL(/openai)?(/v1)?{asked}(?=[\s?\"']|$)", examples, re.MULTILINE), f"no example: {row.route}"


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.route)
def test_route_is_among_those_that_an_unknown_path_is_told(row: Row) -> None:
    begin = re.sub(r"^(/openai)?/v[12](?=/)", "", re.split(r"[?.]", row.path)[0]).split("/")[1]
    assert begin in re.findall(r"[a-z_]+", unknown_path("GET", "").message), f"{row.route} is not told"


def _commands(group: click.Group, name: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for word in group.list_commands(context):
        command = group.get_command(context, word)
        assert command is not None
        if isinstance(command, click.Group):
            yield from _commands(command, f"{name} {word}")
        else:
            yield f"{name} {word}", command


_COMMANDS = list(_commands(main, "llm"))


@pytest.mark.parametrize(("name", "command"), _COMMANDS)
def test_command_and_its_options_are_in_the_reference_with_an_example(name: str, command: click.Command) -> None:
    text = prose(CLI)
    group, _, word = name.rpartition(" ")
    synopsis = re.search(rf"^    {group} (\w+\|)*{word}\b.*(\n        .*)*", text, re.MULTILINE)
    assert synopsis, f"docs/CLI.md has no line for {name}"
    section = text[text.rindex("\n## ", 0, synopsis.start()) :].split("\n## ")[1]
    for parameter in command.params:
        if isinstance(parameter, click.Option) and not {*parameter.opts} & _WHICH_BOOK:
            assert any(option in section for option in parameter.opts), f"{name} {parameter.opts}"
    examples = "".join(block.text for block in blocks(CLI) if block.language == "sh" or block.needs_more)
    assert re.search(rf"{group} {word}\b", examples), f"docs/CLI.md has no example of {name}"


def test_commands_are_found_in_all_groups() -> None:
    assert {name.split()[1] for name, _ in _COMMANDS} == {"keys", "ledger", "prices"}


def test_every_option_of_serving_is_in_operating() -> None:
    text = (ROOT / "docs" / "OPERATING.md").read_text()
    for parameter in main.params:
        assert any(option in text for option in parameter.opts), parameter.opts


def test_every_type_of_event_is_described() -> None:
    text = (ROOT / "docs" / "EVENTS.md").read_text()
    types = {
        value for value in vars(events).values() if isinstance(value, str) and re.fullmatch(r"[a-z]+\.[a-z]+", value)
    }
    assert len(types) > 25
    assert not {kind for kind in types if f"`{kind}`" not in text}


def test_every_metric_is_described() -> None:
    text = (ROOT / "docs" / "OPERATING.md").read_text()
    told = set(re.findall(r'_PREFIX \+ "(\w+)"|_counter\(\s*"(\w+)"', (ROOT / "api/metrics/exposition.py").read_text()))
    names = {name for pair in told for name in pair if name} | {*GAUGES, *COUNTERS}
    assert len(names) > 20
    assert not {name for name in names if f"`{name}`" not in text and f"`{name}_total`" not in text}


def test_every_header_of_ours_is_described() -> None:
    named = {name for path in SOURCES for name in re.findall(r'"(x-llm-[a-z-]+[a-z])"', path.read_text())}
    assert "x-llm-call-id" in named
    assert not {name for name in named if f"`{name}" not in EVERYTHING}


def test_every_code_of_an_error_is_in_a_table() -> None:
    tables = "".join(re.findall(r"^\|.*$", HTTP.read_text() + (ROOT / "docs/ERRORS.md").read_text(), re.MULTILINE))
    missing: set[str] = set()
    for path in SOURCES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in _FAILURES:
                place = 3 if node.func.id == "ApiError" else 1
                given = [
                    *node.args[place : place + 1],
                    *(keyword.value for keyword in node.keywords if keyword.arg == "code"),
                ]
                codes = {each.value for each in given if isinstance(each, ast.Constant) and isinstance(each.value, str)}
                missing |= {code for code in codes - _TYPES if _CODE.fullmatch(code) and f"`{code}`" not in tables}
    assert missing == set()
