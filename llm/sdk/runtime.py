"""The one service of this process: made at the first call, made anew after a fork, closed when the interpreter ends."""

import atexit
import os
import threading
from typing import TYPE_CHECKING, Final

from llm.sdk.settings import current

if TYPE_CHECKING:
    from llm.sdk.service import Service

#: What calls in flight get to be booked when the process ends.
_EXIT_S: Final = 5.0


class _Process:
    """What belongs to this process and no other."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.service: Service | None = None
        self.is_watched = False


_process = _Process()
#: Services of the parent, kept so that nothing of them is ever closed here: their sockets are the parent's.
_inherited: list[_Process] = []


def service() -> "Service":
    """Return the service for the book in force, a new one where another book was configured since."""
    from llm.sdk.service import Service  # noqa: PLC0415 - loads the engine, at the first call

    ledger_url = current().ledger_url
    with _process.lock:
        former = _process.service
        if former is not None and former.ledger_url == ledger_url:
            return former
        made = _process.service = Service(ledger_url)
        if not _process.is_watched:
            _process.is_watched = True
            atexit.register(close)
    if former is not None:
        former.close(_EXIT_S)
    return made


def close(timeout_s: float = _EXIT_S) -> None:
    """End the calls in flight as cancelled, within `timeout_s`, book them, and close book and connections.

    Runs by itself when the interpreter ends. A later call opens everything anew.
    """
    with _process.lock:
        former, _process.service = _process.service, None
    if former is not None:
        former.close(timeout_s)


def _begin_anew() -> None:
    """After a fork: neither the thread nor the connections are this process's."""
    global _process  # noqa: PLW0603 - one state a process
    _inherited.append(_process)
    is_watched = _process.is_watched
    _process = _Process()
    _process.is_watched = is_watched


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin_anew)
