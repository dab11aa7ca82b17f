"""Background loops: a fault that nobody foresaw is said, the loop begins again, and it is known which one fails."""

import asyncio
import logging
from collections.abc import Iterator
from contextlib import suppress

import pytest

from ledger.loops import Loops


class Scene:
    """A loop whose runs end as `endings` says, by an exception or after that many seconds; time goes by in waits."""

    def __init__(self, *endings: Exception | float) -> None:
        self.now_s = 0.0
        self.paused_s: list[float] = []
        self.failing_in_runs: list[list[str]] = []
        self.failing_in_pauses: list[list[str]] = []
        self._endings: Iterator[Exception | float] = iter(endings)
        self.loops = Loops(sleep=self._sleep, clock=lambda: self.now_s)

    async def _sleep(self, seconds: float) -> None:
        self.failing_in_pauses.append(self.loops.failing())
        self.paused_s.append(seconds)
        self.now_s += seconds

    async def _run(self) -> None:
        for ending in self._endings:
            if isinstance(ending, Exception):
                self.failing_in_runs.append(self.loops.failing())
                raise ending
            self.now_s += ending
            self.failing_in_runs.append(self.loops.failing())
        await asyncio.get_running_loop().create_future()

    async def play(self) -> asyncio.Task[None]:
        """Run until the endings are used up; return the task, which then waits."""
        task = self.loops.start("rollups", self._run)
        for _ in range(100):
            await asyncio.sleep(0)
        assert not task.done()
        return task


async def test_loop_after_a_fault_runs_anew_the_later_the_more_often_it_failed() -> None:
    scene = Scene(*[RuntimeError("odd")] * 9)
    task = await scene.play()
    assert scene.paused_s == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert scene.loops.faults == 9
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task
    assert task.cancelled()


async def test_loop_is_failing_from_its_fault_until_it_has_run_for_a_minute() -> None:
    scene = Scene(5.0, RuntimeError("odd"), 59.0, 2.0, RuntimeError("again"))
    await scene.play()
    # Sound at first, and again once a minute is over: then a fault begins with a short pause.
    assert scene.failing_in_runs == [[], [], ["rollups"], [], []]
    assert scene.failing_in_pauses == [["rollups"], ["rollups"]]
    assert scene.paused_s == [1, 1]


async def test_fault_that_goes_on_has_its_trace_in_the_log_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.ERROR)
    await Scene(*[RuntimeError("odd")] * 3, KeyError("other")).play()
    said = [(record.exc_info is not None, "rollups" in record.getMessage()) for record in caplog.records]
    assert said == [(True, True), (False, True), (False, True), (True, True)]
    assert "RuntimeError: odd" in caplog.records[1].getMessage()
