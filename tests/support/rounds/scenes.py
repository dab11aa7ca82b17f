"""One short scene for each named fault, in which a proxy with that fault cannot but break a promise.

Each plays the same with the product itself (`mutation=""`), which then has to keep them all. What happens is forced by
gates, signals and the book's own state, not by luck.
"""

import asyncio
import contextlib
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import asyncpg

from ledger.postgres.url import parse
from tests.support.postgres import PrivateServer
from tests.support.rounds.asks import Ask, make_ask
from tests.support.rounds.checks import Checker
from tests.support.rounds.clients import Clients, Told
from tests.support.rounds.processes import MASTER_KEY, POLL_S, ProxyProcess, UpstreamProcess
from tests.support.rounds.reader import BookReader
from tests.support.rounds.stories import Violation

PATIENCE_S = 15.0
#: What a client that must not get its end is watched for.
QUIET_S = 0.7
#: Of a gated stream of six deltas, what the upstream sends before it waits for the gate.
_CHUNKS = 7
#: A journal is marked sealed after its last event, so nothing is on its way to it any more.
_ALL_SEALED = "SELECT count(*) = 0 FROM ledger.journals WHERE (writer->>'pid')::int <> $1 AND sealed_at IS NULL"


class Stage:
    """A database, an upstream, the proxy that is played with and a sound one that comes after it."""

    def __init__(self, directory: Path, server: PrivateServer, database_url: str, mutation: str) -> None:
        self.server = server
        self.database_url = database_url
        self.mutation = mutation
        self.upstream = UpstreamProcess()
        self.first, self.second = (
            ProxyProcess(directory, name, upstream=self.upstream.url, database_url=database_url, workers=1)
            for name in ("first", "second")
        )
        self.clients = Clients([self.first.url, self.second.url], MASTER_KEY)

    async def close(self) -> None:
        """End everything."""
        await self.clients.close()
        for proxy in (self.first, self.second):
            await proxy.close()
        self.upstream.close()

    async def until(self, happened: Callable[[], Awaitable[object]], what: str) -> None:
        """Wait until something has happened.

        Raises:
            AssertionError: it has not within PATIENCE_S.
        """
        for _ in range(int(PATIENCE_S / POLL_S)):
            if await happened():
                return
            await asyncio.sleep(POLL_S)
        raise AssertionError(f"not within {PATIENCE_S} s: {what}\n{self.first.log_tail()}\n{self.second.log_tail()}")

    async def ask_book(self, query: str, *arguments: object) -> object:
        """Return what a query of one value says; None where the database is away."""
        with contextlib.suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            connection = await asyncpg.connect(self.database_url, timeout=5)
            try:
                return await connection.fetchval(query, *arguments)
            finally:
                connection.terminate()
        return None

    async def begin(self, ask: Ask, chunks: int = 0) -> asyncio.Task[Told]:
        """Begin a call at the first proxy; return once the upstream has it and `chunks` of it are in the book."""
        calling = asyncio.create_task(self.clients.ask(ask))
        await self.until(lambda: self.upstream.seen(call=ask.marker), "the request at the upstream")
        recorded = "SELECT count(*) = $1 FROM ledger.events WHERE type = 'chunk.received'"
        await self.until(lambda: self.ask_book(recorded, chunks), f"{chunks} chunks in the book")
        return calling

    async def is_shut(self) -> bool:
        """Tell whether the first proxy takes no connections any more."""
        return (await self.clients.ask(make_ask("knock"))).outcome == "refused"

    async def succeed(self, mutation: str = "") -> None:
        """Start the second proxy, and wait until every journal but its own is marked as sealed."""
        await self.second.start(mutation)
        await self.until(
            lambda: self.ask_book(_ALL_SEALED, self.second.pid), "the marks that all other journals are sealed"
        )

    async def check(self, *record: Told) -> list[Violation]:
        """Hold the book against the clients' records."""
        reader, checker = BookReader(), Checker()
        await reader.read(self.database_url)
        for told in record:
            marker = told.ask.marker
            checker.check(told, reader.markers.get(marker, []), await self.upstream.seen(call=marker))
        return checker.violations + reader.violations


@asynccontextmanager
async def stage(directory: Path, server: PrivateServer, database_url: str, mutation: str) -> AsyncGenerator[Stage]:
    """Make a stage and clear it away."""
    made = Stage(directory, server, database_url, mutation)
    try:
        yield made
    finally:
        await made.close()


def _gated(marker: str) -> Ask:
    return make_ask(marker, stream="1", script="gated", blocks="6", gate="scene")


async def killed_before_the_answer(play: Stage) -> list[Violation]:
    """Kill the proxy while the upstream has the request and has answered nothing."""
    await play.first.start(play.mutation)
    calling = await play.begin(make_ask("silent", script="never"))
    play.first.kill([play.first.pid])
    told = await calling
    await play.succeed()
    return await play.check(told)


async def killed_before_the_commit(play: Stage) -> list[Violation]:
    """Stop the journal's backend, let the answer end, kill the proxy, and let the backend go on when all is sealed."""
    await play.first.start(play.mutation)
    calling = await play.begin(_gated("frozen"), _CHUNKS)
    backend = await play.ask_book("SELECT backend_pid FROM ledger.journals")
    assert isinstance(backend, int)
    os.kill(backend, signal.SIGSTOP)
    try:
        await play.upstream.open_gate("scene")
        await asyncio.wait([calling], timeout=QUIET_S)
        play.first.kill([play.first.pid])
        told = await calling
        await play.succeed()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(backend, signal.SIGCONT)
    ended = "SELECT count(*) = 0 FROM pg_stat_activity WHERE pid = $1"
    await play.until(lambda: play.ask_book(ended, backend), "the end of the backend")
    return await play.check(told)


async def postmaster_killed_after_the_answer(play: Stage) -> list[Violation]:
    """Kill the postmaster the moment a client has its answer, where commits are asynchronous unless told otherwise."""
    name = parse(play.database_url).database
    await play.ask_book(f'ALTER DATABASE "{name}" SET synchronous_commit = off')
    await play.first.start(play.mutation)
    told = await play.clients.ask(make_ask("answered"))
    play.server.kill()
    await asyncio.to_thread(play.server.start)
    play.first.kill([play.first.pid])
    await play.succeed()
    return await play.check(told)


async def ended_in_the_middle(play: Stage) -> list[Violation]:
    """Ask the proxy to end while an answer is under way, and let that answer come to its end."""
    await play.first.start(play.mutation)
    calling = await play.begin(_gated("late"), _CHUNKS)
    play.first.terminate()
    await play.until(play.is_shut, "the proxy's door shut")
    await play.upstream.open_gate("scene")
    told = await calling
    await play.first.ended()
    await play.succeed()
    return await play.check(told)


async def taken_over(play: Stage) -> list[Violation]:
    """Kill the proxy in the middle of an answer, and have its journal taken over by the next one."""
    await play.first.start()
    calling = await play.begin(_gated("orphan"), _CHUNKS)
    play.first.kill([play.first.pid])
    told = await calling
    await play.succeed(play.mutation)
    return await play.check(told)


async def answered_without_usage(play: Stage) -> list[Violation]:
    """Have the upstream answer without usage, and break off a plain answer."""
    await play.first.start(play.mutation)
    record = [await play.clients.ask(make_ask(script, script=script)) for script in ("no_usage", "cut_plain")]
    return await play.check(*record)


#: The fault, and the scene that shows it.
SCENES: dict[str, Callable[[Stage], Awaitable[list[Violation]]]] = {
    "append_after_upstream": killed_before_the_answer,
    "release_before_commit": killed_before_the_commit,
    "asynchronous_commit": postmaster_killed_after_the_answer,
    "drop_last_flush": ended_in_the_middle,
    "close_twice": taken_over,
    "unknown_as_zero": answered_without_usage,
}
