"""Which cell counts what: a fixed plan of 64-bit integers, the same in each worker, made from the config's model names.

Pure. The plan is fixed so that counting is an addition at a known place, and so that the number of series is bounded
by the config and by nothing that a client sends. `cells.py` owns the memory.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from ledger.events import (
    CALL_ABANDONED,
    CALL_CANCELLED,
    CALL_COMPLETED,
    CALL_FAILED,
    CALL_INCOMPLETE,
    CALL_REJECTED,
    CALL_TRUNCATED,
)
from ledger.journal.tally import FLUSH_BOUNDS_EVENTS, FLUSH_BOUNDS_US

#: Models beyond these share the label `other` with every model that the config does not know.
MODELS_MAX: Final = 100
OTHER: Final = "other"
#: The label of calls that name no model, such as `GET /responses/{id}`.
NONE: Final = "none"

TERMINALS: Final = (
    CALL_COMPLETED,
    CALL_INCOMPLETE,
    CALL_FAILED,
    CALL_CANCELLED,
    CALL_TRUNCATED,
    CALL_ABANDONED,
    CALL_REJECTED,
)
#: By `status // 100`; the first stands for calls that got no answer.
STATUSES: Final = ("none", "1xx", "2xx", "3xx", "4xx", "5xx")
STREAMS: Final = ("false", "true")
#: Statuses of requests that were refused before they became calls; the last stands for every other one.
REFUSALS: Final = ("400", "401", "403", "404", "405", "408", "413", "429", "500", "503", "other")
TOKENS: Final = ("input", "input_cached", "input_cache_write", "output", "output_reasoning")
#: Upper bounds of durations, in microseconds.
BOUNDS_US: Final = (
    500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000, 5_000_000,
    10_000_000, 30_000_000, 60_000_000, 120_000_000, 300_000_000, 600_000_000,
)  # fmt: skip
DURATIONS: Final = ("call", "added", "upstream", "first_chunk")

#: What a worker is at this moment; lost with it.
GAUGES: Final = (
    "calls_in_flight",
    "open_calls",
    "buffer_bytes",
    "queued_events",
    "journals",
    "stalled",
    "loops_failing",
    "unreadable_prices",
    "resident_bytes",
)
#: What a worker has counted; kept when it is replaced by another.
COUNTERS: Final = (
    "flushed_events",
    "flushed_bytes",
    "journals_fenced",
    "reconnects",
    "takeovers",
    "abandoned_calls",
    "cost_corrections",
    "loop_faults",
)


@dataclass(frozen=True, slots=True)
class Histogram:
    """Where a histogram lies: a cell for each bound, one for what exceeds them all, and one for the sum."""

    at: int
    bounds: tuple[int, ...]

    @property
    def sum_at(self) -> int:
        """The cell of the sum."""
        return self.at + len(self.bounds) + 1

    @property
    def end(self) -> int:
        """The first cell behind it."""
        return self.sum_at + 1


CALLS_PER_MODEL: Final = len(TERMINALS) * len(STATUSES) * len(STREAMS)
DURATION_CELLS: Final = len(BOUNDS_US) + 2
#: Offsets within the cells of a model.
AT_DURATIONS: Final = CALLS_PER_MODEL
AT_TOKENS: Final = AT_DURATIONS + len(STREAMS) * len(DURATIONS) * DURATION_CELLS
AT_BILLED: Final = AT_TOKENS + len(TOKENS)
AT_ESTIMATED: Final = AT_BILLED + 1
AT_UNKNOWN: Final = AT_ESTIMATED + 1
CELLS_PER_MODEL: Final = AT_UNKNOWN + 1


class Layout:
    """The plan for a config with these models."""

    def __init__(self, models: Iterable[str]) -> None:
        names = list(dict.fromkeys(models))[:MODELS_MAX]
        self.configured = frozenset(names)
        self.models: tuple[str, ...] = tuple(dict.fromkeys([*names, OTHER, NONE]))
        self.gauges_at = 0
        self.counters_at = self.gauges_at + len(GAUGES)
        self.refusals_at = self.counters_at + len(COUNTERS)
        self.admin_at = self.refusals_at + len(REFUSALS)
        self.flush_time = Histogram(self.admin_at + len(STATUSES), FLUSH_BOUNDS_US)
        self.flush_events = Histogram(self.flush_time.end, FLUSH_BOUNDS_EVENTS)
        self.models_at = self.flush_events.end
        self.bases = {name: self.models_at + i * CELLS_PER_MODEL for i, name in enumerate(self.models)}
        self.size = self.models_at + len(self.models) * CELLS_PER_MODEL
        #: Tells plans apart: cells that were counted by another plan mean something else.
        plan = repr((self.models, TERMINALS, STATUSES, REFUSALS, TOKENS, BOUNDS_US, DURATIONS, GAUGES, COUNTERS))
        self.fingerprint = int.from_bytes(sha256(f"{plan} {self.size}".encode()).digest()[:7], "big")

    def base(self, model: str) -> int:
        """Return where the cells of a model begin; of one that is not in the config, where those of `other` do."""
        return self.bases.get(model or NONE, self.bases[OTHER])

    def duration(self, base: int, *, stream: int, which: int) -> Histogram:
        """Return a histogram of a model: `which` is an index of DURATIONS, `stream` 0 or 1."""
        return Histogram(base + AT_DURATIONS + (stream * len(DURATIONS) + which) * DURATION_CELLS, BOUNDS_US)
