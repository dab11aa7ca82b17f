"""What a process's journals have done so far, as plain integers that whoever likes may read; the writers count.

They only grow, over all journals of the process. What is the case at this moment is asked of `Journals` itself.
"""

from bisect import bisect_left
from dataclasses import dataclass, field
from typing import Final

#: Upper bounds of a flush's duration, in microseconds.
FLUSH_BOUNDS_US: Final = (
    500,
    1_000,
    2_500,
    5_000,
    10_000,
    25_000,
    50_000,
    100_000,
    250_000,
    500_000,
    1_000_000,
    5_000_000,
)
#: Upper bounds of the number of events in a flush.
FLUSH_BOUNDS_EVENTS: Final = (1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_000)


@dataclass(slots=True)
class Tally:
    """Counts of flushes that were acknowledged, and of what went wrong.

    `flush_us` and `flush_events` hold the number of flushes at or below each bound and above the one before; the last
    is of those above all bounds. `fenced` counts journals that were taken over or lost their tail.
    """

    flushes: int = 0
    events: int = 0
    bytes: int = 0
    duration_us: int = 0
    fenced: int = 0
    reconnects: int = 0
    flush_us: list[int] = field(default_factory=lambda: [0] * (len(FLUSH_BOUNDS_US) + 1))
    flush_events: list[int] = field(default_factory=lambda: [0] * (len(FLUSH_BOUNDS_EVENTS) + 1))

    def flushed(self, events: int, size: int, duration_us: int) -> None:
        """Count a flush of so many events and bytes."""
        self.flushes += 1
        self.events += events
        self.bytes += size
        self.duration_us += duration_us
        self.flush_us[bisect_left(FLUSH_BOUNDS_US, duration_us)] += 1
        self.flush_events[bisect_left(FLUSH_BOUNDS_EVENTS, events)] += 1
