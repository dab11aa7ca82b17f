"""The application: everything is wired here, and nowhere else.

An ASGI callable that sends calls straight to `calls.py` and everything else to FastAPI. The command line makes it, with
uvicorn around it; a worker process makes its own from the environment that its parent prepared.
"""

import asyncio
import gc
import logging
import os
import random
import signal
import time
from collections.abc import Callable, Iterable, MutableMapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, Final

from api.access_log import AccessLog
from api.affinity import Affinity
from api.asgi_client import Receive, Scope, Send
from api.auth import Authenticator
from api.background_settling import BackgroundSettler
from api.book import Book
from api.call_reading import path_of_call
from api.calls import Calls
from api.config import Config
from api.context import Context
from api.keyring import CachedKeyring
from api.metrics.instruments import make_instruments
from api.metrics.vitals import Vitals
from api.observing import CallObserver
from api.prices import load_prices
from api.stored_responses import StoredResponses
from api.version import VERSION
from api.web import make_web
from ledger.errors import LedgerUnavailableError
from ledger.events import CONFIG_LOADED
from ledger.journal.journals import JournalSettings
from ledger.money.tokens import warm
from ledger.postgres.connect import CONNECTION_LOST, connect, engine
from ledger.postgres.migrate import check
from ledger.reports import SESSION
from llm.deployment import Deployment
from llm.engine import Engine, EngineSettings
from llm.http_proxy import proxy_for
from llm.outcome import Observer
from llm.relay import RelaySettings
from llm.router import Router, Routing
from llm.upstream_http import HttpUpstream
from llm.upstream_mock import MockUpstream

logger = logging.getLogger(__name__)

_READS_POOL: Final = 6
_PARENT_POLL_S: Final = 1.0
_SEAL_TIMEOUT_S: Final = 5.0
#: Containers made since the last collection that start one; a call makes some hundreds, freed without its help.
_GC_YOUNG: Final = 10_000
#: A worker waits this long for a database that is out of reach when it starts, and asks this often.
_OUTAGE_MAX_S: Final = 3_600.0
_RETRY_S: Final = 0.5


class Application:
    """One process of the proxy, as ASGI."""

    def __init__(
        self,
        config: Config,
        database_url: str,
        master_key: str,
        parent_pid: int | None = None,
        *,
        owns_process: bool = False,
        metrics_dir: Path | None = None,
    ) -> None:
        """`parent_pid`: of whom this is a worker; `owns_process`: nothing else lives in it, so its memory is tuned.

        `metrics_dir`: where all workers count; None for a process that serves alone.
        """
        self.config = config
        self._owns_process = owns_process
        self._url = database_url
        self._master_key = master_key
        self._parent_pid = parent_pid
        self._instruments = make_instruments(config, database_url, metrics_dir)
        self._observer: CallObserver | None = None
        self._web = make_web()
        self._calls: Calls | None = None
        self._context: Context | None = None
        self._affinity: Affinity | None = None
        self._upstream = HttpUpstream(proxy_for)
        self._tasks: list[asyncio.Task[None]] = []
        self._ending: asyncio.Task[None] | None = None
        self._former_handlers: dict[signal.Signals, Any] = {}
        self._told_to_end = asyncio.Event()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one connection's event, as ASGI says."""
        if scope["type"] == "http":
            path = path_of_call(scope["path"])
            if path is not None and self._calls is not None:
                await self._calls.serve(scope, receive, send, path)
                return
            await self._web(scope, receive, self._counted(send))
        elif scope["type"] == "lifespan":
            await self._live(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1008, "reason": "WebSockets are not served here"})

    def _counted(self, send: Send) -> Send:
        """Return `send` for a request that is no call, its answer counted."""

        async def counted(message: MutableMapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                self._instruments.meter.administered(message["status"])
            await send(message)

        return counted

    async def _live(self, receive: Receive, send: Send) -> None:
        await receive()
        try:
            await self.start()
        except Exception as error:  # the edge: whatever keeps the proxy from starting is said, and it does not start
            logger.exception("the proxy cannot start")
            await send({"type": "lifespan.startup.failed", "message": f"{type(error).__name__}: {error}"})
            return
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await self.stop()
        await send({"type": "lifespan.shutdown.complete"})

    async def start(self) -> None:
        """Open the book, load the prices, follow the keys; a worker waits for a database that is out of reach.

        Raises:
            SchemaMismatchError: the schema is not this version's.
            PriceError: a price in the config cannot be used.
            LedgerUnavailableError, OSError, asyncpg.PostgresError: the database cannot be reached or refuses.
        """
        self._follow_signals()
        if self._owns_process:
            # What start-up made lives for ever; the collector need not walk it while calls wait.
            gc.collect()
            gc.freeze()
            gc.set_threshold(_GC_YOUNG, 20, 20)
        # The server takes a worker that fails to start for a broken application and ends the whole proxy. A worker that
        # is replaced during an outage must not do that: its parent has seen this database and this schema.
        deadline_s = time.monotonic() + (0.0 if self._parent_pid is None else _OUTAGE_MAX_S)
        while True:
            try:
                await self._open()
            except (*CONNECTION_LOST, LedgerUnavailableError) as error:
                if self._told_to_end.is_set() or time.monotonic() > deadline_s:
                    raise
                logger.warning("waiting for the database: %s: %s", type(error).__name__, error)
            else:
                if self.config.general.load_tokenizer == "start":
                    self._tasks.append(asyncio.create_task(_load_tokenizer(), name="tokenizer"))
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(_RETRY_S):
                    await self._told_to_end.wait()

    async def _open(self) -> None:
        connection = await connect(self._url, purpose="start")
        try:
            await check(connection)
        finally:
            connection.terminate()
        general = self.config.general
        deployments = [deployment_of(entry, self.config) for entry in self.config.model_list]
        book = Book(
            self._url,
            JournalSettings(
                buffer_bytes=general.buffer_bytes,
                call_buffer_bytes=general.call_buffer_bytes,
                journal_events_max=general.journal_max_events,
                journal_age_s=general.journal_max_age_s,
            ),
            lease_s=general.lease_s,
            version=VERSION,
        )
        try:
            await book.journals.open()
            book.prices = await load_prices(self._url, book.journals, book.projector, deployments)
            book.follow_prices(deployments)
            await book.open()
            await book.journals.administer(CONFIG_LOADED, _config_facts(self.config))
        except BaseException:
            await book.close(_SEAL_TIMEOUT_S)
            raise
        self._wire(book, deployments)

    def _wire(self, book: Book, deployments: Iterable[Deployment]) -> None:
        keyring = CachedKeyring(self._url)
        authenticator = Authenticator(self._master_key, keyring)
        general = self.config.general
        self._observer = CallObserver(
            self._instruments.meter, AccessLog(self.config.log_format) if general.access_log else None
        )
        engine_of_calls = make_engine(self.config, deployments, self._upstream, book, self._observer)
        vitals = Vitals(self._instruments.cells, book, engine_of_calls)
        self._affinity = Affinity(self._url, engine_of_calls)
        reads = engine(self._url, purpose="reports", pool_size=_READS_POOL, **SESSION)
        stored = StoredResponses(book, reads)
        self._calls = Calls(
            book, engine_of_calls, authenticator, keyring, self._affinity, general, self._observer, stored
        )
        self._context = Context(
            config=self.config,
            book=book,
            reads=reads,
            authenticator=authenticator,
            keyring=keyring,
            engine=engine_of_calls,
            instruments=self._instruments,
            vitals=vitals,
        )
        self._web.state.context = self._context
        loops = book.loops
        self._tasks += [loops.start("keys", keyring.run), loops.start("vitals", vitals.run)]
        if general.settle_background_s:
            settler = BackgroundSettler(
                book,
                engine_of_calls,
                every_s=general.settle_background_s,
                keeps_bodies=general.store_bodies != "none",
            )
            self._tasks.append(loops.start("background responses", settler.run))
        if self._parent_pid is not None:
            self._tasks.append(loops.start("parent", partial(_follow_parent, self._parent_pid)))

    def _follow_signals(self) -> None:
        """Begin to end the calls in flight with the signal itself: uvicorn says nothing before they have ended."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            former = signal.getsignal(number)
            with suppress(ValueError):  # a server in a thread, as tests have it, gets no signals
                signal.signal(number, _then(lambda: loop.call_soon_threadsafe(self.end_calls), former))
                self._former_handlers[number] = former

    def _leave_signals(self) -> None:
        while self._former_handlers:
            signal.signal(*self._former_handlers.popitem())

    def end_calls(self) -> None:
        """Let the calls in flight end within the grace period; take no new ones."""
        self._told_to_end.set()
        if self._context is not None and self._ending is None:
            self._context.book.journals.refuse_calls()
            grace_s = self.config.general.shutdown_grace_s
            self._ending = asyncio.create_task(self._context.engine.shut_down(grace_s), name="shutdown")

    async def stop(self) -> None:
        """End the calls, seal the journals, close everything."""
        if self._context is None:
            return
        self.end_calls()
        if self._ending is not None:
            await self._ending
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._upstream.aclose()
        await self._context.book.close(_SEAL_TIMEOUT_S)
        await self._context.keyring.close()
        if self._affinity is not None:
            await self._affinity.close()
        await self._context.reads.dispose()
        self._instruments.lag.close()
        if self._observer is not None:
            self._observer.close()
        self._calls = self._context = None
        self._leave_signals()


def _then(first: Callable[[], object], former: Any) -> Callable[[int, FrameType | None], None]:
    def handle(number: int, frame: FrameType | None) -> None:
        first()
        if callable(former):
            former(number, frame)

    return handle


def deployment_of(entry: Any, config: Config) -> Deployment:
    """Return a deployment from an entry of `model_list`."""
    timeout_s = entry.timeout_s if entry.timeout_s is not None else config.llm.request_timeout_s
    return Deployment(
        deployment_id=entry.deployment_id,
        model_name=entry.model_name,
        upstream_model=entry.upstream_model,
        api_base=entry.api_base,
        api_key=entry.api_key,
        mock_response=entry.mock_response,
        weight=entry.weight,
        rpm=entry.rpm,
        tpm=entry.tpm,
        order=entry.order,
        timeout_s=timeout_s,
        stream_timeout_s=entry.stream_timeout_s if entry.stream_timeout_s is not None else timeout_s,
        region=entry.region,
        prices=entry.prices,
    )


def make_engine(
    config: Config, deployments: Iterable[Deployment], upstream: HttpUpstream, book: Book, observer: Observer
) -> Engine:
    """Return an engine as the config says."""
    general = config.general
    routing = Routing(
        num_retries=config.router.num_retries,
        retry_after_s=config.router.retry_after_s,
        fallbacks=config.router.fallbacks,
        default_fallbacks=config.router.default_fallbacks,
        max_fallbacks=config.router.max_fallbacks,
    )
    settings = EngineSettings(
        relay=RelaySettings(
            every_chunk=general.durability == "every_chunk",
            ledger_wait_s=general.ledger_wait_s,
            max_answer_bytes=general.max_answer_bytes,
        ),
        cancel_on_disconnect=general.on_disconnect == "cancel",
        drain_timeout_s=general.drain_timeout_s,
        keeps_upstream_keys=general.upstream_key_errors == "own",
    )
    router = Router(deployments, routing, random.Random())  # noqa: S311 - spreads load, guards nothing
    return Engine(router, upstream, MockUpstream(), lambda: book.prices, book, settings, observer)


def _config_facts(config: Config) -> dict[str, Any]:
    """Return what the book keeps of a config: which one it was and which models it served; no secrets."""
    return {
        "actor": "proxy",
        "sha256": config.sha256,
        "version": VERSION,
        "models": sorted({entry.model_name for entry in config.model_list})[:500],
    }


async def _load_tokenizer() -> None:
    """Load it before it is needed; without it the first estimate tries again, and is the one to fail."""
    try:
        await asyncio.to_thread(warm)
    except Exception:  # the edge of this task: nobody waits for it, and nothing that serves calls hangs on it
        logger.exception("the tokenizer could not be loaded; the first estimate tries again")


async def _follow_parent(parent_pid: int) -> None:
    """End this worker when its parent is gone: an orphan would keep the port and serve an old configuration."""
    while os.getppid() == parent_pid:  # noqa: ASYNC110 - nobody tells a process that its parent has died
        await asyncio.sleep(_PARENT_POLL_S)
    logger.error("the parent process %d is gone; this worker ends", parent_pid)
    os.kill(os.getpid(), signal.SIGTERM)
