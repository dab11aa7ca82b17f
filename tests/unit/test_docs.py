"""The documents against the code: links and paths lead somewhere, config keys and defaults are the loader's."""

from __future__ import annotations

import ast
import os
import re
import tomllib
from dataclasses import fields
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from api.config_settings import GeneralSettings, LlmSettings, RouterSettings
from api.version import DISTRIBUTION
from ledger.money.book import PriceBook
from ledger.money.config_price import CONFIG_KEYS, config_price
from ledger.money.cost import charge
from ledger.money.usage import METERS, Usage
from tests.support.documents import DOCUMENTS, ROOT, anchors, links, prose

OPERATING = ROOT / "docs" / "OPERATING.md"
MONEY = ROOT / "docs" / "MONEY.md"
FOLDERS = ("api", "ledger", "llm", "migrations", "tests", "docs", "examples", "benchmarks", "scripts", ".ci")
WORDS = """
event journal seq call version attempt chunk terminal append read record projection fold checkpoint lag rebuild replay
usage price cost charge hold settle model deployment router retry fallback cooldown budget tag issue revoke open seal
"""
PHRASES = ("catch up", "line item", "virtual key", "end user")

_CODE = re.compile(r"`([^`\n]+)`")
_ROW = re.compile(r"^\| (.+?) \|$", re.MULTILINE)
_TITLED = ("model_list", "general_settings", "router_settings", "llm_settings")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    for target in links(document):
        if target.startswith(("http://", "https://")):
            continue
        name, _, anchor = target.partition("#")
        there = document.parent / name if name else document
        assert there.exists(), f"{document.name} links to {target}"
        assert not anchor or anchor in anchors(there), f"{document.name} links to {target}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_paths_that_are_named_exist(document: Path) -> None:
    for code in _CODE.findall(prose(document)):
        path = code.removeprefix("./").split(" ")[0]
        if path.split("/")[0] in FOLDERS and "/" in path and re.fullmatch(r"[\w./-]+", path):
            assert (ROOT / path).exists(), f"{document.name} names {code}"


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_text_keeps_to_the_house_style(document: Path) -> None:
    text = document.read_text()
    assert text.startswith("# ")
    assert "TODO" not in text
    assert text.isascii(), [line for line in text.splitlines() if not line.isascii()]


def _table(section: str) -> dict[str, str]:
    """Keys of a section's tables, each with its default as it is written."""
    text = OPERATING.read_text().split(f"### {section}\n")[1].split("\n### ")[0].split("\n## ")[0]
    found: dict[str, str] = {}
    for row in _ROW.findall(text):
        key, default, *_ = (cell.strip() for cell in row.split(" | "))
        found |= dict.fromkeys(_CODE.findall(key), default)
    return found


def _asked(module: str) -> set[str]:
    """The texts that a loader's readers are called with: `table.seconds("lease_s", ...)`."""
    tree = ast.parse((ROOT / "api" / f"{module}.py").read_text())
    readers = {"entry", "read", "text", "integer", "number", "seconds", "size_bytes", "boolean", "choice", "items"}
    keys: set[str] = set()
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in {*readers, "table"}
        ):
            keys |= {arg.value for arg in node.args[:2] if isinstance(arg, ast.Constant) and isinstance(arg.value, str)}
    return keys


def test_config_reference_names_every_key_that_is_read_and_no_other() -> None:
    documented = set().union(*(_table(section) for section in _TITLED))
    asked = {key for key in _asked("config_models") | _asked("config_settings") if re.fullmatch(r"[a-z_]+", key)}
    # Names that only one place gives as data rather than as an argument.
    asked |= {*CONFIG_KEYS, "fallbacks", "default_fallbacks"}
    assert documented - {"llm_params", "model_info"} == asked - {*_TITLED, "litellm_params", "litellm_settings"} - {
        "llm_params",
        "model_info",
    }


@pytest.mark.parametrize(
    ("section", "settings"),
    [("general_settings", GeneralSettings()), ("router_settings", RouterSettings()), ("llm_settings", LlmSettings())],
)
def test_config_reference_gives_the_defaults_of_the_loader(section: str, settings: Any) -> None:
    table = _table(section)
    names = {"retry_after_s": "retry_after", "request_timeout_s": "request_timeout"}
    for field in fields(settings):
        value = getattr(settings, field.name)
        written = table[names.get(field.name, field.name)]
        if isinstance(value, bool):
            assert written == str(value).lower(), field.name
        elif isinstance(value, int | float):
            assert float(written) == value, field.name
        elif isinstance(value, str):
            assert written == f"`{value}`", field.name
        else:
            assert not value, f"{field.name} has a default that the table cannot say"


def test_operating_names_every_variable_that_is_read() -> None:
    source = (ROOT / "api" / "settings.py").read_text()
    read = set(re.findall(r'get\("([A-Z_]{4,})"', source))
    assert {"DATABASE_URL", "LLM_DATA_DIR"} <= read
    text = OPERATING.read_text()
    assert {name for name in read if f"{name}`" not in text and f"${name}" not in text} == {"HOME"} & read


def test_glossary_defines_each_word_of_the_house() -> None:
    text = (ROOT / "docs" / "GLOSSARY.md").read_text()
    defined = {word.strip() for group in re.findall(r"\*\*([^*]+)\*\*", text) for word in group.split(",")}
    assert not {*WORDS.split(), *PHRASES} - defined


def test_money_example_is_what_the_price_function_says() -> None:
    rows = [[cell.strip() for cell in row.split("|")] for row in _ROW.findall(MONEY.read_text())]
    items = [row for row in rows if row[0].strip("`") in METERS]
    at = datetime(2026, 1, 1, tzinfo=UTC)
    texts: dict[str, str] = dict(
        zip(
            ("input_cost_per_token", "cache_read_input_token_cost", "output_cost_per_token"),
            (row[2] for row in items),
            strict=True,
        )
    )
    price = config_price(texts, deployment="d", model="m", valid_from=at)
    assert price is not None
    usage = Usage(1000, 400, 0, 200, 0)
    charged = charge(usage, model="m", tier="default", at=at, prices=PriceBook([price]), deployment="d")
    assert [[f"`{item.meter}`", str(item.quantity)] for item in charged.items] == [row[:2] for row in items]
    assert [item.amount_usd for item in charged.items] == [Decimal(row[3]) for row in items]
    assert f"**{charged.billed_usd.normalize():f}**" in MONEY.read_text()


def test_changelog_begins_with_the_version_of_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == DISTRIBUTION
    first = re.findall(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)[0]
    assert first == project["version"]


def test_ci_runs_the_checks_and_the_tests() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    assert [line.split()[2] for line in script.read_text().splitlines() if line.startswith("stage ")] == [
        "./scripts/check",
        "./scripts/test",
        "./scripts/test-postgres15",
    ]
