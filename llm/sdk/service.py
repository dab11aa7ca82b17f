"""What runs on the SDK's thread: takes a request, serves it by the engine or through a proxy, ends everything.

One for a process and a book. Callers reach it through `transport.py`; a caller who leaves is a client who left, so the
engine cuts the upstream, estimates the cost and books the call as cancelled.
"""

import asyncio
import logging
import random
import re
from concurrent.futures import Future
from contextlib import suppress
from decimal import Decimal
from typing import Final

from uuid_utils.compat import uuid7

from ledger.errors import FencedError
from ledger.money.exact import plain
from llm.attempt import Call
from llm.encodings import EncodingError
from llm.engine import Engine, EngineSettings
from llm.errors import LEDGER_UNAVAILABLE
from llm.estimates import is_billable
from llm.http_proxy import proxy_for
from llm.json_text import JsonError
from llm.request import ClientRequest, read_client_request
from llm.router import Router, Routing
from llm.sdk.background import Background
from llm.sdk.errors import RecordingError, SdkError, UsageError
from llm.sdk.exchange import Cost, Exchange
from llm.sdk.plan import Plan
from llm.sdk.proxied import serve_by_proxy
from llm.sdk.recording import Recorder, open_recorder
from llm.sdk.sent import Sent, WithOwnHeaders
from llm.sdk.settings import Identity
from llm.upstream import UpstreamError
from llm.upstream_http import HttpUpstream
from llm.upstream_mock import MockUpstream
from llm.without_bodies import STORE_BODIES, STORE_BODIES_HEADER, RecordWithoutBodies, wish_of

logger = logging.getLogger(__name__)

_CONTROL: Final = re.compile("[\x00-\x08\x0a-\x1f\x7f]")
REQUEST_BYTES_MAX: Final = 256 * 1024 * 1024
_SETTINGS: Final = EngineSettings(cancel_on_disconnect=True)
_NEEDS_JSON: Final = frozenset({"/responses", "/responses/compact", "/responses/input_tokens"})
_SEAL_TIMEOUT_S: Final = 5.0


class Service:
    """Serves all calls of this process that go to one book, or to none (`ledger_url` None)."""

    def __init__(self, ledger_url: str | None) -> None:
        self.ledger_url = ledger_url
        self.background = Background()
        self._upstream = HttpUpstream(proxy_for)
        self._mock = MockUpstream()
        self._recorder: Recorder | None = None
        self._opening = asyncio.Lock()
        self._running: dict[asyncio.Task[None], Exchange] = {}
        self._is_closed = False

    def begin(self, sent: Sent, plan: Plan, identity: Identity) -> "Future[Exchange]":
        """Start a call from any thread; the future has the exchange once the head of the answer is there.

        Cancelling the future is leaving the call.
        """
        return self.background.submit(self._begin(sent, plan, identity))

    async def _begin(self, sent: Sent, plan: Plan, identity: Identity) -> Exchange:
        if self._is_closed:
            raise SdkError("the SDK was closed")
        exchange = Exchange(self.background.post)
        task = asyncio.create_task(self._serve(exchange, sent, plan, identity), name="llm call")
        self._running[task] = exchange
        task.add_done_callback(lambda done: self._running.pop(done, None))
        try:
            await exchange.begun()
        except BaseException:
            exchange.leave()
            raise
        return exchange

    async def _serve(self, exchange: Exchange, sent: Sent, plan: Plan, identity: Identity) -> None:
        try:
            _check_headers(sent)
            if plan.proxy:
                await serve_by_proxy(exchange, sent, plan, self._upstream)
            else:
                await self._serve_directly(exchange, sent, plan, identity)
        except Exception as error:  # the edge: whatever goes wrong here is the caller's to see
            if not isinstance(error, (SdkError, UpstreamError)):
                logger.exception("call %s failed", exchange.call_id or "(not begun)")
            exchange.fail(error)
        else:
            if not exchange.has_begun:
                exchange.fail(SdkError("the call ended without an answer"))

    async def _serve_directly(self, exchange: Exchange, sent: Sent, plan: Plan, identity: Identity) -> None:
        recorder = await self._opened()
        if exchange.is_gone:
            return
        request = _read(sent)
        deployments = plan.deployments()
        if len(deployments) > 1 and request.path in _NEEDS_JSON and request.model != deployments[0].model_name:
            raise UsageError("say the model by model=, not by extra_body: the fallbacks belong to it")
        keeps_bodies = plan.keeps_bodies and _may_keep_bodies(sent)
        call_id = uuid7()
        exchange.call_id = str(call_id)
        record = recorder.begin(call_id)
        if not keeps_bodies:
            record = RecordWithoutBodies(record)
        try:
            received = await recorder.received(record, request, identity)
        except BaseException as error:
            record.close()
            if isinstance(error, FencedError):
                raise RecordingError(LEDGER_UNAVAILABLE.message) from error
            raise
        first, *others = deployments
        fallbacks = {first.model_name: tuple(other.model_name for other in others)}
        router = Router(deployments, Routing(plan.num_retries, fallbacks=fallbacks), random.Random())  # noqa: S311 - spreads load, guards nothing
        upstream = WithOwnHeaders(self._upstream, sent.headers, first.api_base)
        engine = Engine(router, upstream, self._mock, recorder.prices, recorder, _SETTINGS)
        pinned = None if others else first
        call = Call(record, request, exchange, received, is_billable(sent.method, sent.path), pinned)
        exchange.cost = lambda: _cost(call)
        await engine.serve(call)

    async def _opened(self) -> Recorder:
        async with self._opening:
            if self._recorder is None:
                self._recorder = await open_recorder(self.ledger_url)
        return self._recorder

    def close(self, timeout_s: float) -> None:
        """End the calls in flight as cancelled, book them, close everything; at most `timeout_s` and a little."""
        try:
            future = self.background.submit(self._close(timeout_s))
        except RuntimeError:
            return
        with suppress(TimeoutError):
            future.result(timeout_s + _SEAL_TIMEOUT_S + 1.0)
        self.background.stop(1.0)

    async def _close(self, timeout_s: float) -> None:
        self._is_closed = True
        tasks = list(self._running)
        for exchange in list(self._running.values()):
            exchange.leave()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=timeout_s)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)
        await self._upstream.aclose()
        if self._recorder is not None:
            await self._recorder.close(_SEAL_TIMEOUT_S)


def _read(sent: Sent) -> ClientRequest:
    needs_json = sent.method == "POST" and sent.path in _NEEDS_JSON
    try:
        return read_client_request(
            sent.method,
            sent.path,
            sent.query,
            sent.headers,
            sent.body,
            limit_bytes=REQUEST_BYTES_MAX,
            needs_json=needs_json,
        )
    except (JsonError, EncodingError) as error:
        raise UsageError(f"the request cannot be sent: {error}") from error


def _check_headers(sent: Sent) -> None:
    for name, value in sent.headers:
        if _CONTROL.search(name) or _CONTROL.search(value):
            raise UsageError(f"the header {name!r:.80} holds a control character (RFC 9110, 5.5)")


def _may_keep_bodies(sent: Sent) -> bool:
    wish = wish_of(sent.headers)
    if wish is not None and wish not in STORE_BODIES:
        raise UsageError(f"{STORE_BODIES_HEADER} takes {' or '.join(STORE_BODIES)}, not {wish!r:.40}")
    return wish != "none"


def _cost(call: Call) -> Cost | None:
    charge = call.charge
    if charge is None:
        return None
    usd = charge.billed_usd + charge.estimated_usd
    # Spelled as in headers and in the book, so that the same number also looks the same.
    return Cost(None if charge.unknown else Decimal(plain(usd)), charge.state)
