"""A stranger's walk: pages' blocks, run as they stand and in order, beside a proxy in a fresh copy of the project.

Only the proxy's port is exchanged. Variables and functions of a page's blocks last to its end, as in one terminal; the
next page begins in another one, beside the same proxy.
What a page says that a block prints is compared loosely: ids, keys and times are any, `...` is anything, lines
between may be left out. Which blocks run is said in documents.py.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

import psycopg

from tests.support.documents import ROOT, Block, blocks

RUN = "./scripts/run"
#: Holds what the blocks of a page have set.
_KEPT = ".walk"
_BEHIND = "SELECT sum(events_behind), sum(journals_stopped) FROM reporting.ledger_health"
_NOT_COPIED = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", ".hypothesis", ".data", "*.pyc")
#: What is different each time: keys, ids, times, ports.
_VARIES = (
    (re.compile(r"sk-[\w.*-]+"), "KEY"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"\b(resp|msg|key|chatcmpl)_[0-9a-f]{8,}\b"), "ID"),
    (re.compile(r"\b[0-9a-f]{64}\b"), "HASH"),
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?([+-]\d\d(:?\d\d)?|Z)?"), "TIME"),
    (re.compile(r"\b\d{4}-\d\d-\d\d\b"), "DAY"),
    (re.compile(r"-{3,}"), "--"),
    (re.compile(r"\s+"), " "),
)


def fresh_copy(directory: Path) -> Path:
    """Copy the project to a path with a space in it; the environment is shared, since making one takes minutes."""
    copy = directory / "a fresh copy"
    shutil.copytree(ROOT, copy, ignore=_NOT_COPIED, symlinks=True)
    (copy / ".venv").symlink_to(sys.prefix)
    return copy


@dataclass
class Walk:
    """Somebody who follows pages; use as a context manager, which ends the proxy in order."""

    copy: Path
    environment: dict[str, str]
    url: str = ""
    database_url: str = ""
    printed: str = ""
    #: What each block printed that ran.
    outputs: list[str] = field(default_factory=list)
    _proxy: subprocess.Popen[str] | None = None
    _page: str = ""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def follow(self, page: Path) -> None:
        """Run every block of a page that can be run, and compare what it prints with what the page says."""
        self._page = page.name
        (self.copy / _KEPT).unlink(missing_ok=True)
        output = ""
        for block in blocks(page):
            if block.language == "shell":
                if RUN in block.text:
                    output = self.start(next(line for line in block.text.splitlines() if line.startswith(RUN)))
            elif block.language in {"sh", "python"}:
                output = self.run(block)
            elif block.is_output:
                missing = first_missing(block.text, output)
                assert missing is None, f"{self._at(block)} says {missing!r}, which is not printed:\n{output}"

    def start(self, command: str = RUN) -> str:
        """Start the proxy by a line of the page, on a free port; returns what it printed until it was ready."""
        self.stop()
        self._proxy = subprocess.Popen(
            ["bash", "-c", f"exec {command.partition(' #')[0].strip()} --port 0"],
            cwd=self.copy, env=self.environment, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self._proxy.stdout is not None
        self.printed = ""
        while "\nData: " not in self.printed:
            line = self._proxy.stdout.readline()
            assert line, f"{self._page}: the proxy ended: {self.printed}"
            self.printed += line
        running = re.search(r"^RUNNING on http://0\.0\.0\.0:(\d+)$", self.printed, re.MULTILINE)
        database = re.search(r'^Database: +psql "(.+)"$', self.printed, re.MULTILINE)
        assert running, self.printed
        assert database or self.database_url, self.printed
        self.url = f"http://127.0.0.1:{running[1]}"
        self.database_url = self.database_url or (database[1] if database else "")
        return self.printed.replace(running[1], "4000")

    def run(self, block: Block) -> str:
        """Run a block as it stands, but for the proxy's port; return what it printed, with the page's port."""
        if self._proxy is None:
            self.start()
        text = block.text.replace("127.0.0.1:4000", self.url.removeprefix("http://"))
        assert "4000" not in text, f"{self._at(block)} names a port that the walk does not know"
        kept = self.copy / _KEPT
        if block.language == "sh":
            state = f'{{ export -p; declare -f; }} > "{kept}"'
            text = f'set -a\n[ ! -f "{kept}" ] || . "{kept}"\n{text}\n{state}\n'
            command = ["bash", "-euo", "pipefail", "-c", text]
        else:
            # A program of the reader's: it has the environment that the page's blocks have made.
            (self.copy / ".walk.py").write_text(text)
            command = ["bash", "-c", f'[ ! -f "{kept}" ] || . "{kept}"; PYTHONPATH=. exec "{sys.executable}" .walk.py']
        done = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=self.copy,
            env=self.environment, timeout=120,
        )  # fmt: skip
        assert done.returncode == 0, f"{self._at(block)} fails: {done.stderr}\n{done.stdout}"
        self.wait_until_folded()
        output = done.stdout.replace(self.url, "http://127.0.0.1:4000")
        self.outputs.append(output)
        return output

    def wait_until_folded(self) -> None:
        """Return when the views show all that has happened."""
        deadline = time.monotonic() + 30
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            while (row := connection.execute(_BEHIND).fetchone()) != (0, 0):
                assert time.monotonic() < deadline, f"projections are behind: {row}"
                time.sleep(0.02)

    def stop(self) -> None:
        """End the proxy as Ctrl-C does; it must end in order."""
        proxy, self._proxy = self._proxy, None
        if proxy is None:
            return
        proxy.send_signal(signal.SIGINT)
        assert proxy.stdout is not None
        with proxy.stdout:
            proxy.stdout.read()
        assert proxy.wait(60) == 0

    def _at(self, block: Block) -> str:
        return f"{self._page}:{block.line}"


def environment(home: Path, **more: str) -> dict[str, str]:
    """Give the environment of somebody who has just logged in: nothing of ours is set."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PG", "LLM_", "OPENAI", "XDG_", "PYTEST", "PYTHON")) and name != "DATABASE_URL"
    }
    return kept | {"HOME": str(home), **more}


def first_missing(said: str, printed: str) -> str | None:
    """Give the first line of `said` that is not in `printed`, in order; None if all are there."""
    lines = iter(_loose(line) for line in printed.splitlines())
    for line in said.splitlines():
        wanted = _loose(line)
        if wanted in {"", "..."}:
            continue
        pattern = re.compile(".*".join(re.escape(part) for part in wanted.split("...")))
        if not any(pattern.fullmatch(candidate) for candidate in lines):
            return line
    return None


def _loose(line: str) -> str:
    for pattern, name in _VARIES:
        line = pattern.sub(name, line)
    return line.strip()
