"""The HTTP figures: upstream alone, bare pass-through, and the proxy, in turns on one machine.

Throughput at 1 and 32 connections by `load`, added latency and time to the first chunk by `latency`, and the book's
rows against the answers by `book`. Nothing here decides what is good enough; `__main__` does.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field

from benchmarks import book
from benchmarks.latency import Timing, measure
from benchmarks.load import Load, put_load
from benchmarks.processes import Running
from benchmarks.proxy import Bench

BLOCKS = 100
KINDS = ("plain", "stream")
CONNECTIONS = (1, 32)
WARM_UP_S = 1.0


class RefusedError(Exception):
    """A target answered some calls with something else than 2xx, so that its rate means nothing."""


@dataclass
class HttpFigures:
    """By target: loads by (kind, connections), CPU milliseconds a call likewise, median timings by kind."""

    loads: dict[tuple[str, str, int], Load] = field(default_factory=dict[tuple[str, str, int], Load])
    cpu_ms: dict[tuple[str, str, int], float] = field(default_factory=dict[tuple[str, str, int], float])
    timings: dict[tuple[str, str], Timing] = field(default_factory=dict[tuple[str, str], Timing])
    books: dict[tuple[str, int], book.Book] = field(default_factory=dict[tuple[str, int], book.Book])


def throughput(targets: Mapping[str, Running], where: Bench, *, seconds: float, figures: HttpFigures) -> None:
    """Load each target in turn; after each load of the proxy, check its book.

    Raises:
        RefusedError: a target did not answer with 2xx.
        MissingRowsError: the book lacks what was answered.
    """
    for kind in KINDS:
        for connections in CONNECTIONS:
            for name, target in targets.items():
                put_load(target.url, kind=kind, connections=connections, seconds=WARM_UP_S, key=where.key)
                before = asyncio.run(book.settled(where.database_url)) if name.startswith("proxy") else book.Book()
                cpu_before_s = target.cpu_s()
                load = put_load(target.url, kind=kind, connections=connections, seconds=seconds, key=where.key)
                cpu_s = target.cpu_s() - cpu_before_s
                if load.errors or not load.requests:
                    raise RefusedError(
                        f"{name}: {load.errors} errors in {load.requests} {kind} calls; log: {target.log}"
                    )
                figures.loads[name, kind, connections] = load
                figures.cpu_ms[name, kind, connections] = cpu_s * 1000 / load.requests
                if name.startswith("proxy"):
                    added = asyncio.run(book.settled(where.database_url)).since(before)
                    book.check(added, answered=load.requests, blocks=BLOCKS if kind == "stream" else 0)
                    figures.books[kind, connections] = added


def added_latency(targets: Mapping[str, Running], where: Bench, *, calls: int, figures: HttpFigures) -> None:
    """Median times of single calls, the targets taking turns."""
    for kind in KINDS:
        timings = measure([target.url for target in targets.values()], kind, calls=calls, key=where.key)
        for name, timing in zip(targets, timings, strict=True):
            figures.timings[name, kind] = timing


def lines(figures: HttpFigures, targets: Mapping[str, Running]) -> list[str]:
    """The figures as text, a line each."""
    told = ["target                  kind    conns   calls/s    p50 ms    p99 ms   cpu ms/call   of upstream"]
    for (name, kind, connections), load in figures.loads.items():
        share = load.requests_per_s / figures.loads["upstream", kind, connections].requests_per_s
        told.append(
            f"{name:23} {kind:7} {connections:5} {load.requests_per_s:9.0f} {load.p50_ms:9.2f} {load.p99_ms:9.2f} "
            f"{figures.cpu_ms[name, kind, connections]:13.2f} {share:13.1%}"
        )
    told.append("one call after another, medians; added = over the upstream alone, in ms")
    for kind in KINDS:
        alone = figures.timings["upstream", kind]
        for name in targets:
            timing = figures.timings[name, kind]
            told.append(
                f"{name:23} {kind:7} whole {timing.whole_ms:6.2f} (added {timing.whole_ms - alone.whole_ms:+.2f})"
                f"   first chunk {timing.first_ms:6.2f} (added {timing.first_ms - alone.first_ms:+.2f})"
            )
    told += [f"rows of {kind} c={connections}: {added}" for (kind, connections), added in figures.books.items()]
    return told
