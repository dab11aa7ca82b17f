"""Progress bars on stderr where that is a terminal, and nothing where it is not."""

import contextlib
import sys
from collections.abc import Callable, Generator

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn


@contextlib.contextmanager
def step_progress(title: str, unit: str) -> Generator[Callable[[str, int, int], None]]:
    """Give a function that takes what is being done, and how much of `unit` is done of how much in all (0: unknown)."""
    if not sys.stderr.isatty():
        yield lambda _what, _done, _total: None
        return
    columns = (
        TextColumn(f"{title} {{task.description}}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda what, done, total: progress.update(task, description=what, completed=done, total=total or None)


@contextlib.contextmanager
def progress_bar(title: str, unit: str) -> Generator[Callable[[int, int], None]]:
    """Give a function that takes how much of `unit` is done, and of how much in all."""
    with step_progress(title, unit) as tell:
        yield lambda done, total: tell("", done, total)
