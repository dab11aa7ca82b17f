"""Counts calls, charges and refusals as they end: some twenty additions a call, and nothing that waits.

Implements `llm.outcome.Observer`. What is measured at moments rather than counted is `vitals.py`'s.
"""

from bisect import bisect_left
from decimal import Decimal
from typing import Final

from api.metrics.cells import CELL_MAX, Cells
from api.metrics.layout import (
    AT_BILLED,
    AT_DURATIONS,
    AT_ESTIMATED,
    AT_TOKENS,
    AT_UNKNOWN,
    BOUNDS_US,
    DURATION_CELLS,
    DURATIONS,
    NONE,
    OTHER,
    REFUSALS,
    STATUSES,
    STREAMS,
    TERMINALS,
)
from ledger.money.cost import Charge
from llm.outcome import Outcome

#: Money is counted in units of 1e-12 USD, the finest that the book holds: sums of integers are exact.
USD_DIGITS: Final = 12
_TERMINAL_AT: Final = {name: i * len(STATUSES) * len(STREAMS) for i, name in enumerate(TERMINALS)}
_REFUSAL_AT: Final = {int(name): i for i, name in enumerate(REFUSALS) if name.isdigit()}
_STREAM_CELLS: Final = len(DURATIONS) * DURATION_CELLS
_SUM: Final = DURATION_CELLS - 1


class Meter:
    """Counts into a worker's cells."""

    def __init__(self, cells: Cells) -> None:
        self._values = cells.values
        self._layout = cells.layout
        self._bases = {**cells.layout.bases, "": cells.layout.bases[NONE]}
        self._other = cells.layout.bases[OTHER]

    def charged(self, model: str, charge: Charge) -> None:
        """Count an attempt's charge and its tokens."""
        values = self._values
        base = self._bases.get(model, self._other)
        usage = charge.usage
        if usage is not None:
            at = base + AT_TOKENS
            values[at] += usage.input_tokens
            values[at + 1] += usage.cached_tokens
            values[at + 2] += usage.cache_write_tokens
            values[at + 3] += usage.output_tokens
            values[at + 4] += usage.reasoning_tokens
        if charge.billed_usd:
            _add_money(values, base + AT_BILLED, charge.billed_usd)
        if charge.estimated_usd:
            _add_money(values, base + AT_ESTIMATED, charge.estimated_usd)
        values[base + AT_UNKNOWN] += charge.unknown

    def ended(self, outcome: Outcome) -> None:
        """Count a call and its times."""
        values = self._values
        base = self._bases.get(outcome.model, self._other)
        stream = int(outcome.is_stream)
        status = 0 if outcome.status is None else outcome.status // 100
        values[base + _TERMINAL_AT[outcome.terminal] + status * 2 + stream] += 1
        if not outcome.attempts:
            return
        at = base + AT_DURATIONS + stream * _STREAM_CELLS
        duration_us, upstream_us = outcome.duration_us, outcome.upstream_us
        # In the order of DURATIONS.
        _observe(values, at, duration_us)
        _observe(values, at + DURATION_CELLS, max(0, duration_us - upstream_us))
        _observe(values, at + 2 * DURATION_CELLS, upstream_us)
        if outcome.first_chunk_us is not None:
            _observe(values, at + 3 * DURATION_CELLS, outcome.first_chunk_us)

    def refused(self, status: int) -> None:
        """Count a request that was refused before it became a call."""
        self._values[self._layout.refusals_at + _REFUSAL_AT.get(status, len(REFUSALS) - 1)] += 1

    def administered(self, status: int) -> None:
        """Count a request that was no call, by the status of its answer."""
        self._values[self._layout.admin_at + min(status // 100, len(STATUSES) - 1)] += 1


def _observe(values: memoryview, at: int, us: int) -> None:
    values[at + bisect_left(BOUNDS_US, us)] += 1
    values[at + _SUM] += us


def _add_money(values: memoryview, at: int, usd: Decimal) -> None:
    values[at] = (values[at] + int(usd.scaleb(USD_DIGITS))) % CELL_MAX
