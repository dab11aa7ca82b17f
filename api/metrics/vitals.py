"""What a process measures of itself: its gauges, and the counts that the ledger keeps, published into its cells.

Twice a second, and whenever somebody asks this very process. The hot route's counts are `meter.py`'s.
"""

import asyncio
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from api.book import Book
from api.metrics.cells import Cells
from api.metrics.layout import COUNTERS, GAUGES, Histogram
from llm.engine import Engine

_EVERY_S: Final = 0.5
_STATM: Final = Path("/proc/self/statm")
_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")


class Vitals:
    """Publishes for one process, from its book and its engine."""

    def __init__(self, cells: Cells, book: Book, engine: Engine) -> None:
        self._cells = cells
        self._book = book
        self._engine = engine
        layout = cells.layout
        self._places = [
            *range(layout.counters_at, layout.counters_at + len(COUNTERS)),
            *_places(layout.flush_time),
            *_places(layout.flush_events),
        ]
        #: What former workers in this place had counted: the ledger's counts begin at nothing with this process.
        self._before = [cells.values[place] for place in self._places]

    async def run(self) -> None:
        """Publish for ever."""
        while True:
            self.publish()
            await asyncio.sleep(_EVERY_S)

    def publish(self) -> None:
        """Publish now."""
        values = self._cells.values
        for at, value in enumerate(self._gauges(), self._cells.layout.gauges_at):
            values[at] = value
        for place, before, count in zip(self._places, self._before, self._counts(), strict=True):
            values[place] = before + count
        self._cells.note_alive()

    def _gauges(self) -> tuple[int, ...]:
        """The values of GAUGES, in their order."""
        journals = self._book.journals
        gauges = {
            "calls_in_flight": self._engine.in_flight,
            "open_calls": journals.open_calls,
            "buffer_bytes": journals.pending_bytes,
            "queued_events": journals.queued_events,
            "journals": journals.count,
            "stalled": int(journals.is_stalled),
            "loops_failing": len(self._book.loops.failing()),
            "unreadable_prices": self._book.unreadable_prices,
            "resident_bytes": resident_bytes(),
        }
        return tuple(gauges[name] for name in GAUGES)

    def _counts(self) -> Iterable[int]:
        """The values of COUNTERS, in their order, and those of the histograms of flushes."""
        tally, watch = self._book.journals.tally, self._book.watch
        counts = {
            "flushed_events": tally.events,
            "flushed_bytes": tally.bytes,
            "journals_fenced": tally.fenced,
            "reconnects": tally.reconnects,
            "takeovers": watch.takeovers,
            "abandoned_calls": watch.abandoned_calls,
            "cost_corrections": self._book.corrections,
            "loop_faults": self._book.loops.faults,
        }
        yield from (counts[name] for name in COUNTERS)
        yield from (*tally.flush_us, tally.duration_us)
        yield from (*tally.flush_events, tally.events)


def _places(histogram: Histogram) -> range:
    return range(histogram.at, histogram.end)


def resident_bytes() -> int:
    """Return this process's resident memory; 0 where the system does not tell it as Linux does."""
    try:
        return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
    except OSError:
        return 0
