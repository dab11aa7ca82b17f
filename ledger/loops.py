"""The background loops of a process: whatever goes wrong in one, it is said and the loop begins again.

A loop foresees a lost database by itself. What nobody foresaw must not end it for good either, unseen, while the
process goes on to serve: this is the edge where such a fault is met. Metrics and readiness ask here which loops fail.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final

logger = logging.getLogger(__name__)

_PAUSE_FIRST_S: Final = 1.0
_PAUSE_MAX_S: Final = 60.0
#: A loop that has run for this long since its last fault is sound again.
_SOUND_S: Final = 60.0


@dataclass(slots=True)
class _State:
    """How a loop fares; monotonic seconds. `said`: the fault whose trace is in the log already."""

    pause_s: float = _PAUSE_FIRST_S
    begun_s: float | None = None
    said: str = ""
    has_faulted: bool = False

    def is_failing(self, now_s: float) -> bool:
        return self.has_faulted and (self.begun_s is None or now_s - self.begun_s < _SOUND_S)


class Loops:
    """Starts loops and keeps them running; whoever started one cancels its task."""

    def __init__(
        self,
        *,
        sleep: Callable[[float], Coroutine[Any, Any, object]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sleep = sleep
        self._clock = clock
        self._states: dict[str, _State] = {}
        #: Faults that nobody foresaw, of all loops so far.
        self.faults = 0

    def start(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> asyncio.Task[None]:
        """Run `run()` in a task until it is cancelled; after a fault run it anew, the later the more often it failed.

        `name` is what the log, metrics and readiness call the loop.
        """
        return asyncio.create_task(self._keep(name, run), name=name)

    def failing(self) -> list[str]:
        """Return the loops that wait to be run anew after a fault, or have run for less than `_SOUND_S` since."""
        now_s = self._clock()
        return sorted(name for name, state in self._states.items() if state.is_failing(now_s))

    async def _keep(self, name: str, run: Callable[[], Coroutine[Any, Any, None]]) -> None:
        state = self._states[name] = _State()
        while True:
            state.begun_s = self._clock()
            try:
                await run()
            except Exception as error:  # noqa: BLE001 - the loops' edge: _note says it, with its trace
                self._note(name, state, error)
            else:
                return
            await self._sleep(state.pause_s)
            state.pause_s = min(state.pause_s * 2, _PAUSE_MAX_S)

    def _note(self, name: str, state: _State, error: Exception) -> None:
        """Say what happened: with its trace the first time, in a line while the same goes on."""
        if not state.is_failing(self._clock()):
            state.pause_s, state.said = _PAUSE_FIRST_S, ""
        self.faults += 1
        state.has_faulted, state.begun_s = True, None
        fault = f"{type(error).__name__}: {error}"
        if fault == state.said:
            logger.error("%s failed again, next try in %.0f s: %.500s", name, state.pause_s, fault)
            return
        state.said = fault
        logger.error("%s failed in a way that nobody foresaw, next try in %.0f s", name, state.pause_s, exc_info=error)
