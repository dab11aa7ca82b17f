"""One call between the engine, which fills it, and the caller, who takes from it in another thread.

It is the engine's `Client`. Everything here runs in the loop of `background.py`, so nothing needs a lock: the caller's
side (`transport.py`) has `begun`, `take` and `leave` run there.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from llm.client import Head
from llm.sdk.errors import SdkError

#: What the caller has not taken yet; beyond it the upstream is held back.
_AHEAD_BYTES_MAX: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Cost:
    """What a call costs: `usd` None where it is not known, `state` billed, estimated or unknown."""

    usd: Decimal | None
    state: str


class Exchange:
    """The caller's end of one call. Implements `llm.client.Client`."""

    def __init__(self, post: Callable[[Callable[[], object]], None]) -> None:
        """`post` has something done in the loop of the SDK's thread."""
        self.is_gone = False
        self.has_begun = False
        self.on_gone: Callable[[], None] = _nothing
        self.call_id = ""
        self.head: Head | None = None
        #: Whether the whole answer came at once; then `body` holds it.
        self.body: bytes | None = None
        #: Known when the call has ended; None before, and where nobody could say.
        self.cost: Callable[[], Cost | None] = lambda: None
        self._begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._pieces: deque[bytes] = deque()
        self._bytes = 0
        self._is_done = False
        self._failure: Exception | None = None
        self._changed = asyncio.Event()
        self._post = post

    # What the engine does

    async def answer(self, head: Head, body: bytes) -> None:
        """Take a whole answer."""
        if self.is_gone or self.has_begun:
            return
        self.body = body
        self._is_done = True
        self._begin(head)

    async def start(self, head: Head) -> None:
        """Take the head of a stream."""
        if not self.is_gone:
            self._begin(head)

    def _begin(self, head: Head) -> None:
        self.has_begun = True
        self.head = head
        if not self._begun.done():
            self._begun.set_result(None)

    async def send(self, piece: bytes) -> None:
        """Take a piece of a stream; waits while the caller is far behind."""
        if self.is_gone or self._is_done:
            return
        self._pieces.append(piece)
        self._bytes += len(piece)
        self._changed.set()
        while self._bytes > _AHEAD_BYTES_MAX and not self.is_gone:
            self._changed.clear()
            await self._changed.wait()

    async def end(self) -> None:
        """Take the end of the stream."""
        self._is_done = True
        self._changed.set()

    def fail(self, error: Exception) -> None:
        """Have the caller get an error instead of an answer, or of the rest of one."""
        self._failure = error
        self._is_done = True
        if not self._begun.done():
            self._begun.set_exception(error)
            self._begun.exception()  # seen: whoever waits for it may have left
        self._changed.set()

    # What the caller does

    async def begun(self) -> None:
        """Wait for the head of the answer.

        Raises:
            Exception: what `fail` was given.
        """
        await asyncio.shield(self._begun)

    async def take(self) -> bytes:
        """Return what has come of a stream since, at least a byte; b"" at its end.

        Raises:
            Exception: what `fail` was given.
        """
        while not self._pieces and not self._is_done:
            self._changed.clear()
            await self._changed.wait()
        if not self._pieces:
            if self._failure is not None:
                raise self._failure
            return b""
        taken = b"".join(self._pieces)
        self._pieces.clear()
        self._bytes = 0
        self._changed.set()
        return taken

    def leave(self) -> None:
        """Note that the caller wants nothing more; the engine books it if the call has not ended by then."""
        if self.is_gone:
            return
        self.is_gone = True
        if not self._is_done:
            self.fail(SdkError("the call was closed before its end"))
        self._pieces.clear()
        self._bytes = 0
        self._changed.set()
        self.on_gone()

    def let_go(self) -> None:
        """Leave soon; this alone may be called in any thread."""
        self._post(self.leave)


def _nothing() -> None:
    """What happens when somebody leaves before the engine has taken the call."""
