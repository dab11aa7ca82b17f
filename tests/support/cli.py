"""Runs `llm ledger ...`, `llm keys ...` and the like for tests: inside the test's process, or as one of its own."""

import asyncio
import os
import subprocess
import sys

from click import Group
from click.testing import CliRunner, Result

from api.cli.keys import keys_group
from api.cli.ledger import ledger_group
from api.cli.prices import prices_group

_OURS = ("DATABASE_URL", "LLM_OWNER_DATABASE_URL", "LLM_DATA_DIR")


async def ledger(*arguments: str, url: str | None = None, **environ: str) -> Result:
    """Run a command on the book at `url`; in a thread, since it has an event loop of its own."""
    return await _invoke(ledger_group, arguments, url, environ)


async def keys(*arguments: str, url: str | None = None, **environ: str) -> Result:
    """Run `llm keys ...`, as `ledger`."""
    return await _invoke(keys_group, arguments, url, environ)


async def prices(*arguments: str, url: str | None = None, **environ: str) -> Result:
    """Run `llm prices ...`, as `ledger`."""
    return await _invoke(prices_group, arguments, url, environ)


async def _invoke(group: Group, arguments: tuple[str, ...], url: str | None, environ: dict[str, str]) -> Result:
    given = {**dict.fromkeys(_OURS), **environ, **({} if url is None else {"DATABASE_URL": url})}
    result = await asyncio.to_thread(CliRunner().invoke, group, list(arguments), env=given)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def ledger_process(*arguments: str, url: str, **environ: str) -> "subprocess.CompletedProcess[bytes]":
    """Run a command in a process of its own, which it may replace."""
    kept = {name: value for name, value in os.environ.items() if name not in _OURS}
    return subprocess.run(
        [sys.executable, "-m", "api.cli", "ledger", *arguments],
        env={**kept, **environ, "DATABASE_URL": url},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=60,
        check=False,
    )
