"""The SDK's thread: one event loop on which all calls of the process are served, whatever thread or loop makes them.

So there is one pool of connections and one journal, a call outlives the loop that asked for it until it is booked, and
synchronous callers need no loop. What runs there is `service.py`.
"""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final, ParamSpec, TypeVar

_T = TypeVar("_T")
_P = ParamSpec("_P")
_WORKERS: Final = 4


class Background:
    """A daemon thread with a running event loop; it does not keep the interpreter from ending."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._loop.set_default_executor(_Workers(_WORKERS, thread_name_prefix="llm-sdk"))
        self._thread = threading.Thread(target=self._run, name="llm-sdk", daemon=True)
        self._thread.start()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            self._loop.close()

    def submit(self, work: Coroutine[Any, Any, _T]) -> "Future[_T]":
        """Run a coroutine there; cancelling what is returned cancels it.

        Raises:
            RuntimeError: the thread has been stopped.
        """
        try:
            return asyncio.run_coroutine_threadsafe(work, self._loop)
        except RuntimeError:
            work.close()
            raise

    def post(self, action: Callable[[], object]) -> None:
        """Have something done there soon; nothing happens once the thread has been stopped."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(action)

    def stop(self, timeout_s: float) -> None:
        """End the loop and the thread."""
        self.post(self._loop.stop)
        self._thread.join(timeout_s)


class _Workers(ThreadPoolExecutor):
    """Threads for what blocks. When the interpreter ends there are none any more: then it is done at once, in line."""

    def submit(self, fn: Callable[_P, _T], /, *args: _P.args, **kwargs: _P.kwargs) -> "Future[_T]":
        try:
            return super().submit(fn, *args, **kwargs)
        except RuntimeError:
            done: Future[_T] = Future()
            try:
                done.set_result(fn(*args, **kwargs))
            except Exception as error:  # noqa: BLE001 - handed on to whoever waits for it, as an executor does
                done.set_exception(error)
            return done
