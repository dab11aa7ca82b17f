"""Serves a call: picks a deployment, records, sends, relays, books; again elsewhere when that failed early enough.

The order in which things become durable is the point of this file. Bytes are moved by `relay.py`, an end is judged by
`ending.py` and written down by `booking.py`; which deployments there are is `router.py`'s.
"""

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from ledger.errors import FencedError
from ledger.events import CALL_CANCELLED, CALL_FAILED, CALL_TRUNCATED, CLIENT_DISCONNECTED
from ledger.money.book import PriceBook
from ledger.money.cost import Charge, unknown_cost
from llm import headers as header_rules
from llm.attempt import Attempt, Call
from llm.booking import CallBook, cost_header, head_of, own_head
from llm.encodings import EncodingError, decode
from llm.ending import Ending, Pricing, of_failure, of_plain, of_stream
from llm.errors import LEDGER_UNAVAILABLE, SHUTTING_DOWN, STREAM_CUT, upstream_failed
from llm.estimates import estimate
from llm.record import Bookkeeper
from llm.relay import RelaySettings, StreamRelay, is_coded, read_whole, record_body
from llm.retrying import is_worth_another, pause_s
from llm.router import Choice, Router
from llm.upstream import Upstream, UpstreamAnswer, UpstreamError, UpstreamRequest

logger = logging.getLogger(__name__)

_SUCCESS: Final = range(200, 300)
_DECODED_FACTOR_MAX: Final = 4
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
    ) -> None:
        self.router = router
        self.settings = settings
        self._upstream = upstream
        self._mock = mock
        self._prices = prices
        self._bookkeeper = bookkeeper
        self._running: dict[Call, Attempt | None] = {}
        self._idle = asyncio.Event()
        self._idle.set()
        self._stopping = False
        self._stops_at: float | None = None

    @property
    def in_flight(self) -> int:
        """Calls being served at this moment."""
        return len(self._running)

    @property
    def is_stopping(self) -> bool:
        """Whether `shut_down` was called."""
        return self._stopping

    async def serve(self, call: Call) -> None:
        """Serve one call to its end; `call.received` has been enqueued."""
        self._running[call] = None
        self._idle.clear()
        call.client.on_gone = lambda: self._client_left(call)
        try:
            await self._serve(call)
        except FencedError:
            await self._cut(call)
        finally:
            del self._running[call]
            if not self._running:
                self._idle.set()
            call.record.close()

    def _client_left(self, call: Call) -> None:
        attempt = self._running.get(call)
        try:
            call.record.append(CLIENT_DISCONNECTED, {"phase": "waiting" if attempt is None else "answer"})
        except FencedError:
            return
        if attempt is None:
            return
        if self.settings.cancel_on_disconnect:
            attempt.stop("client_left")
        else:
            attempt.stop("drain_timeout", self.settings.drain_timeout_s)

    async def shut_down(self, grace_s: float) -> None:
        """Let calls end for `grace_s`, then end them: what they cost is estimated, and they are booked as truncated."""
        self._stopping = True
        self._stops_at = asyncio.get_running_loop().time() + grace_s
        for attempt in self._running.values():
            if attempt is not None:
                attempt.stop("shutdown", grace_s)
        try:
            async with asyncio.timeout(grace_s + 5.0):
                await self._idle.wait()
        except TimeoutError:
            logger.error("%d calls did not end; recovery will close them", self.in_flight)  # noqa: TRY400 - expected

    async def _serve(self, call: Call) -> None:
        book = CallBook(call, self._bookkeeper, self.settings.relay.ledger_wait_s)
        choices = list(self.router.plan(call.request.model, call.pinned))
        for number, choice in enumerate(choices, 1):
            following = choices[number] if number < len(choices) else None
            started_at = datetime.now(UTC)
            pricing = Pricing(
                call.request.money, started_at, self._prices(), choice.deployment.deployment_id, call.is_billable
            )
            attempt = Attempt(number, choice.kind, choice.deployment, pricing, started_at)
            if not await self._attempt(call, book, attempt, following):
                return

    async def _attempt(self, call: Call, book: CallBook, attempt: Attempt, following: Choice | None) -> bool:
        """Make one attempt; return whether the next one is to be made."""
        outgoing = _outgoing(call, attempt)
        book.started(attempt, outgoing)
        if not await call.record.wait_for(self.settings.admission_wait_s):
            book.refused(attempt, LEDGER_UNAVAILABLE, "ledger_unavailable")
            await call.client.answer(own_head(attempt, LEDGER_UNAVAILABLE), LEDGER_UNAVAILABLE.body())
            return False
        self._running[call] = attempt
        relay = StreamRelay(call, attempt, self.settings.relay)
        failure: UpstreamError | None = None
        try:
            async with asyncio.timeout(None) as guard:
                attempt.guard = guard
                self._stop_early(call, attempt)
                upstream = self._upstream if attempt.deployment.mock_response is None else self._mock
                answer = await upstream.send(outgoing)
                try:
                    return await self._take_answer(call, book, attempt, answer, relay, following)
                finally:
                    await answer.aclose()
        except UpstreamError as error:
            failure = error
        except TimeoutError:
            if not attempt.stopped_by:
                raise
        finally:
            attempt.guard = None
        if relay.has_begun:
            await self._end_stream(call, book, attempt, relay)
            return False
        return await self._end_without_answer(call, book, attempt, failure, following)

    def _stop_early(self, call: Call, attempt: Attempt) -> None:
        if self._stops_at is not None:
            attempt.stop("shutdown", max(0.0, self._stops_at - asyncio.get_running_loop().time()))
        elif call.client.is_gone and self.settings.cancel_on_disconnect:
            attempt.stop("client_left")

    async def _take_answer(
        self,
        call: Call,
        book: CallBook,
        attempt: Attempt,
        answer: UpstreamAnswer,
        relay: StreamRelay,
        following: Choice | None,
    ) -> bool:
        book.answered(attempt, answer)
        may_go_on = not call.client.is_gone and not self._stopping
        if following is not None and may_go_on and is_worth_another(answer, attempt, following):
            await self._give_up(call, book, attempt, answer)
            await asyncio.sleep(pause_s(attempt, following, self.router.routing.retry_after_s, answer))
            return True
        if not _is_event_stream(answer):
            await self._end_plain(call, book, attempt, answer)
            return False
        relay.has_begun = True
        await call.client.start(head_of(attempt, answer))
        await relay.run(answer)
        await self._end_stream(call, book, attempt, relay)
        return False

    async def _give_up(self, call: Call, book: CallBook, attempt: Attempt, answer: UpstreamAnswer) -> None:
        """Book an attempt whose answer the client will not see."""
        raw, decoded, coding = await self._read(answer)
        attempt.disarm()
        await record_body(call.record, attempt.number, raw, decoded, coding)
        ending = of_plain(answer.status, decoded, attempt.pricing)
        book.failed(attempt, "status", (ending.error or {}).get("message", ""), sent=True)
        book.charged(attempt, ending.charge or _nothing_known(attempt), final=False)

    async def _read(self, answer: UpstreamAnswer) -> tuple[bytes, bytes | None, str]:
        """Read a plain answer: as it came, decoded (None where that failed), and its coding ("" for none)."""
        limit = self.settings.relay.max_answer_bytes
        raw = await read_whole(answer, limit)
        coding = header_rules.find(answer.headers, "content-encoding")
        if not is_coded(coding):
            return raw, raw, ""
        try:
            return raw, decode(raw, coding, limit * _DECODED_FACTOR_MAX), coding
        except EncodingError:
            return raw, None, coding

    async def _end_plain(self, call: Call, book: CallBook, attempt: Attempt, answer: UpstreamAnswer) -> None:
        raw, decoded, coding = await self._read(answer)
        attempt.disarm()
        head = head_of(attempt, answer)
        attempt.answer_bytes = len(raw)
        attempt.first_chunk_us = call.elapsed_us()
        await record_body(call.record, attempt.number, raw, decoded, coding)
        ending = of_plain(answer.status, decoded, attempt.pricing)
        charge = ending.charge or _nothing_known(attempt)
        book.ended(attempt, ending, charge)
        head.cost_usd = cost_header(charge)
        if await book.settled(attempt, charge):
            await call.client.answer(head, raw)
        else:
            await call.client.answer(own_head(attempt, LEDGER_UNAVAILABLE), LEDGER_UNAVAILABLE.body())

    async def _end_stream(self, call: Call, book: CallBook, attempt: Attempt, relay: StreamRelay) -> None:
        attempt.disarm()
        ending = of_stream(attempt.terminal, attempt.is_cut, attempt.pricing)
        if attempt.stopped_by and attempt.terminal is None:
            error = {"code": attempt.stopped_by, "message": _STOPPED[attempt.stopped_by]}
            ending = Ending(_STOPPED_TYPES[attempt.stopped_by], None, error, ending.charge)
        charge = ending.charge
        if charge is None:
            charge = await _estimated(call, attempt, (ending.error or {}).get("message") or "the answer broke off")
        if relay.is_fenced:
            book.settle(attempt, charge)
            return
        book.ended(attempt, ending, charge)
        is_durable = await book.settled(attempt, charge)
        if relay.is_cut_off:
            return
        if not is_durable:
            await call.client.send(STREAM_CUT.event(attempt.chunks))
        elif attempt.stopped_by == "shutdown" and attempt.terminal is None:
            await call.client.send(SHUTTING_DOWN.event(attempt.chunks))
        elif attempt.held:
            await call.client.send(b"".join(attempt.held))
        await call.client.end()

    async def _end_without_answer(
        self, call: Call, book: CallBook, attempt: Attempt, failure: UpstreamError | None, following: Choice | None
    ) -> bool:
        """Book an attempt that got no answer, or not the whole of a plain one; return whether to go on."""
        if failure is None:
            failure = UpstreamError(attempt.stopped_by, _STOPPED[attempt.stopped_by], sent=True)
        charge = of_failure(failure.message, attempt.pricing, sent=failure.sent)
        book.failed(attempt, failure.reason, failure.message, sent=failure.sent)
        may_go_on = not call.client.is_gone and not self._stopping and not attempt.stopped_by
        if following is not None and may_go_on:
            book.charged(attempt, charge, final=False)
            await asyncio.sleep(pause_s(attempt, following, self.router.routing.retry_after_s))
            return True
        error = SHUTTING_DOWN if attempt.stopped_by == "shutdown" else upstream_failed(failure.reason, failure.message)
        facts = {"code": failure.reason, "message": failure.message}
        attempt.http_status = error.status
        book.ended(
            attempt, Ending(_STOPPED_TYPES.get(attempt.stopped_by, CALL_FAILED), None, facts, charge), charge, error
        )
        if not await book.settled(attempt, charge):
            error = LEDGER_UNAVAILABLE
        await call.client.answer(own_head(attempt, error), error.body())
        return False

    async def _cut(self, call: Call) -> None:
        """End the client's answer after the call's journal was taken over: its record says that it was abandoned."""
        attempt = self._running.get(call)
        logger.warning("call %s: its journal was taken over; its client is cut", call.call_id)
        if call.client.has_begun:
            await call.client.send(STREAM_CUT.event(0 if attempt is None else attempt.chunks))
            await call.client.end()
        else:
            await call.client.answer(own_head(attempt, LEDGER_UNAVAILABLE), LEDGER_UNAVAILABLE.body())


def _outgoing(call: Call, attempt: Attempt) -> UpstreamRequest:
    request, deployment = call.request, attempt.deployment
    body, coding = request.upstream_body(deployment.upstream_model)
    return UpstreamRequest(
        deployment=deployment,
        method=request.method,
        path=request.path,
        query=request.query,
        headers=header_rules.to_upstream(
            request.headers, api_key=deployment.api_key, content_encoding=coding, is_stream=request.is_stream
        ),
        body=body,
        is_stream=request.is_stream,
    )


async def _estimated(call: Call, attempt: Attempt, reason: str) -> Charge:
    if attempt.blocks is None:
        reason = f"{reason}; not estimated: the answer was too large to keep"
        return unknown_cost(reason, request=attempt.pricing.request)
    return await asyncio.to_thread(
        estimate,
        call.request.body,
        attempt.blocks,
        reason=reason,
        model=attempt.deployment.upstream_model,
        at=attempt.started_at,
        prices=attempt.pricing.prices,
        deployment=attempt.deployment.deployment_id,
    )


def _nothing_known(attempt: Attempt) -> Charge:
    return unknown_cost("nothing is known of its cost", request=attempt.pricing.request)


def _is_event_stream(answer: UpstreamAnswer) -> bool:
    """Tell whether an answer is to be relayed chunk by chunk."""
    kind = header_rules.find(answer.headers, "content-type").lower()
    return answer.status in _SUCCESS and kind.startswith("text/event-stream")
