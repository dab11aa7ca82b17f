"""Importing the package: the public names are there, and nothing heavy is loaded for them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

import llm

ROOT = Path(__file__).resolve().parents[4]
HEAVY = (
    "fastapi",
    "sqlalchemy",
    "asyncpg",
    "openai",
    "httpx",
    "httpx2",
    "aiohttp",
    "pydantic",
    "asyncio",
    "uuid_utils",
)
LOADED = f"import sys, llm; print(*[name for name in {HEAVY!r} if name in sys.modules], sep=',')"
MODULES_MOST = 120
COUNTED = "import sys; before = len(sys.modules); import llm; print(len(sys.modules) - before)"
CALLED = """
import sys, llm
answer = llm.responses(model="gpt-4o", input="Hello", mock_response="Hi")
print(answer.output_text, answer.cost_usd, *[n for n in ("fastapi", "sqlalchemy", "asyncpg") if n in sys.modules])
"""


def in_fresh_interpreter(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-W", "error", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False)
    assert done.returncode == 0, done.stderr
    assert not done.stderr
    return done.stdout.strip()


def test_import_of_the_package_loads_nothing_heavy() -> None:
    assert in_fresh_interpreter(LOADED) == ""


def test_import_of_the_package_loads_few_modules() -> None:
    assert int(in_fresh_interpreter(COUNTED)) < MODULES_MOST


def test_call_without_a_book_loads_neither_web_server_nor_database_driver() -> None:
    assert in_fresh_interpreter(CALLED) == "Hi 0.00002"


def test_public_names_are_there_and_documented() -> None:
    assert set(llm.__all__) <= {*dir(llm), "AsyncResponseStream", "Response", "ResponseStream", "__version__"}
    for name in llm.__all__:
        assert getattr(llm, name).__doc__, name


def test_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'completion'"):
        _ = llm.completion  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType] - that is the point
