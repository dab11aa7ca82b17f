"""The text that Prometheus reads, from the cells of all workers: counters summed, gauges by worker.

Pure but for the readings that are handed in. Names and meanings are a public interface: docs/OPERATING.md lists them.
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate, product
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.registry import Collector

from api.metrics.cells import Reading
from api.metrics.layout import (
    AT_BILLED,
    AT_ESTIMATED,
    AT_TOKENS,
    AT_UNKNOWN,
    CALLS_PER_MODEL,
    COUNTERS,
    DURATIONS,
    GAUGES,
    REFUSALS,
    STATUSES,
    STREAMS,
    TERMINALS,
    TOKENS,
    Histogram,
    Layout,
)
from api.metrics.meter import USD_DIGITS
from api.version import VERSION
from ledger.projections.lag import Lag

CONTENT_TYPE: Final = CONTENT_TYPE_PLAIN_0_0_4
_PREFIX: Final = "responses_ledger_"
_US_PER_S: Final = 1_000_000
_TERMINAL_LABELS: Final = tuple(name.removeprefix("call.") for name in TERMINALS)
_DURATION_HELP: Final = {
    "call": ("call_duration_seconds", "From a request's arrival until its end was durable and its answer was sent."),
    "added": ("added_latency_seconds", "What the proxy added: a call's duration without its upstreams' time."),
    "upstream": ("upstream_seconds", "From sending to an upstream until its answer was read, over a call's attempts."),
    "first_chunk": ("first_chunk_seconds", "From a request's arrival until the first piece of its answer was there."),
}
_GAUGE_HELP: Final = {
    "calls_in_flight": "Calls that are being served.",
    "open_calls": "Calls that have begun in the book and have not ended.",
    "buffer_bytes": "Bytes appended to journals and not yet durable.",
    "queued_events": "Events appended to journals and not yet durable.",
    "journals": "Journals that are being written.",
    "stalled": "1 while nothing becomes durable: the database is away, or a flush hangs.",
    "loops_failing": "Background loops that failed in a way nobody foresaw, and are tried again or were so lately.",
    "unreadable_prices": "Prices of the book that this version cannot read; meanwhile all stay as they were.",
    "resident_bytes": "Resident memory of the process; 0 where the system does not tell.",
}
_COUNTER_HELP: Final = {
    "flushed_events": "Events that became durable.",
    "flushed_bytes": "Bytes that became durable.",
    "journals_fenced": "Journals that were taken over from a living worker, or whose tail the database lost.",
    "reconnects": "Connections of journals that were lost and made again.",
    "takeovers": "Journals of dead writers that were taken over.",
    "abandoned_calls": "Calls of dead writers that were closed as abandoned; not in calls_total.",
    "cost_corrections": "Corrections of costs: of guesses, and of unknown costs that a read settled.",
    "loop_faults": "Faults of background loops that nobody foresaw; each is in the log, and the loop was run anew.",
}


def exposition(layout: Layout, readings: Sequence[Reading], lags: Sequence[Lag] | None) -> bytes:
    """Return the text; `lags` None: the database did not tell."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Given([*_calls(layout, readings), *_process(layout, readings), *_projections(lags)]))
    return generate_latest(registry)


class _Given(Collector):
    def __init__(self, families: list[Metric]) -> None:
        self._families = families

    def collect(self) -> Iterable[Metric]:
        """Give what was made."""
        return self._families

    def describe(self) -> Iterable[Metric]:
        """Nothing is described beforehand."""
        return []


def _calls(layout: Layout, readings: Sequence[Reading]) -> Iterator[Metric]:
    """What is counted by model, over all workers, those that are gone included."""
    # Integers are summed; the float that Prometheus's format asks for is made at the very end.
    sums = [sum(cells) for cells in zip(*(reading.values for reading in readings), strict=True)]
    calls = _counter("calls", "Calls by how they ended in the book.", "model", "status", "terminal", "stream")
    tokens = _counter("tokens", "Tokens that upstreams counted; cached and reasoning ones are parts.", "model", "kind")
    spend = _counter("spend_usd", "Cost in USD: billed, or estimated where an answer broke off.", "model", "state")
    unknown = _counter("unknown_costs", "Attempts of which something could not be priced.", "model")
    durations = [
        HistogramMetricFamily(_PREFIX + name, text, labels=["model", "stream"])
        for name, text in (_DURATION_HELP[which] for which in DURATIONS)
    ]
    for model in layout.models:
        base = layout.bases[model]
        for at, (terminal, status, stream) in enumerate(product(_TERMINAL_LABELS, STATUSES, STREAMS), base):
            if sums[at]:
                calls.add_metric([model, status, terminal, stream], sums[at])
        if model not in layout.configured and not any(sums[base : base + CALLS_PER_MODEL]):
            continue
        for kind, count in zip(TOKENS, sums[base + AT_TOKENS :], strict=False):
            tokens.add_metric([model, kind], count)
        for state, at in (("billed", AT_BILLED), ("estimated", AT_ESTIMATED)):
            spend.add_metric([model, state], sums[base + at] / 10**USD_DIGITS)
        unknown.add_metric([model], sums[base + AT_UNKNOWN])
        for (which, family), (stream, label) in product(enumerate(durations), enumerate(STREAMS)):
            _add(family, [model, label], layout.duration(base, stream=stream, which=which), sums, _US_PER_S)
    yield from (calls, tokens, spend, unknown, *durations)


def _process(layout: Layout, readings: Sequence[Reading]) -> Iterator[Metric]:
    """What belongs to the processes rather than to calls."""
    sums = [sum(cells) for cells in zip(*(reading.values[: layout.models_at] for reading in readings), strict=True)]
    info = GaugeMetricFamily(_PREFIX + "build_info", "The version that runs; always 1.", labels=["version"])
    info.add_metric([VERSION], 1)
    yield info
    yield GaugeMetricFamily(_PREFIX + "workers", "Workers that live.", value=sum(one.is_alive for one in readings))
    for at, name in enumerate(GAUGES, layout.gauges_at):
        gauge = GaugeMetricFamily(_PREFIX + name, _GAUGE_HELP[name], labels=["worker"])
        for reading in readings:
            if reading.is_alive:
                gauge.add_metric([str(reading.worker)], reading.values[at])
        yield gauge
    for at, name in enumerate(COUNTERS, layout.counters_at):
        yield CounterMetricFamily(_PREFIX + name, _COUNTER_HELP[name], value=sums[at])
    refused = _counter("refused_requests", "Requests refused before they became calls; not in the book.", "status")
    for at, status in enumerate(REFUSALS, layout.refusals_at):
        refused.add_metric([status], sums[at])
    yield refused
    admin = _counter("admin_requests", "Requests that were no calls, by the status of their answers.", "status")
    for at, status in enumerate(STATUSES[2:], layout.admin_at + 2):
        admin.add_metric([status], sums[at])
    yield admin
    for name, text, histogram, unit in (
        (
            "flush_seconds",
            "Duration of a flush: from sending it to Postgres's acknowledgement.",
            layout.flush_time,
            _US_PER_S,
        ),
        ("flush_events", "Events in a flush.", layout.flush_events, 1),
    ):
        family = HistogramMetricFamily(_PREFIX + name, text, labels=[])
        _add(family, [], histogram, sums, unit, always=True)
        yield family


def _projections(lags: Sequence[Lag] | None) -> Iterator[Metric]:
    """What the database tells of the projections: the same whoever is asked."""
    yield GaugeMetricFamily(_PREFIX + "database_up", "1 if the database told the lag in time.", value=lags is not None)
    behind = GaugeMetricFamily(
        _PREFIX + "projection_lag_seconds", "Age of the oldest event not yet folded.", labels=["projection"]
    )
    events = GaugeMetricFamily(_PREFIX + "projection_lag_events", "Events not yet folded.", labels=["projection"])
    stopped = GaugeMetricFamily(
        _PREFIX + "projection_stopped_journals", "Journals in which it stands still.", labels=["projection"]
    )
    for lag in lags or ():
        behind.add_metric([lag.projection], lag.age_s)
        events.add_metric([lag.projection], lag.events_behind)
        stopped.add_metric([lag.projection], lag.stopped)
    yield from (behind, events, stopped)


def _counter(name: str, text: str, *labels: str) -> CounterMetricFamily:
    return CounterMetricFamily(_PREFIX + name, text, labels=labels)


def _add(
    family: HistogramMetricFamily, labels: list[str], at: Histogram, sums: list[int], unit: int, *, always: bool = False
) -> None:
    """Add a histogram, unless nothing was observed; `unit`: what its numbers are divided by."""
    counts = sums[at.at : at.sum_at]
    if not always and not any(counts):
        return
    names = [*(f"{bound / unit:g}" for bound in at.bounds), "+Inf"]
    family.add_metric(labels, list(zip(names, accumulate(counts), strict=True)), sums[at.sum_at] / unit)
