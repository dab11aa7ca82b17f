"""The memory that a worker counts in: signed 64-bit cells, in a file where several workers have to read each other's.

Whatever is added is at once to be seen by the other workers, and stays when its worker is killed: the next worker to
start takes the cells over and counts on, so that a counter falls only when the whole proxy starts anew. `layout.py`
says what the cells mean.
"""

import contextlib
import fcntl
import mmap
import os
import shutil
import tempfile
import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from api.metrics.layout import Layout

_CELL: Final = 8
#: Before the cells of the layout: its fingerprint, and when the worker last gave a sign of life (monotonic, in us).
_FINGERPRINT, _SEEN_US, _HEADER = 0, 1, 2
_PREFIX: Final = "responses-ledger-metrics-"
#: Workers that can be told apart; uvicorn has replaced a dead one long before another is needed.
WORKERS_MAX: Final = 256
#: A worker that has given no sign of life for this long has no present state to tell.
ALIVE_S: Final = 5.0
#: A sum wraps to nothing where it would no longer fit (9.2 million USD): to a reader, a counter that began anew.
CELL_MAX: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Reading:
    """The cells of one worker at one moment. `is_alive`: its gauges mean something."""

    worker: int
    is_alive: bool
    values: list[int]


class MetricsFileError(Exception):
    """No worker's place is free in the directory of metrics."""


class Cells:
    """A worker's own cells, indexed as the layout says. One writer, and so no lock."""

    def __init__(self, layout: Layout, directory: Path | None = None) -> None:
        """Take a free place in `directory`; without one, count in memory of this process alone.

        Raises:
            MetricsFileError: every place is taken.
            OSError: the directory cannot be written.
        """
        self.layout = layout
        self._directory = directory
        self._size_bytes = (_HEADER + layout.size) * _CELL
        self.worker = 0
        self._file: int | None = None
        if directory is None:
            self._memory = mmap.mmap(-1, self._size_bytes)
        else:
            self.worker, self._file = _claim(directory)
            if os.fstat(self._file).st_size != self._size_bytes:
                _allocate(self._file, self._size_bytes)
            self._memory = mmap.mmap(self._file, self._size_bytes)
        self._all = memoryview(self._memory).cast("q")
        self.values = self._all[_HEADER:]
        if self._all[_FINGERPRINT] != layout.fingerprint:
            self._memory[:] = bytes(self._size_bytes)
            self._all[_FINGERPRINT] = layout.fingerprint
        self.note_alive()

    def note_alive(self) -> None:
        """Give a sign of life."""
        self._all[_SEEN_US] = time.monotonic_ns() // 1_000

    def readings(self) -> list[Reading]:
        """Return the cells of every worker, this one's first."""
        own = Reading(self.worker, is_alive=True, values=self.values.tolist())
        if self._directory is None:
            return [own]
        others = [self._read(worker) for worker in range(WORKERS_MAX) if worker != self.worker]
        return [own, *(reading for reading in others if reading is not None)]

    def _read(self, worker: int) -> Reading | None:
        assert self._directory is not None  # noqa: S101 - readings() has looked
        try:
            data = _path(self._directory, worker).read_bytes()
        except OSError:
            return None
        if len(data) != self._size_bytes:
            return None
        values = memoryview(data).cast("q").tolist()
        if values[_FINGERPRINT] != self.layout.fingerprint:
            return None
        age_s = time.monotonic_ns() / 1e9 - values[_SEEN_US] / 1e6
        return Reading(worker, is_alive=age_s < ALIVE_S, values=values[_HEADER:])

    def close(self) -> None:
        """Give the memory and the place back; what was counted stays in the file."""
        if self._all[_FINGERPRINT]:
            self._all[_SEEN_US] = 0
        self.values.release()
        self._all.release()
        self._memory.close()
        if self._file is not None:
            os.close(self._file)
            self._file = None


def _allocate(file: int, size_bytes: int) -> None:
    """Make a file of nothing but zeros, with its room on the disk: a page without it would end the process later on."""
    os.ftruncate(file, 0)
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, size_bytes)
    else:
        os.ftruncate(file, size_bytes)


def _path(directory: Path, worker: int) -> Path:
    return directory / f"worker-{worker}"


def _claim(directory: Path) -> tuple[int, int]:
    """Return the number of the first place that no living process holds, and its open, locked file."""
    for worker in range(WORKERS_MAX):
        file = os.open(_path(directory, worker), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(file)
            continue
        return worker, file
    raise MetricsFileError(f"all {WORKERS_MAX} places in {directory} are taken by living processes")


@contextlib.contextmanager
def shared_directory() -> Generator[Path]:
    """Make the directory in which workers count, for as long as the block runs; clear away what dead proxies left."""
    _clear_away()
    made = Path(tempfile.mkdtemp(prefix=f".{_PREFIX}"))
    directory = made.with_name(made.name.removeprefix("."))
    # Held by the parent of the workers, so that another start can tell a directory in use, and does so from its first
    # moment under this name on.
    held = os.open(made / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
        made.rename(directory)
        yield directory
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        os.close(held)


def _clear_away() -> None:
    """Remove this user's directories whose proxy was killed."""
    for directory in Path(tempfile.gettempdir()).glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            if directory.lstat().st_uid != os.geteuid():
                continue
            file = os.open(directory / "lock", os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(directory, ignore_errors=True)
            finally:
                os.close(file)
