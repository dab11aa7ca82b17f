"""File locks between the processes that share one embedded server.

Locks are flock(2): the kernel drops them when a process dies, however it dies, which no file of process ids does.
A proxy lets go of a lock by closing its file and not by LOCK_UN, so that a forked worker that still has the file open
keeps it.
Neighbours: `embedded.py` says who takes which lock in which order.
"""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

from ledger.postgres.embedded_error import EmbeddedPostgresError

POLL_S = 0.02


class FileLock:
    """One open file, locked or not; closing it unlocks, once every process that shares it has closed it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def try_shared(self) -> bool:
        """Take the lock beside other shared holders, now or not at all."""
        return self._try(fcntl.LOCK_SH)

    def try_exclusive(self) -> bool:
        """Take the lock alone, now or not at all."""
        return self._try(fcntl.LOCK_EX)

    def wait_shared(self, timeout_s: float) -> None:
        """Take the lock beside others; EmbeddedPostgresError when a sole holder keeps it longer than `timeout_s`."""
        self._wait(fcntl.LOCK_SH, timeout_s)

    def wait_exclusive(self, timeout_s: float) -> None:
        """Take the lock alone; EmbeddedPostgresError when others keep it longer than `timeout_s`."""
        self._wait(fcntl.LOCK_EX, timeout_s)

    def unlock(self) -> None:
        """Let go of the lock for every process that shares the file, and keep the file."""
        fcntl.flock(self.fd, fcntl.LOCK_UN)

    def close(self) -> None:
        """Let go of the lock; safe to call twice."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _try(self, how: int) -> bool:
        try:
            fcntl.flock(self.fd, how | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _wait(self, how: int, timeout_s: float) -> None:
        # Polling and not a blocking flock: a blocking one has no time limit that works beside threads.
        deadline = time.monotonic() + timeout_s
        while not self._try(how):
            if time.monotonic() >= deadline:
                raise EmbeddedPostgresError(
                    f"another process has held {self.path} for more than {timeout_s:.0f} s; "
                    f"find it with `fuser {self.path}` and end it, or start again later"
                )
            time.sleep(POLL_S)


def is_held(path: Path) -> bool:
    """Tell whether some process holds the lock at `path` alone; a missing file is held by nobody."""
    if not path.exists():
        return False
    with FileLock(path) as probe:
        return not probe.try_shared()
