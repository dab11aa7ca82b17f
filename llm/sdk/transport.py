"""Between the `openai` package and the SDK's thread: its HTTP client's transport, which sends nothing by itself.

The package makes requests and reads answers as it always does; here each request is handed to `service.py`, and what
comes back is an answer's bytes. So types, errors and streams are the package's own.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Final, cast

import httpx2

from llm.errors import LEDGER_UNAVAILABLE
from llm.sdk.background import Background
from llm.sdk.errors import RecordingError
from llm.sdk.exchange import Exchange
from llm.sdk.plan import Plan
from llm.sdk.sent import Sent
from llm.sdk.service import Service
from llm.sdk.settings import current
from llm.upstream import Headers, UpstreamError

EXCHANGE: Final = "llm_exchange"
_UPSTREAM: Final = "upstream_"


class Bridge(httpx2.BaseTransport):
    """For the synchronous client: waits in the caller's thread."""

    def __init__(self, plan: Plan, service: Callable[[], Service]) -> None:
        self._plan = plan
        self._service = service

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        """Have a request served; returns with the head of the answer."""
        request.read()
        service = self._service()
        future = service.begin(sent_of(request, self._plan), self._plan, current().identity)
        try:
            exchange = future.result()
        except Exception as error:
            raise _as_request_error(error, request) from error
        except BaseException:
            future.cancel()
            raise
        return _response(exchange, request, _Pieces(service.background, exchange, request))


class AsyncBridge(httpx2.AsyncBaseTransport):
    """For the asynchronous client: waits in the caller's loop, whichever that is."""

    def __init__(self, plan: Plan, service: Callable[[], Service]) -> None:
        self._plan = plan
        self._service = service

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Have a request served; returns with the head of the answer. Cancelling it leaves the call."""
        await request.aread()
        # The first call opens the service; a thread and a socket pair, nothing that waits.
        service = self._service()
        future = service.begin(sent_of(request, self._plan), self._plan, current().identity)
        try:
            exchange = await asyncio.wrap_future(future)
        except Exception as error:
            raise _as_request_error(error, request) from error
        return _response(exchange, request, _AsyncPieces(service.background, exchange, request))


class _Leaving:
    """The caller's hold on a stream: whoever lets go of it, by closing or by forgetting it, has left the call."""

    def __init__(self, background: Background, exchange: Exchange, request: httpx2.Request) -> None:
        self._background = background
        self._exchange = exchange
        self._request = request
        self._has_left = False

    def _leave(self) -> None:
        if not self._has_left:
            self._has_left = True
            self._exchange.let_go()

    def __del__(self) -> None:
        self._leave()


class _Pieces(_Leaving, httpx2.SyncByteStream):
    def __iter__(self) -> Iterator[bytes]:
        while piece := self._take():
            yield piece

    def _take(self) -> bytes:
        future = self._background.submit(self._exchange.take())
        try:
            return future.result()
        except Exception as error:
            raise _as_request_error(error, self._request) from error
        except BaseException:
            future.cancel()
            raise

    def close(self) -> None:
        self._leave()


class _AsyncPieces(_Leaving, httpx2.AsyncByteStream):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        while piece := await self._take():
            yield piece

    async def _take(self) -> bytes:
        try:
            return await asyncio.wrap_future(self._background.submit(self._exchange.take()))
        except Exception as error:
            raise _as_request_error(error, self._request) from error

    async def aclose(self) -> None:
        self._leave()


def sent_of(request: httpx2.Request, plan: Plan) -> Sent:
    """Return a request as the engine takes it: its path below the base of the plan's first target."""
    base = httpx2.URL(plan.targets[0].api_base).raw_path.rstrip(b"/")
    path, _, query = request.url.raw_path.partition(b"?")
    headers = [(name.decode("latin-1").lower(), value.decode("latin-1")) for name, value in request.headers.raw]
    return Sent(
        request.method,
        path.removeprefix(base).decode("latin-1"),
        query.decode("latin-1"),
        headers,
        request.content,
    )


def exchange_of(response: httpx2.Response) -> Exchange:
    """Return the exchange that an answer came by."""
    return cast("Exchange", response.extensions[EXCHANGE])


def _response(
    exchange: Exchange, request: httpx2.Request, pieces: httpx2.SyncByteStream | httpx2.AsyncByteStream
) -> httpx2.Response:
    head = exchange.head
    if head is None:
        raise AssertionError("an answer has begun without a head")
    error = head.error
    if error is not None and error is LEDGER_UNAVAILABLE:
        raise RecordingError(error.message)
    if error is not None and (error.code or "").startswith(_UPSTREAM):
        reason = (error.code or "").removeprefix(_UPSTREAM)
        raise _as_request_error(UpstreamError(reason, error.message, sent=True), request)
    stream = pieces if exchange.body is None else httpx2.ByteStream(exchange.body)
    return httpx2.Response(
        head.status, headers=_stamped(exchange, head.headers), stream=stream, extensions={EXCHANGE: exchange}
    )


def _stamped(exchange: Exchange, headers: Headers) -> Headers:
    """Add what a proxy would say in its headers of a call that the engine served here."""
    head = exchange.head
    if head is None or any(name == "x-llm-call-id" for name, _ in headers):
        return headers
    own = [("x-llm-call-id", exchange.call_id)] if exchange.call_id else []
    if head.deployment_id:
        own += [
            ("x-llm-model-id", head.deployment_id),
            ("x-llm-attempted-retries", str(head.retries)),
            ("x-llm-attempted-fallbacks", str(head.fallbacks)),
        ]
    if head.cost_usd is not None:
        own.append(("x-llm-response-cost", head.cost_usd))
    if head.cost_state:
        own.append(("x-llm-response-cost-state", head.cost_state))
    return [*headers, *own]


def _as_request_error(error: Exception, request: httpx2.Request) -> Exception:
    """Return what the `openai` package expects of a transport that got no answer; other errors as they are."""
    if not isinstance(error, UpstreamError):
        return error
    if error.reason == "timeout":
        return httpx2.ReadTimeout(error.message, request=request)
    if error.reason == "connect":
        return httpx2.ConnectError(error.message, request=request)
    return httpx2.RemoteProtocolError(error.message, request=request)
