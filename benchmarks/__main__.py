"""`scripts/bench`: every figure of the project in one run on this machine; fails where rows are missing.

Sections: `journal` (append against raw COPY), `http` (throughput, added latency, rows), `book` (start to ready,
rebuild); and, only when named, `endurance` (memory and lag over many calls), `cost` (what keeping books costs) and
`reports` (a rebuild of a million calls, and reports over them). Each prints its figures and the bound that the project
sets for it; a bound that one of the last three misses fails the run.
"""

import argparse
import asyncio
import contextlib
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType

import asyncpg
import uvloop

from benchmarks import (
    book,
    cost_of_books,
    endurance,
    growth,
    http_load,
    journal,
    large_book,
    machine,
    reports,
    starting,
)
from benchmarks.load import LoadError, find_generator
from benchmarks.processes import ProcessError, upstream
from benchmarks.proxy import ROOT, Bench, bench, is_buildable, passthrough, proxy
from ledger.postgres.embedded_layout import Layout
from ledger.postgres.migrate import upgrade
from ledger.projections.roller import Roller


class MissedError(Exception):
    """A bound that must hold does not."""


SECTIONS = ("journal", "http", "book")
ON_REQUEST = ("endurance", "cost", "reports")
FAILURES = (
    MissedError,
    book.MissingRowsError,
    endurance.LoadFailedError,
    http_load.RefusedError,
    LoadError,
    machine.NotDurableError,
    ProcessError,
    starting.RebuildError,
)
JOURNAL_SHARE_MIN = 0.5
ADDED_MS_MAX = 2.0
FIRST_CHUNK_ADDED_MS_MAX = 5.0
START_S_MAX = 3.0
REBUILD_CALLS_PER_S_MIN = 20_000
REBUILD_CALLS = 200_000
GROWTH_MAX = 0.10
LAG_P99_MS_MAX = 500.0
COST_OF_BOOKS_MAX = 0.10
REPORT_MS_MAX = 100.0


def _bound(holds: bool, told: str) -> str:
    return f"{'holds ' if holds else 'MISSED'} {told}"


def _journal(where: Bench, args: argparse.Namespace) -> None:
    figures = uvloop.run(journal.measure(where.database_url, events=args.events, rounds=5))
    print(f"journal append {figures.journal_events_per_s:9,.0f} events/s, each chunk durable, chained")
    print(f"raw COPY       {figures.copy_events_per_s:9,.0f} events/s, same rows, bytes made beforehand")
    print(
        f"one event      {figures.commit_p50_ms:9.2f} ms until durable at the median, p99 {figures.commit_p99_ms:.2f}"
    )
    print(_bound(figures.share >= JOURNAL_SHARE_MIN, f"share of raw COPY {figures.share:.0%}, at least 50 %"))


def _http(where: Bench, args: argparse.Namespace) -> None:
    if find_generator() is None:
        print("SKIPPED: neither wrk nor oha is installed (Debian: apt-get install wrk)")
        return
    figures = http_load.HttpFigures()
    with contextlib.ExitStack() as stack:
        up = stack.enter_context(upstream(blocks=http_load.BLOCKS, writes=args.writes, pause_ms=args.pause_ms))
        targets = {"upstream": up}
        for client in args.clients.split(","):
            targets[f"bare {client}"] = stack.enter_context(passthrough(up.url, client=client, workers=args.workers))
        if is_buildable():
            targets["proxy"] = stack.enter_context(proxy(where, up.url, workers=args.workers))
        else:
            print("SKIPPED: the proxy, its command line is not in this checkout")
        http_load.added_latency(targets, where, calls=args.calls, figures=figures)
        http_load.throughput(targets, where, seconds=args.seconds, figures=figures)
        print("\n".join(http_load.lines(figures, targets)))
        if "proxy" in targets:
            bare = f"bare {args.clients.split(',')[0]}"
            # The bound is on a connection in use, as the load generator keeps it; taking turns with other targets, of
            # which the table above tells, every call finds cold caches and sleeping processes.
            plain_ms = figures.loads["proxy", "plain", 1].p50_ms - figures.loads["upstream", "plain", 1].p50_ms
            first_ms = figures.timings["proxy", "stream"].first_ms - figures.timings[bare, "stream"].first_ms
            print(_bound(plain_ms <= ADDED_MS_MAX, f"added to a plain call {plain_ms:.2f} ms, at most {ADDED_MS_MAX}"))
            print(_bound(first_ms <= FIRST_CHUNK_ADDED_MS_MAX, f"first chunk {first_ms:+.2f} ms to {bare}, at most 5"))


def _book(where: Bench, args: argparse.Namespace) -> None:
    del args
    if not is_buildable():
        print("SKIPPED: the proxy's command line is not in this checkout")
        return
    with upstream() as up:
        ready_s = starting.start_to_ready_s(where, up.url)
    print(_bound(ready_s <= START_S_MAX, f"start to ready {ready_s:.2f} s, at most {START_S_MAX:.0f}"))
    if asyncio.run(book.read(where.database_url)).completed == 0:
        print("SKIPPED: rebuild, the book is empty: name the section http before this one")
        return
    calls = asyncio.run(growth.grow(where.database_url, REBUILD_CALLS))
    taken_s = starting.rebuild_s(where)
    rate = calls / taken_s
    print(_bound(rate >= REBUILD_CALLS_PER_S_MIN, f"rebuild of {calls:,} calls {taken_s:.1f} s: {rate:,.0f} calls/s"))


def _endurance(where: Bench, args: argparse.Namespace) -> None:
    with upstream(writes=4, pause_ms=1) as up, proxy(where, up.url, workers=args.workers) as running:
        found = asyncio.run(endurance.measure(running, where, calls=args.endurance_calls))
    print("\n".join(endurance.lines(found)))
    _must(found.growth <= GROWTH_MAX, f"memory grew by {found.growth:+.1%}, at most {GROWTH_MAX:.0%}")
    _must(found.lag_p99_ms <= LAG_P99_MS_MAX, f"lag p99 {found.lag_p99_ms:.0f} ms, at most {LAG_P99_MS_MAX:.0f}")


def _cost(where: Bench, args: argparse.Namespace) -> None:
    if find_generator() is None:
        print("SKIPPED: neither wrk nor oha is installed (Debian: apt-get install wrk)")
        return
    with upstream() as up:
        shares = cost_of_books.measure(where, up.url, seconds=args.seconds, rounds=args.rounds)
    print("\n".join(cost_of_books.lines(shares)))
    for kind in cost_of_books.KINDS:
        cost = 1 - shares[kind].of_journal_only
        _must(cost <= COST_OF_BOOKS_MAX, f"redaction and bookkeeping of {kind} calls cost {cost:.1%}, at most 10 %")


def _reports(where: Bench, args: argparse.Namespace) -> None:
    asyncio.run(large_book.fill(where.database_url, args.report_calls))
    taken_s = starting.rebuild_s(where)
    rate = args.report_calls / taken_s
    print(f"rebuild of {args.report_calls:,} calls over 90 days: {taken_s:.1f} s, {rate:,.0f} calls/s")
    started_s = time.perf_counter()
    periods = asyncio.run(Roller(where.database_url).catch_up())
    print(f"rolled up: {periods} periods of spend and calls in {time.perf_counter() - started_s:.1f} s")
    timings = asyncio.run(reports.measure(where.database_url))
    for timing in timings:
        kind = "" if timing.is_served else "  (from the rows)"
        print(f"{timing.name:45} {timing.best_ms:8.1f} ms  {timing.rows:6,} rows{kind}")
    slowest = max(timing.best_ms for timing in timings if timing.is_served)
    _must(slowest <= REPORT_MS_MAX, f"slowest report that is served {slowest:.0f} ms, at most {REPORT_MS_MAX:.0f}")


def _must(holds: bool, told: str) -> None:
    """Print a bound, and note that the run has failed where it does not hold."""
    print(_bound(holds, told))
    if not holds:
        _missed.append(told)


_missed: list[str] = []
_RUN: dict[str, Callable[[Bench, argparse.Namespace], None]] = {
    "journal": _journal,
    "http": _http,
    "book": _book,
    "endurance": _endurance,
    "cost": _cost,
    "reports": _reports,
}


def _measure(args: argparse.Namespace, data_dir: Path) -> None:
    with bench(data_dir) as where:
        for line in machine.describe_machine(data_dir):
            print(line)
        for line in asyncio.run(machine.describe_database(where.database_url)):
            print(line)
        upgrade(where.database_url)
        for section in args.sections:
            print(f"\n-- {section}", flush=True)
            _RUN[section](where, args)
            sys.stdout.flush()
    if _missed:
        raise MissedError("; ".join(_missed))


def _leave(number: int, frame: FrameType | None) -> None:
    """End in order on a signal, so that what was started is stopped."""
    del frame
    sys.exit(128 + number)


def main() -> int:
    """Read the command line, measure, and return 1 where something could not be measured truly."""
    parser = argparse.ArgumentParser(prog="scripts/bench", description=__doc__)
    parser.add_argument(
        "sections",
        nargs="*",
        default=[],
        help=f"any of {', '.join((*SECTIONS, *ON_REQUEST))}; the first three when none is named",
    )
    parser.add_argument("--seconds", type=float, default=5, help="length of each load")
    parser.add_argument("--calls", type=int, default=300, help="single calls for each latency")
    parser.add_argument("--events", type=int, default=100_000, help="events of each round of the journal section")
    parser.add_argument("--writes", type=int, default=1, help="pieces that the upstream writes a stream in")
    parser.add_argument("--pause-ms", type=float, default=0, help="the upstream's pause between these pieces")
    parser.add_argument("--report-calls", type=int, default=1_000_000, help="calls of the section reports")
    parser.add_argument("--workers", type=int, default=1, help="workers of the pass-through and of the proxy")
    parser.add_argument("--clients", default="httpx-aiohttp,aiohttp,protocol", help="clients of the pass-through")
    parser.add_argument("--endurance-calls", type=int, default=200_000, help="calls of the section endurance")
    parser.add_argument("--rounds", type=int, default=5, help="rounds of the section cost")
    parser.add_argument("--keep", action="store_true", help="keep the data directory")
    args = parser.parse_args()
    args.sections = args.sections or list(SECTIONS)
    if unknown := set(args.sections) - {*SECTIONS, *ON_REQUEST}:
        parser.error(f"unknown section {', '.join(sorted(unknown))}: expected {', '.join((*SECTIONS, *ON_REQUEST))}")
    signal.signal(signal.SIGTERM, _leave)
    (ROOT / ".data").mkdir(exist_ok=True)
    data_dir = Path(tempfile.mkdtemp(prefix="bench-", dir=ROOT / ".data"))
    try:
        _measure(args, data_dir)
    except (*FAILURES, asyncpg.PostgresError) as error:
        print(f"FAILED {type(error).__name__}: {error}", file=sys.stderr)
        return 1
    finally:
        if not args.keep:
            # Gigabytes that lie elsewhere where Postgres' own user cannot reach the data directory.
            shutil.rmtree(Layout(data_dir / "postgres").cluster, ignore_errors=True)
            shutil.rmtree(data_dir, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
