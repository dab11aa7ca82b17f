"""What keeping books costs: the proxy as it is, against itself without parts of it, pair by pair in one run.

Three proxies over one database and one upstream, loaded in turns, at 32 connections, plain calls and streams:
`whole`; `journal`, in which the same events become durable, but without masking, pricing, counting and access lines;
`nothing`, in which nothing is recorded at all (`without_books` says how). So whole against journal is what redaction
and bookkeeping cost in the proxy's process, and journal against nothing what durable events cost, database included.
Projections fold in all of them what there is to fold. Shares are medians over rounds of rates of the same round.
"""

import contextlib
import statistics
from dataclasses import dataclass

from benchmarks.http_load import RefusedError
from benchmarks.load import put_load
from benchmarks.processes import Running
from benchmarks.proxy import Bench, proxy

KINDS = ("plain", "stream")
TARGETS = ("whole", "journal", "nothing")
CONNECTIONS = 32
WARM_UP_S = 2.0


@dataclass(frozen=True)
class Shares:
    """Of one kind of calls: calls a second (medians), and the whole proxy's share of the others' rates."""

    rates: dict[str, float]
    of_journal_only: float
    of_nothing: float


def measure(where: Bench, upstream_url: str, *, seconds: float, rounds: int) -> dict[str, Shares]:
    """Load the three in turns, `rounds` times each, the order turning with the rounds.

    Raises:
        RefusedError: one of them answered with something else than 2xx.
    """
    with contextlib.ExitStack() as stack:
        targets = {
            name: stack.enter_context(proxy(where, upstream_url, without=None if name == "whole" else name))
            for name in TARGETS
        }
        for target in targets.values():
            for kind in KINDS:
                put_load(target.url, kind=kind, connections=CONNECTIONS, seconds=WARM_UP_S, key=where.key)
        return {kind: _shares(targets, where, kind, seconds=seconds, rounds=rounds) for kind in KINDS}


def _shares(targets: dict[str, Running], where: Bench, kind: str, *, seconds: float, rounds: int) -> Shares:
    rates: dict[str, list[float]] = {name: [] for name in targets}
    names = list(targets)
    for number in range(rounds):
        turn = number % len(names)
        for name in (*names[turn:], *names[:turn]):
            load = put_load(targets[name].url, kind=kind, connections=CONNECTIONS, seconds=seconds, key=where.key)
            if load.errors or not load.requests:
                raise RefusedError(
                    f"{name}: {load.errors} errors in {load.requests} {kind} calls; log: {targets[name].log}"
                )
            rates[name].append(load.requests_per_s)
    return Shares(
        {name: statistics.median(taken) for name, taken in rates.items()},
        _share(rates["whole"], rates["journal"]),
        _share(rates["whole"], rates["nothing"]),
    )


def _share(ours: list[float], theirs: list[float]) -> float:
    return statistics.median(mine / other for mine, other in zip(ours, theirs, strict=True))


def lines(shares: dict[str, Shares]) -> list[str]:
    """The figures as text, a line each."""
    told = ["kind     " + "".join(f"{name:>10}" for name in TARGETS) + "   of journal   of nothing   (calls/s; shares)"]
    told += [
        f"{kind:9}"
        + "".join(f"{one.rates[name]:10.0f}" for name in TARGETS)
        + f"{one.of_journal_only:13.1%}{one.of_nothing:13.1%}"
        for kind, one in shares.items()
    ]
    return told
