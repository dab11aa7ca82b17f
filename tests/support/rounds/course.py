"""Runs the rounds: load on two proxies over one database, a kill in the middle, then every promise is checked.

The first proxy records as it comes, the second with `durability: every_chunk`. What a round did is its `Result`.
"""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import asyncpg

from tests.support.postgres import PrivateServer
from tests.support.rounds.checks import Checker
from tests.support.rounds.clients import Clients, Told
from tests.support.rounds.plan import PROXIES, Round
from tests.support.rounds.processes import LEASE_S, MASTER_KEY, POLL_S, ProxyProcess, UpstreamProcess
from tests.support.rounds.reader import BookReader, read_spend
from tests.support.rounds.stories import Violation

CLIENTS = 14
#: Promise 4: an interrupted call is closed this long after the kill; and what two busy cores may add to that.
CLOSED_S = LEASE_S + 2.0
SLACK_S = 3.0
SPEND_S = 15.0
_OPEN = """
SELECT count(*) FROM ledger.journals AS j
WHERE (j.writer->>'pid')::int = ANY($1::int[]) AND NOT EXISTS (
    SELECT FROM ledger.events AS e WHERE e.journal_id = j.journal_id AND e.type = 'journal.sealed')
"""


@dataclass(frozen=True, slots=True)
class Result:
    """What a round was, how long the calls that it interrupted stayed open, and what it broke."""

    round: Round
    requests: int
    closed_after_s: float
    seconds: float
    violations: tuple[Violation, ...]


class Course:
    """The processes, the clients and the checker of a run; use it as an async context manager."""

    def __init__(self, directory: Path, server: PrivateServer, seed: int, *, mutation: str = "") -> None:
        self.seed = seed
        self.checker = Checker()
        self.reader = BookReader()
        self.kills: Counter[str] = Counter()
        self._server = server
        self._mutation = mutation
        self._upstream = UpstreamProcess()
        self._proxies = [
            ProxyProcess(
                directory, f"proxy{n}", upstream=self._upstream.url, database_url=server.url, every_chunk=n == 1
            )
            for n in range(PROXIES)
        ]
        self._serial = 0
        self._repairs: dict[int, asyncio.Task[None]] = {}

    async def __aenter__(self) -> Self:
        self._clients = Clients([proxy.url for proxy in self._proxies], MASTER_KEY)
        try:
            for proxy in self._proxies:
                await proxy.start(self._mutation)
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._close()

    async def _close(self) -> None:
        await asyncio.gather(*self._repairs.values(), return_exceptions=True)
        await self._clients.close()
        for proxy in self._proxies:
            await proxy.close()
        self._upstream.close()

    async def run(self, plan: Round) -> Result:
        """Run one round and check it; a killed proxy may come back in the next round only, while the other serves."""
        began_s = time.monotonic()
        before = len(self.checker.violations), len(self.reader.violations)
        # A proxy that is started without a database rightly ends; and it takes a living process to recover a dead one.
        await self._repaired([plan.proxy] if plan.kill == "worker" else range(PROXIES))
        stop = asyncio.Event()
        load = asyncio.create_task(self._clients.load(f"s{self.seed}r{plan.number}", CLIENTS, stop))
        await asyncio.sleep(plan.kill_after_s)  # the kill falls where the plan says
        killed_s = time.monotonic()
        self.kills[plan.kill] += 1
        dead = self._kill(plan)
        closing = asyncio.create_task(self._closed(dead, killed_s))
        if plan.kill == "postmaster":
            await asyncio.sleep(plan.back_after_s)  # how long it stays away is part of the plan
            await asyncio.to_thread(self._server.start)
        await asyncio.sleep(max(0.0, plan.load_s - (time.monotonic() - killed_s)))
        stop.set()
        record = await load
        closed_after_s = await closing
        await self._check(record)
        violations = self.checker.violations[before[0] :] + self.reader.violations[before[1] :]
        return Result(plan, len(record), closed_after_s, time.monotonic() - began_s, tuple(violations))

    @property
    def logs(self) -> list[Path]:
        """The proxies' logs."""
        return [proxy.log for proxy in self._proxies]

    async def _repaired(self, proxies: Iterable[int]) -> None:
        for number in proxies:
            repair = self._repairs.pop(number, None)
            if repair is not None:
                await repair

    def _kill(self, plan: Round) -> list[int]:
        """Kill, and begin to repair what was killed; return the killed processes that wrote journals."""
        proxy = self._proxies[plan.proxy]
        if plan.kill == "postmaster":
            self._server.kill()
            return []
        workers = sorted(proxy.serving_pids())
        assert len(workers) == proxy.workers, f"{len(workers)} workers before round {plan.number}:\n{proxy.log_tail()}"
        dead = [workers[plan.worker]] if plan.kill == "worker" else workers
        proxy.kill({"worker": dead, "proxy": [proxy.pid, *workers], "parent": [proxy.pid]}[plan.kill])
        repair = proxy.serves() if plan.kill == "worker" else self._restart(proxy, workers, plan.back_after_s)
        self._repairs[plan.proxy] = asyncio.create_task(repair)
        return dead

    async def _restart(self, proxy: ProxyProcess, workers: Sequence[int], after_s: float) -> None:
        await asyncio.sleep(after_s)  # for that long, and in some rounds longer, the other proxy is alone
        await proxy.ended(workers)
        await proxy.start(self._mutation)

    async def _closed(self, dead: Sequence[int], killed_s: float) -> float:
        """Wait until the journals of the dead are sealed; return the seconds since the kill."""
        while dead:
            with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                connection = await asyncpg.connect(self._server.url, timeout=5)
                try:
                    left = await connection.fetchval(_OPEN, dead)
                finally:
                    connection.terminate()
                if not left:
                    break
            if time.monotonic() - killed_s > CLOSED_S + SLACK_S:
                self.checker.violations.append(
                    Violation(4, f"journals of {dead} are open {CLOSED_S + SLACK_S} s after the kill")
                )
                break
            await asyncio.sleep(POLL_S)
        return time.monotonic() - killed_s

    async def _check(self, record: Iterable[Told]) -> None:
        told = list(record)
        await self._settled({one.ask.marker for one in told})
        seen: dict[str, list[Mapping[str, Any]]] = {}
        for request in await self._upstream.seen(self._serial):
            self._serial = max(self._serial, request["serial"])
            seen.setdefault(request["call"], []).append(request)
        for one in told:
            stories = self.reader.markers.get(one.ask.marker, [])
            every_chunk = self._proxies[one.proxy].every_chunk
            self.checker.check(one, stories, seen.pop(one.ask.marker, ()), every_chunk=every_chunk)
            for story in stories:
                story.forget_bytes()
        for marker in seen:
            self.checker.violations.append(Violation(1, f"the upstream saw {marker}, which nobody asked for"))
        await self._check_spend()

    async def _settled(self, markers: set[str]) -> None:
        """Read the book until no call of these is open; what is open too long is for the checker to report."""
        deadline = time.monotonic() + CLOSED_S + SLACK_S
        while True:
            await self.reader.read(self._server.url)
            stories = [story for marker in markers for story in self.reader.markers.get(marker, ())]
            if all(story.ending is not None for story in stories) or time.monotonic() > deadline:
                return
            await asyncio.sleep(POLL_S)

    async def _check_spend(self) -> None:
        """Wait until the projection has caught up with the costs of the book."""
        deadline = time.monotonic() + SPEND_S
        while (spend := await read_spend(self._server.url)) != self.reader.sums:
            if time.monotonic() > deadline:
                self.checker.violations.append(
                    Violation(5, f"spend is {spend}, the costs sum up to {self.reader.sums}")
                )
                return
            await asyncio.sleep(POLL_S)
            await self.reader.read(self._server.url)


def report(course: Course, results: Sequence[Result]) -> str:
    """Return a table of what a run did and compared."""
    kinds = ", ".join(f"{kind} {count}" for kind, count in sorted(course.kills.items()))
    closed = [result.closed_after_s for result in results if result.round.kill in {"worker", "proxy", "parent"}]
    rows = [
        ("seed", str(course.seed)),
        ("rounds", str(len(results))),
        ("kills", kinds),
        (
            "closed after, s",
            f"median {sorted(closed)[len(closed) // 2]:.2f}, longest {max(closed):.2f}" if closed else "-",
        ),
        *((name, str(count)) for name, count in sorted(course.checker.counts.items())),
        *((f"events {name}", str(count)) for name, count in sorted(course.reader.types.items())),
        ("journals", str(len(course.reader.seals))),
        *(
            (f"seals {name or 'none yet'}", str(count))
            for name, count in sorted(Counter(course.reader.seals.values()).items())
        ),
        ("violations", str(sum(len(result.violations) for result in results))),
    ]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {value}" for name, value in rows)
