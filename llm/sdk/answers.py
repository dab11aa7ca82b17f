"""What the SDK returns: the `openai` package's own types, which also say what they cost and under which id.

Loads the `openai` package; `calling.py` makes these.
"""

import atexit
from collections.abc import AsyncIterator, Iterator
from copy import copy
from decimal import Decimal
from types import TracebackType
from typing import Any, Final, Generic, NoReturn, Self, TypeVar, cast
from weakref import WeakSet

import openai
from openai.types.responses import Response as OpenAIResponse
from openai.types.responses import ResponseStreamEvent

from llm.sdk.exchange import Exchange

_TERMINALS: Final = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled", "error"}
)
_Events = TypeVar("_Events")


class Response(OpenAIResponse):
    """A Response as the API gave it, unknown fields included; what is said here beside it is in no dump of it."""

    @property
    def call_id(self) -> str:
        """The call's id: in the book, in logs, and in a proxy's `x-llm-call-id`."""
        exchange = self._exchange
        return "" if exchange is None else exchange.call_id

    @property
    def cost_usd(self) -> Decimal | None:
        """What the call cost; None where that is not known, which is not zero. Reads and cancellations cost nothing."""
        return _usd(self._exchange)

    @property
    def cost_state(self) -> str | None:
        """`billed` (the upstream's usage at a published price), `estimated`, `unknown`; None when nobody could say."""
        return _state(self._exchange)

    @property
    def _exchange(self) -> Exchange | None:
        return self.__dict__.get("_llm_exchange")


def stamped(response: Response, exchange: Exchange) -> Response:
    """Have a response say what its exchange knows."""
    object.__setattr__(response, "_llm_exchange", exchange)
    return response


class _Streamed(Generic[_Events]):
    """What both kinds of stream know."""

    def __init__(self, events: _Events, exchange: Exchange, request: Any) -> None:
        self._events = events
        self._exchange = exchange
        self._request = request
        self._terminal: Any = None
        self._is_closed = False
        self._is_over = False

    def __del__(self) -> None:
        # The package's stream and its generator hold each other, so that forgetting them would close nothing for long.
        if not self._is_over:
            self._exchange.let_go()

    @property
    def call_id(self) -> str:
        """The call's id, known from the beginning."""
        return self._exchange.call_id

    @property
    def response(self) -> Response | None:
        """The whole Response, once the event that carries it has come; None before, and for a stream that failed."""
        carried: OpenAIResponse | None = getattr(self._terminal, "response", None)
        return None if carried is None else stamped(_again(carried), self._exchange)

    @property
    def cost_usd(self) -> Decimal | None:
        """What the call cost, once the stream has been read to its end; None before, and where it is not known."""
        return _usd(self._exchange) if self._is_over else None

    @property
    def cost_state(self) -> str | None:
        """`billed`, `estimated` or `unknown`, once the stream has been read to its end; None before."""
        return _state(self._exchange) if self._is_over else None

    def _seen(self, event: ResponseStreamEvent) -> ResponseStreamEvent:
        if event.type in _TERMINALS:
            self._terminal = event
        return event

    def _end(self) -> None:
        """Note the end; a stream that nobody closed and that had no terminal event was broken off."""
        is_first, self._is_over = not self._is_over, True
        if is_first and self._terminal is None and not self._is_closed:
            _broken_off(self._request)


class ResponseStream(_Streamed[openai.Stream[ResponseStreamEvent]]):
    """A stream of the API's events. Read it to its end, or close it: closing ends the call at the upstream, too."""

    def __init__(self, events: openai.Stream[ResponseStreamEvent], exchange: Exchange, request: Any) -> None:
        super().__init__(events, exchange, request)
        _unfinished.add(self)

    def __iter__(self) -> Iterator[ResponseStreamEvent]:
        return self

    def __next__(self) -> ResponseStreamEvent:
        """Return the next event.

        Raises:
            openai.APIConnectionError: the stream broke off before its terminal event.
            openai.APIError: the API says in the stream that it failed.
        """
        if self._is_closed:
            raise StopIteration
        try:
            return self._seen(next(self._events))
        except StopIteration:
            self._end()
            raise
        except Exception:
            self._is_over = True
            raise

    def close(self) -> None:
        """Want nothing more of it."""
        self._is_closed = self._is_over = True
        self._events.close()

    def let_go(self) -> None:
        """Give up the package's generator while it can still end itself: not after the interpreter has begun to."""
        self.close()
        self._events = cast("Any", iter(()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class AsyncResponseStream(_Streamed[openai.AsyncStream[ResponseStreamEvent]]):
    """The same for `async for`."""

    def __aiter__(self) -> AsyncIterator[ResponseStreamEvent]:
        return self

    async def __anext__(self) -> ResponseStreamEvent:
        """Return the next event; see `ResponseStream`."""
        if self._is_closed:
            raise StopAsyncIteration
        try:
            return self._seen(await self._events.__anext__())
        except StopAsyncIteration:
            self._end()
            raise
        except Exception:
            self._is_over = True
            raise

    async def close(self) -> None:
        """Want nothing more of it."""
        self._is_closed = self._is_over = True
        await self._events.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


_unfinished: WeakSet[ResponseStream] = WeakSet()


@atexit.register
def _let_go_of_streams() -> None:
    for stream in list(_unfinished):
        stream.let_go()


def _again(carried: OpenAIResponse) -> Response:
    """Return the same Response as our type: its very parts, since to write and read it again could lose some."""
    made = Response.__new__(Response)
    for name in ("__dict__", "__pydantic_extra__", "__pydantic_fields_set__", "__pydantic_private__"):
        object.__setattr__(made, name, copy(getattr(carried, name)))
    return made


def _broken_off(request: Any) -> NoReturn:
    raise openai.APIConnectionError(message="The stream ended without its terminal event.", request=request)


def _usd(exchange: Exchange | None) -> Decimal | None:
    cost = None if exchange is None else exchange.cost()
    return None if cost is None else cost.usd


def _state(exchange: Exchange | None) -> str | None:
    cost = None if exchange is None else exchange.cost()
    return None if cost is None else cost.state
