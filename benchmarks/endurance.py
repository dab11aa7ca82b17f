"""Whether the proxy's memory stays flat and its projections keep up, over as many calls as one has time for.

A tenth of the calls are streams, a hundredth are left by their clients (`mixed_load`). Memory is the proportional set
size of all of the proxy's processes, sampled all along: after a tenth of the calls it must grow by a tenth at most.
The lag is sampled meanwhile, at full load (`lag`). At the end the book must hold every call, closed and charged.
"""

import asyncio
import os
import statistics
import sys
from dataclasses import dataclass, field

from benchmarks import book
from benchmarks.lag import LagFigures, Lags, figures, sample
from benchmarks.processes import Running
from benchmarks.proxy import ROOT, Bench

CONNECTIONS = 32
WARM_SHARE = 0.1
#: A figure of memory is the median of this many samples, since a collection comes when it comes.
SAMPLES = 8
#: What is still under way when the load has ended is let end before the last samples are taken.
REST_SAMPLES = 8
SAMPLE_S = 0.5


class LoadFailedError(Exception):
    """The load ended with an error, so that what was measured means nothing."""


@dataclass
class EnduranceFigures:
    """What one run found; memory in bytes by calls ended, the lag by projection."""

    calls: int
    seconds: float = 0.0
    memory: list[tuple[int, int]] = field(default_factory=list[tuple[int, int]])
    lag: dict[str, LagFigures] = field(default_factory=dict[str, LagFigures])

    @property
    def warm_bytes(self) -> float:
        """Memory after a tenth of the calls."""
        after = [size for ended, size in self.memory if ended >= self.calls * WARM_SHARE]
        return statistics.median(after[:SAMPLES])

    @property
    def end_bytes(self) -> float:
        """Memory at the end."""
        return statistics.median([size for _, size in self.memory][-SAMPLES:])

    @property
    def growth(self) -> float:
        """By which share of `warm_bytes` the memory has grown."""
        return self.end_bytes / self.warm_bytes - 1

    @property
    def lag_p99_ms(self) -> float:
        """Of the slowest projection."""
        return max((one.p99_ms for one in self.lag.values()), default=0.0)


async def measure(proxy: Running, where: Bench, *, calls: int) -> EnduranceFigures:
    """Put the load on a running proxy and watch.

    Raises:
        LoadFailedError: a call was refused, or broke off.
        MissingRowsError: the book lacks calls, or some are not closed.
    """
    found = EnduranceFigures(calls)
    lags, ended = Lags(), asyncio.Event()
    sampler = asyncio.create_task(sample(where.database_url, lags, ended))
    try:
        await _load(proxy, where, found)
    finally:
        ended.set()
        await sampler
    for _ in range(REST_SAMPLES):
        await asyncio.sleep(SAMPLE_S)
        found.memory.append((calls, proxy.proportional_bytes()))
    held = await book.settled(where.database_url)
    if held.received < calls:
        raise book.MissingRowsError(f"{calls} calls were made, but the book holds {held.received}")
    found.lag = figures(lags)
    return found


async def _load(proxy: Running, where: Bench, found: EnduranceFigures) -> None:
    """Run the load as a process of its own, which tells how far it is; look at the memory meanwhile."""
    argv = ["-m", "benchmarks.mixed_load", "--url", proxy.url, "--calls", str(found.calls)]
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *argv,
        "--connections",
        str(CONNECTIONS),
        cwd=ROOT,
        env={**os.environ, "BENCH_KEY": where.key, "PYTHONPATH": str(ROOT)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None  # noqa: S101 - it was asked for
    try:
        looked_s = 0.0
        async for line in process.stdout:
            word, value = line.split()
            if word == b"SECONDS":
                found.seconds = float(value)
            elif (now_s := asyncio.get_running_loop().time()) - looked_s >= SAMPLE_S:
                looked_s = now_s
                found.memory.append((int(value), proxy.proportional_bytes()))
        _, errors = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
    if process.returncode:
        raise LoadFailedError(
            f"the load failed: {errors.decode(errors='replace')[-1500:]}; the proxy's log: {proxy.log}"
        )


def lines(found: EnduranceFigures) -> list[str]:
    """The figures as text, a line each."""
    mib = 2**20
    peak = max(size for _, size in found.memory)
    warm, end, peak = (size / mib for size in (found.warm_bytes, found.end_bytes, peak))
    told = [
        f"{found.calls:,} calls in {found.seconds:.0f} s: {found.calls / found.seconds:,.0f} calls/s",
        f"memory after {int(found.calls * WARM_SHARE):,} calls {warm:.1f} MiB, at the end {end:.1f}, peak {peak:.1f}",
    ]
    for name, one in found.lag.items():
        percentiles = f"p50 {one.p50_ms:6.0f}  p99 {one.p99_ms:6.0f}  max {one.max_ms:6.0f} ms"
        told.append(f"lag of {name:12} {percentiles}, {one.samples:,} samples")
    return told
