"""Serves a call: picks a deployment, records, sends, relays, books; again elsewhere when that failed early enough.

The order in which things become durable is the point of this file. Bytes are moved by `relay.py`, an end is judged by
`ending.py` and written down by `booking.py`; which deployments there are is `router.py`'s.
"""

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from ledger.errors import FencedError
from ledger.events import CALL_CANCELLED, CALL_FAILED, CALL_TRUNCATED, CLIENT_DISCONNECTED
from ledger.money.book import PriceBook
from ledger.money.cost import Charge, unknown_cost
from llm.attempt import Attempt, Call
from llm.booking import CallBook, cost_header, head_of, own_head
from llm.ending import Ending, Pricing, of_failure, of_plain, of_stream
from llm.errors import (
    ANSWER_UNRECORDED,
    INTERNAL,
    LEDGER_UNAVAILABLE,
    SHUTTING_DOWN,
    STREAM_CUT,
    ApiError,
    key_refused,
    upstream_failed,
)
from llm.estimates import estimate_attempt
from llm.from_book import serve_stored, stored_answer
from llm.outcome import NOBODY, Observer
from llm.outgoing import outgoing_request
from llm.plain import PlainAnswer, read_plain, record_body, record_part
from llm.record import Bookkeeper
from llm.relay import RelaySettings, StreamRelay, is_event_stream
from llm.retrying import after_answer, after_failure, pause_s
from llm.router import Choice, Router
from llm.upstream import Upstream, UpstreamError, UpstreamRequest

logger = logging.getLogger(__name__)

_STOPPED: Final = {
    "client_left": "the client left, and the configuration says to cancel then",
    "drain_timeout": "the client left, and the upstream did not end its answer in time",
    "shutdown": "the proxy was shut down",
}
_STOPPED_TYPES: Final = {
    "client_left": CALL_CANCELLED,
    "drain_timeout": CALL_TRUNCATED,
    "shutdown": CALL_TRUNCATED,
}


@dataclass(frozen=True, slots=True)
class EngineSettings:
    """How calls are served; times in seconds."""

    relay: RelaySettings = field(default_factory=RelaySettings)
    admission_wait_s: float = 5.0
    cancel_on_disconnect: bool = False
    drain_timeout_s: float = 600.0
    #: The upstream's keys are not the client's: that one is refused is said as a fault of this proxy.
    keeps_upstream_keys: bool = False


class Engine:
    """Serves calls until `shut_down`."""

    def __init__(
        self,
        router: Router,
        upstream: Upstream,
        mock: Upstream,
        prices: Callable[[], PriceBook],
        bookkeeper: Bookkeeper,
        settings: EngineSettings,
        observer: Observer = NOBODY,
    ) -> None:
        self.router = router
        self._observer = observer
        self.settings = settings
        self._upstream = upstream
        self._mock = mock
        self._prices = prices
        self._bookkeeper = bookkeeper
        self._running: dict[Call, Attempt | None] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        #: When calls in flight are ended, by the loop's clock; None while the proxy is not being shut down.
        self._stops_at: float | None = None

    @property
    def in_flight(self) -> int:
        """Calls being served at this moment."""
        return len(self._running)

    @property
    def is_stopping(self) -> bool:
        """Whether `shut_down` was called."""
        return self._stops_at is not None

    async def serve(self, call: Call) -> None:
        """Serve one call to its end; `call.received` has been enqueued.

        A call whose task is cancelled (the server has run out of patience) stays open, for recovery to close.
        """
        self._running[call] = None
        self._idle.clear()
        book = CallBook(call, self._bookkeeper, self.settings.relay.ledger_wait_s, self._observer)
        call.client.on_gone = lambda: self._client_left(call, book)
        try:
            await self._serve(call, book)
        except FencedError:
            await self._cut(call)
        except Exception:  # the edge: a fault of this program ends one call, and the book says so
            logger.exception("call %s: the engine failed", call.call_id)
            await self._break(call, book)
        finally:
            # Else call and client would hold each other, and a body of megabytes with them, until the collector comes.
            call.client.on_gone = _nobody_cares
            del self._running[call]
            if not self._running:
                self._idle.set()
        call.record.close()
        self._observer.ended(book.outcome())

    def _client_left(self, call: Call, book: CallBook) -> None:
        if book.has_ended:
            # The end is the last that is recorded of a call, but for its cost; there is nothing left to cut short.
            return
        attempt = self._running.get(call)
        try:
            call.record.append(CLIENT_DISCONNECTED, {"phase": "waiting" if attempt is None else "answer"})
        except FencedError:
            return
        if attempt is not None:
            self._bound(call, attempt)

    def _bound(self, call: Call, attempt: Attempt) -> None:
        """Set how long an exchange may still last, now that the client has left or the proxy ends."""
        if self._stops_at is not None:
            attempt.stop("shutdown", max(0.0, self._stops_at - asyncio.get_running_loop().time()))
        if call.client.is_gone and self.settings.cancel_on_disconnect:
            attempt.stop("client_left")
        elif call.client.is_gone:
            attempt.stop("drain_timeout", self.settings.drain_timeout_s)

    async def shut_down(self, grace_s: float) -> None:
        """Let calls end for `grace_s`, then end them: what they cost is estimated, and they are booked as truncated."""
        self._stops_at = asyncio.get_running_loop().time() + grace_s
        for call, attempt in self._running.items():
            if attempt is not None:
                self._bound(call, attempt)
        try:
            async with asyncio.timeout(grace_s + 5.0):
                await self._idle.wait()
        except TimeoutError:
            logger.error("%d calls did not end; recovery will close them", self.in_flight)  # noqa: TRY400 - expected

    async def _serve(self, call: Call, book: CallBook) -> None:
        rest: Sequence[Choice] = list(self.router.plan(call.request.model, call.pinned))
        number = fallbacks = 0
        while rest:
            choice, rest = rest[0], rest[1:]
            number += 1
            fallbacks += choice.kind == "fallback"
            started_at = datetime.now(UTC)
            deployment = choice.deployment
            pricing = Pricing(
                call.request.money,
                started_at,
                self._prices(),
                deployment.deployment_id,
                call.is_billable,
                deployment.region,
            )
            attempt = Attempt(number, choice.kind, fallbacks, deployment, pricing, started_at)
            rest = await self._attempt(call, book, attempt, rest)

    async def _attempt(self, call: Call, book: CallBook, attempt: Attempt, rest: Sequence[Choice]) -> Sequence[Choice]:
        """Make one attempt; return what is to be tried after it, nothing once the call has ended."""
        outgoing = outgoing_request(call, attempt)
        book.started(attempt, outgoing)
        if not await call.record.wait_for(self.settings.admission_wait_s):
            book.refused(attempt, LEDGER_UNAVAILABLE, "ledger_unavailable")
            await call.client.answer(own_head(attempt, LEDGER_UNAVAILABLE), LEDGER_UNAVAILABLE.body())
            return ()
        self._running[call] = attempt
        relay = StreamRelay(call, attempt, self.settings.relay)
        failure = self._reason_not_to_send(call, attempt)
        plain: PlainAnswer | None = None
        guard = asyncio.timeout(None)
        if failure is None:
            sent_s = time.monotonic()
            try:
                async with guard:
                    attempt.guard = guard
                    self._bound(call, attempt)
                    plain = await self._exchange(call, book, attempt, outgoing, relay)
            except UpstreamError as error:
                failure = error
            except TimeoutError:
                if not guard.expired():
                    raise
                attempt.stopped_by = attempt.stopping_for
            finally:
                # Nothing stops what follows: it must happen once.
                attempt.guard = None
                call.upstream_us += int((time.monotonic() - sent_s) * 1_000_000)
        if relay.has_begun:
            await self._end_stream(call, book, attempt, relay)
            return ()
        if plain is None:
            return await self._end_without_answer(call, book, attempt, failure, rest)
        further = after_answer(plain.answer, attempt, rest) if self._may_go_on(call) else ()
        if not further:
            if (stored := await stored_answer(call, plain.answer.status)) is None:
                await self._end_plain(call, book, attempt, plain)
            else:
                await self._note_failed(call, book, attempt, plain)
                await serve_stored(call, book, attempt, stored)
            return ()
        await self._give_up(call, book, attempt, plain)
        await asyncio.sleep(pause_s(attempt, further[0], self.router.routing.retry_after_s, plain.answer))
        return further

    def _may_go_on(self, call: Call) -> bool:
        return not call.client.is_gone and not self.is_stopping

    def _reason_not_to_send(self, call: Call, attempt: Attempt) -> UpstreamError | None:
        """Spare the upstream what nobody waits for any more."""
        if call.client.is_gone:
            attempt.stopped_by = "client_left"
            return UpstreamError("client_left", "the client left before the request was sent", sent=False)
        if self.is_stopping and attempt.number > 1:
            attempt.stopped_by = "shutdown"
            return UpstreamError("shutdown", _STOPPED["shutdown"], sent=False)
        return None

    async def _exchange(
        self, call: Call, book: CallBook, attempt: Attempt, outgoing: UpstreamRequest, relay: StreamRelay
    ) -> PlainAnswer | None:
        """Send, and take the answer: a plain one is returned whole, a stream is relayed."""
        upstream = self._upstream if attempt.deployment.mock_response is None else self._mock
        answer = await upstream.send(outgoing)
        try:
            try:
                book.answered(attempt, answer)
            except FencedError:
                # The client is cut; the answer is read all the same, for what it cost.
                relay.is_fenced = attempt.is_cut_off = True
                await self._cut(call)
            if not is_event_stream(answer):
                attempt.answer = answer
                return await read_plain(answer, self.settings.relay.max_answer_bytes, attempt.pieces)
            relay.has_begun = True
            if not relay.is_fenced:
                await call.client.start(head_of(attempt, answer))
            await relay.run(answer)
            return None
        finally:
            await answer.aclose()

    async def _give_up(self, call: Call, book: CallBook, attempt: Attempt, plain: PlainAnswer) -> None:
        """Book an attempt whose answer the client will not see."""
        ending = of_plain(plain.answer.status, plain.decoded, attempt.pricing)
        charge = ending.charge or _nothing_known(attempt)
        try:
            await self._note_failed(call, book, attempt, plain)
            book.charged(attempt, charge, final=False)
        except FencedError:
            book.settle(attempt, charge)
            raise

    async def _note_failed(self, call: Call, book: CallBook, attempt: Attempt, plain: PlainAnswer) -> None:
        error = of_plain(plain.answer.status, plain.decoded, attempt.pricing).error or {}
        await record_body(call.record, attempt.number, plain, attempt.deployment.api_key)
        book.failed(attempt, "status", error.get("message", ""), sent=True)

    async def _end_plain(self, call: Call, book: CallBook, attempt: Attempt, plain: PlainAnswer) -> None:
        head = head_of(attempt, plain.answer)
        attempt.answer_bytes = len(plain.raw)
        attempt.first_chunk_us = call.elapsed_us()
        ending = of_plain(plain.answer.status, plain.decoded, attempt.pricing)
        charge = ending.charge or _nothing_known(attempt)
        try:
            await record_body(call.record, attempt.number, plain, attempt.deployment.api_key)
        except FencedError:
            book.settle(attempt, charge)
            raise
        own = key_refused(plain.answer.status) if self.settings.keeps_upstream_keys else None
        if own is not None:
            attempt.http_status = own.status
        book.ended(attempt, ending, charge, own)
        head.cost_usd, head.cost_state = cost_header(charge), charge.state
        if not await book.settled(attempt, charge):
            own = ANSWER_UNRECORDED
        else:
            await self._settle_what_was_read(call, ending)
        if own is None:
            await call.client.answer(head, plain.raw)
        else:
            await call.client.answer(own_head(attempt, own), own.body())

    async def _end_stream(self, call: Call, book: CallBook, attempt: Attempt, relay: StreamRelay) -> None:
        ending = of_stream(attempt.terminal, attempt.is_cut, attempt.pricing)
        if attempt.stopped_by and attempt.terminal is None:
            error = {"code": attempt.stopped_by, "message": _STOPPED[attempt.stopped_by]}
            ending = Ending(_STOPPED_TYPES[attempt.stopped_by], None, error, ending.charge)
        charge = ending.charge
        if charge is None:
            charge = await estimate_attempt(
                call.request.body, attempt, (ending.error or {}).get("message") or "the answer broke off"
            )
        if relay.is_fenced:
            book.settle(attempt, charge)
            return
        book.ended(attempt, ending, charge)
        is_durable = await book.settled(attempt, charge)
        await self._settle_what_was_read(call, ending)
        if attempt.is_cut_off:
            return
        if not is_durable:
            await call.client.send(STREAM_CUT.event(attempt.chunks))
        elif attempt.stopped_by == "shutdown" and attempt.terminal is None:
            await call.client.send(SHUTTING_DOWN.event(attempt.chunks))
        elif attempt.held:
            await call.client.send(b"".join(attempt.held))
        await call.client.end()

    async def _settle_what_was_read(self, call: Call, ending: Ending) -> None:
        """Let a read, a resumed stream or a cancellation settle what the response cost; it charges nothing itself."""
        if not call.is_billable and ending.response is not None:
            await self._bookkeeper.settle_response(ending.response)

    async def _end_without_answer(
        self, call: Call, book: CallBook, attempt: Attempt, failure: UpstreamError | None, rest: Sequence[Choice]
    ) -> Sequence[Choice]:
        """Book an attempt that got no answer, or not the whole of a plain one; return what is to be tried next."""
        if failure is None:
            failure = UpstreamError(attempt.stopped_by, _STOPPED[attempt.stopped_by], sent=True)
        charge = of_failure(failure.message, attempt.pricing, sent=failure.sent)
        try:
            await record_part(call.record, attempt)
        except FencedError:
            book.settle(attempt, charge)
            raise
        book.failed(attempt, failure.reason, failure.message, sent=failure.sent)
        further = after_failure(failure, rest) if self._may_go_on(call) and not attempt.stopped_by else ()
        if further:
            book.charged(attempt, charge, final=False)
            await asyncio.sleep(pause_s(attempt, further[0], self.router.routing.retry_after_s))
            return further
        if not attempt.stopped_by and (stored := await stored_answer(call, None)) is not None:
            await serve_stored(call, book, attempt, stored)
            return ()
        error = SHUTTING_DOWN if attempt.stopped_by == "shutdown" else upstream_failed(failure.reason, failure.message)
        facts = {"code": failure.reason, "message": failure.message}
        attempt.http_status = error.status
        kind = _STOPPED_TYPES.get(attempt.stopped_by, CALL_FAILED)
        book.ended(attempt, Ending(kind, None, facts, charge), charge, error)
        if not await book.settled(attempt, charge):
            error = LEDGER_UNAVAILABLE
        await call.client.answer(own_head(attempt, error), error.body())
        return ()

    async def _cut(self, call: Call) -> None:
        """End the client's answer after the call's journal was taken over: its record says that it was abandoned."""
        attempt = self._running.get(call)
        logger.warning("call %s: its journal was taken over; its client is cut", call.call_id)
        error = LEDGER_UNAVAILABLE if attempt is None else ANSWER_UNRECORDED
        await self._tell(call, attempt, error, STREAM_CUT)

    async def _break(self, call: Call, book: CallBook) -> None:
        """Close the record of a call that a fault of this program ended, and its client's answer."""
        try:
            book.broken(INTERNAL)
            await call.record.wait_for(self.settings.relay.ledger_wait_s)
        except FencedError:
            logger.warning("call %s: its journal was taken over as well", call.call_id)
        await self._tell(call, self._running.get(call), INTERNAL, INTERNAL)

    async def _tell(self, call: Call, attempt: Attempt | None, error: ApiError, in_stream: ApiError) -> None:
        if call.client.has_begun:
            await call.client.send(in_stream.event(0 if attempt is None else attempt.chunks))
            await call.client.end()
        else:
            await call.client.answer(own_head(attempt, error), error.body())


def _nobody_cares() -> None:
    """What happens when a client leaves whose call has ended."""


def _nothing_known(attempt: Attempt) -> Charge:
    return unknown_cost("nothing is known of its cost", request=attempt.pricing.request)
