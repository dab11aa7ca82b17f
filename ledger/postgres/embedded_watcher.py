"""The process that stands behind an embedded server: parent of the postmaster, one a data directory.

It starts the postmaster, starts it again on the same port when it dies while a proxy lives, and stops it when no proxy
has held the users' lock for `linger_s`, or at once on SIGTERM when nobody holds it. It outlives the proxy that started
it, so a `kill -9` of the proxy leaves the server to the next one. Standard library only: it runs without site-packages.
Neighbours: `embedded.py` starts it, `embedded_process.py` knows postmasters.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

from ledger.postgres import embedded_process as process
from ledger.postgres.embedded_layout import Layout
from ledger.postgres.embedded_locks import FileLock

ALREADY_WATCHED = 3
START_FAILED = 4
LOG_BYTES_MAX = 8 * 1024 * 1024
LOG_CHECK_S = 60.0
TICK_STARTING_S = 0.02
TICK_CHILD_S = 1.0
TICK_ADOPTED_S = 0.25  # no SIGCHLD tells of the death of a postmaster that another watcher started
FIRST_LAUNCHES = 3  # more than one: a postmaster killed right after it got ready may not have been seen so
RELAUNCH_PAUSES_S = (0.0, 0.2, 0.5, 1.0, 2.0, 5.0)  # the last one repeats for as long as a proxy lives


class Watcher:
    """One data directory's postmaster and the rules by which it lives."""

    def __init__(self, plan: process.Plan, log_fd: int) -> None:
        self._plan = plan
        self._layout = Layout(Path(plan.home))
        self._cluster = Path(plan.cluster)
        self._log_fd = log_fd
        self._state = FileLock(self._layout.state_lock)
        self._users = FileLock(self._layout.users_lock)
        self._child: subprocess.Popen[bytes] | None = None
        self._pid = 0
        self._was_ready = False
        self._ready = False
        self._launches = 0
        self._last_used = time.monotonic()
        self._last_log_check = time.monotonic()
        self._wake_r, wake_w = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        signal.set_wakeup_fd(wake_w, warn_on_full_buffer=False)
        self._asked_to_stop = False
        signal.signal(signal.SIGTERM, self._on_sigterm)
        signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
        # A terminal's Ctrl-C and hang-up are meant for the proxy, which says by its lock when it is done.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGHUP, signal.SIG_IGN)

    def run(self) -> int:
        """Watch until nobody needs the server; returns the exit status of the process."""
        self._adopt_or_launch()
        while True:
            self._sleep()
            if self._nobody_needs_it():
                # The users' lock stays held until this process has ended: a starter waits for it.
                process.stop(self._pid, self._cluster, self._child)
                return 0
            if not self._is_running() and not self._start_again():
                return START_FAILED
            self._note_readiness()
            self._bound_log()

    def _adopt_or_launch(self) -> None:
        running = process.read_postmaster(self._cluster)
        if running is not None:
            self._child, self._pid = None, running.pid
            return
        process.clear_leftovers(self._cluster)
        process.clear_stale_pid_file(self._cluster)
        self._child = process.launch(self._plan, self._log_fd)
        self._pid = self._child.pid
        self._launches += 1

    def _start_again(self) -> bool:
        """Answer a postmaster's death; False when none has ever got ready in three launches or the cluster is gone."""
        if not (self._cluster / "PG_VERSION").exists():
            return False
        if not self._was_ready and self._launches >= FIRST_LAUNCHES:
            return False
        pause_s = RELAUNCH_PAUSES_S[min(self._launches, len(RELAUNCH_PAUSES_S) - 1)]
        self._say(f"the postmaster {self._pid} has ended; starting another in {pause_s} s")
        self._ready = False
        if pause_s and self._wait_for_wake(pause_s) and self._asked_to_stop:
            return True  # the loop looks at the users' lock first and comes back here
        self._adopt_or_launch()
        return True

    def _note_readiness(self) -> None:
        if self._ready:
            return
        running = process.read_postmaster(self._cluster)
        if running is not None and running.status == "ready":
            self._ready = self._was_ready = True
            self._launches = 0

    def _is_running(self) -> bool:
        if self._child is not None:
            return self._child.poll() is None
        return process.is_alive(self._pid, self._cluster)

    def _nobody_needs_it(self) -> bool:
        """Take the users' lock for good when the server is to end; otherwise leave it as it was."""
        if self._asked_to_stop:
            self._asked_to_stop = False
            # Who sends SIGTERM may hold the state lock and wait for us, so it is not asked for here. If a proxy still
            # lives (a service manager signals every process of a group at once), the server has to stay.
            return self._users.try_exclusive()
        if not self._state.try_exclusive():
            return False  # somebody is starting or releasing; look again at the next tick
        try:
            if not self._users.try_exclusive():
                self._last_used = time.monotonic()
                return False
            if time.monotonic() - self._last_used >= self._plan.linger_s:
                return True
            self._users.unlock()
            return False
        finally:
            self._state.unlock()

    def _sleep(self) -> None:
        if not self._ready:
            self._wait_for_wake(TICK_STARTING_S)
        else:
            self._wait_for_wake(TICK_CHILD_S if self._child is not None else TICK_ADOPTED_S)

    def _wait_for_wake(self, timeout_s: float) -> bool:
        woken = bool(select.select([self._wake_r], [], [], timeout_s)[0])
        if woken:
            with contextlib.suppress(BlockingIOError):
                os.read(self._wake_r, 4096)
        return woken

    def _on_sigterm(self, _number: int, _frame: object) -> None:
        self._asked_to_stop = True

    def _bound_log(self) -> None:
        """Keep the server log under 8 MiB: its second half moves to `server.log.1`, then it is emptied in place."""
        if time.monotonic() - self._last_log_check < LOG_CHECK_S:
            return
        self._last_log_check = time.monotonic()
        bound_log(self._layout.log)

    def _say(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime())
        os.write(self._log_fd, f"{stamp} [{os.getpid()}] WATCHER:  {text}\n".encode())


def bound_log(log: Path, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Empty a log above `bytes_max` in place, its last half kept beside it; writers append, so none has to reopen."""
    with contextlib.suppress(OSError), log.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if size <= bytes_max:
            return
        file.seek(size - bytes_max // 2)
        log.with_name(log.name + ".1").write_bytes(file.read(bytes_max))
        file.truncate(0)


def main(plan_json: str) -> int:
    """Take the watcher's lock, go into the background, watch; the caller learns by the exit status whether it holds."""
    plan = process.Plan.from_json(plan_json)
    layout = Layout(Path(plan.home))
    lock = FileLock(layout.watcher_lock)
    if not lock.try_exclusive():
        return ALREADY_WATCHED
    # The lock belongs to the open file, which the child shares: it is held without a gap when the parent goes.
    child = os.fork()
    if child:
        layout.watcher_pid.write_text(f"{child}\n")
        return 0
    os.setsid()
    os.chdir("/")
    log_fd = os.open(layout.log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    null_fd = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    for source, target in ((null_fd, 0), (log_fd, 1), (log_fd, 2)):
        os.dup2(source, target)
    return Watcher(plan, log_fd).run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
