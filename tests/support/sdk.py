"""The SDK in tests: as if its process were new, calls that block beside the test's loop, programs of their own."""

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import llm
from llm.sdk import settings

ROOT = Path(__file__).resolve().parents[2]
_T = TypeVar("_T")


@contextmanager
def fresh_sdk() -> Generator[None]:
    """Configure nothing at the beginning, and leave nothing running at the end."""
    former = settings._current
    settings._current = settings.Settings()
    try:
        yield
    finally:
        llm.close()
        settings._current = former


async def beside(use: Callable[[], _T]) -> _T:
    """Use the synchronous API in a thread, while the loop serves what it calls."""
    return await asyncio.to_thread(use)


def program(code: str, **environment: str) -> subprocess.Popen[str]:
    """Start a program that uses the SDK; warnings are errors there, too."""
    command = [sys.executable, "-W", "error", "-c", code]
    given = {"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), **environment}
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=given)


def ended(process: subprocess.Popen[str], timeout_s: float = 120.0) -> str:
    """Wait until a program has ended well; return what it printed."""
    try:
        printed, complaint = process.communicate(timeout=timeout_s)
    except subprocess.TimeoutExpired:
        process.kill()
        raise
    assert process.returncode == 0, complaint
    assert not complaint, complaint
    return printed.strip()


def same(one: Any, other: Any) -> bool:
    """Whether two objects of the package say the same, unknown fields and types included."""
    dumps = [each.to_dict(warnings=False) for each in (one, other)]
    return dumps[0] == dumps[1] and repr(one).partition("(")[2] == repr(other).partition("(")[2]
