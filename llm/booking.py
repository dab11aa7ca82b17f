"""What the engine writes into the book about one call: its attempts, its end, its cost (shapes: docs/EVENTS.md).

The order in which the engine calls these is the engine's affair; here is what each of them says.
"""

import time
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from ledger.errors import FencedError
from ledger.events import (
    ATTEMPT_ANSWERED,
    ATTEMPT_FAILED,
    ATTEMPT_STARTED,
    CALL_ABANDONED,
    CALL_FAILED,
    CALL_REJECTED,
    COST_RECORDED,
)
from ledger.facts import cost_recorded, dimensions
from ledger.money.cost import Charge, no_charge, unknown_cost
from ledger.money.exact import plain
from llm import headers as header_rules
from llm.attempt import Attempt, Call
from llm.client import Head
from llm.ending import Ending, text_fact
from llm.errors import LEDGER_UNAVAILABLE, ApiError
from llm.estimates import response_id_of
from llm.masking import mask_facts, mask_headers, mask_location, mask_query, mask_text
from llm.outcome import Observer, Outcome
from llm.record import Bookkeeper
from llm.upstream import UpstreamAnswer, UpstreamRequest

_MESSAGE_CHARS_MAX: Final = 1_000


class CallBook:
    """Writes one call's story. Every method may raise `FencedError`."""

    def __init__(self, call: Call, bookkeeper: Bookkeeper, wait_s: float, observer: Observer) -> None:
        self._call = call
        self._record = call.record
        self._bookkeeper = bookkeeper
        self._wait_s = wait_s
        self._observer = observer
        #: The attempt that was written down and has no charge yet.
        self._open: Attempt | None = None
        #: The end of the call is enqueued: nothing more is recorded of it, but for its cost.
        self.has_ended = False
        #: The attempt that was written down last, and what it was charged.
        self.last: Attempt | None = None
        self.charge: Charge | None = None
        #: How the call ends in the book, and with which status: as recovery has it, unless the call itself says so.
        self.terminal = CALL_ABANDONED
        self.status: int | None = None

    def started(self, attempt: Attempt, outgoing: UpstreamRequest) -> None:
        """Enqueue `attempt.started`, which must be durable before the upstream sees a byte."""
        deployment = attempt.deployment
        facts = {
            "attempt": attempt.number,
            "kind": attempt.kind,
            "deployment": deployment.deployment_id,
            "model": deployment.model_name,
            "upstream_model": deployment.upstream_model,
            "url": "mock" if deployment.mock_response is not None else _shown_url(outgoing),
            "sent_sha256": sha256(outgoing.body).hexdigest(),
            "sent_bytes": len(outgoing.body),
            "settles": "answer",
            "money": attempt.pricing.to_facts(),
            "held": [],
        }
        self._record.append(ATTEMPT_STARTED, facts)
        self._open = self.last = attempt

    def answered(self, attempt: Attempt, answer: UpstreamAnswer) -> None:
        """Enqueue `attempt.answered`: the head of the answer."""
        attempt.http_status = answer.status
        key = attempt.deployment.api_key
        facts = {
            "attempt": attempt.number,
            "status": answer.status,
            "headers": mask_headers([*map(self._shown, header_rules.of_answer(answer.headers))], key),
            "upstream_request_id": mask_text(header_rules.find(answer.headers, "x-request-id"), key),
            "latency_us": since_us(attempt),
        }
        self._record.append(ATTEMPT_ANSWERED, facts)

    def _shown(self, header: list[str]) -> list[str]:
        name, value = header
        if name != "location":
            return header
        return [name, mask_location(value, self._call.request.query, self._call.received["query"])]

    def failed(self, attempt: Attempt, reason: str, message: str, *, sent: bool) -> None:
        """Enqueue `attempt.failed`."""
        facts = {
            "attempt": attempt.number,
            "reason": reason,
            "message": mask_text(message, attempt.deployment.api_key)[:_MESSAGE_CHARS_MAX],
            "status": attempt.http_status,
            "sent": sent,
        }
        self._record.append(ATTEMPT_FAILED, facts)

    def charged(self, attempt: Attempt, charge: Charge, *, final: bool) -> None:
        """Enqueue `cost.recorded`, the one charge of this attempt."""
        dims = dimensions(
            self._call.received,
            journal_id=self._record.journal_id,
            received_at=self._record.received_at,
            deployment=attempt.deployment.deployment_id,
        )
        facts = cost_recorded(charge, attempt=attempt.number, final=final, dims=dims)
        self._record.append(COST_RECORDED, mask_facts(facts, attempt.deployment.api_key))
        self._note(charge)
        if final:
            self._call.charge = charge

    def _note(self, charge: Charge) -> None:
        self._open = None
        self.charge = charge
        self._observer.charged(self._call.received["model"], charge)

    def _note_end(self, terminal: str, status: int | None) -> None:
        self.has_ended = True
        self.terminal = terminal
        self.status = status

    def ended(
        self,
        attempt: Attempt,
        ending: Ending,
        charge: Charge,
        own_answer: ApiError | None = None,
        *,
        source: UUID | None = None,
    ) -> None:
        """Enqueue the call's terminal event and its cost, adjacent and in one flush.

        `source`: the call whose recorded answer was given, where no upstream gave one.
        """
        response = ending.response
        facts: dict[str, Any] = {
            "attempt": attempt.number,
            "attempts": attempt.number,
            "http_status": attempt.http_status,
            "response_id": text_fact(response, "id") or response_id_of(attempt.head_blocks),
            "response_status": text_fact(response, "status"),
            "model": text_fact(response, "model"),
            "tier": text_fact(response, "service_tier"),
            "chunks": attempt.chunks,
            "answer_bytes": attempt.answer_bytes,
            "first_chunk_us": attempt.first_chunk_us,
            "duration_us": self._call.elapsed_us(),
            "delivered": not (self._call.client.is_gone or attempt.is_cut_off),
            "error": ending.error,
        }
        if source is not None:
            facts |= {"served_from": "book", "source_call_id": str(source)}
        self._note_end(ending.type, attempt.http_status)
        facts = mask_facts(facts, attempt.deployment.api_key)
        try:
            self._record.append(ending.type, facts, None if own_answer is None else own_answer.body(), with_next=True)
            self.charged(attempt, charge, final=True)
        except FencedError:
            self.settle(attempt, charge)
            raise

    def refused(self, attempt: Attempt, error: ApiError, reason: str) -> None:
        """Enqueue the end of a call that was not forwarded although its attempt had been written down."""
        self.failed(attempt, reason, "not recorded in time", sent=False)
        self.charged(attempt, no_charge("never sent: the ledger was not available"), final=True)
        facts = {"status": error.status, "error": error.facts(), "reason": reason}
        self._record.append(CALL_REJECTED, facts, error.body())
        self._note_end(CALL_REJECTED, error.status)

    def broken(self, error: ApiError) -> None:
        """Enqueue the end of a call that a fault of this program ended, unless it has one already."""
        if self.has_ended:
            return
        attempt = self._open
        if attempt is None:
            facts = {"status": error.status, "error": error.facts(), "reason": error.code or ""}
            self._record.append(CALL_REJECTED, facts, error.body())
            self._note_end(CALL_REJECTED, error.status)
            return
        reason = "the proxy failed in the middle of this attempt"
        charge = unknown_cost(reason, request=attempt.pricing.request)
        ending = Ending(CALL_FAILED, None, {"code": error.code or "", "message": reason}, charge)
        self.ended(attempt, ending, charge, error)

    async def settled(self, attempt: Attempt, charge: Charge) -> bool:
        """Wait until the end is durable; return whether it is, within the bound that a client may be kept waiting."""
        try:
            return await self._record.wait_for(self._wait_s)
        except FencedError:
            self.settle(attempt, charge)
            raise

    def settle(self, attempt: Attempt, charge: Charge) -> None:
        """Have the real cost booked as a correction: recovery has closed this call with what it could know."""
        self.terminal = CALL_ABANDONED
        self._call.charge = charge
        if self._open is attempt:
            self._note(charge)
        self._bookkeeper.settle_fenced(self._record, attempt.number, charge)

    def outcome(self) -> Outcome:
        """Return how the call went, once it has ended."""
        call, attempt = self._call, self.last
        return Outcome(
            call_id=call.call_id,
            key_id=call.received["key_id"],
            model=call.received["model"],
            deployment_id="" if attempt is None else attempt.deployment.deployment_id,
            is_stream=call.request.is_stream,
            terminal=self.terminal,
            status=self.status,
            charge=self.charge,
            attempts=0 if attempt is None else attempt.number,
            chunks=0 if attempt is None else attempt.chunks,
            request_bytes=len(call.request.raw_body),
            answer_bytes=0 if attempt is None else attempt.answer_bytes,
            first_chunk_us=None if attempt is None else attempt.first_chunk_us,
            upstream_us=call.upstream_us,
            duration_us=call.elapsed_us(),
        )


def _shown_url(outgoing: UpstreamRequest) -> str:
    """Return where a request goes, without credentials that the address or the query may hold."""
    query = mask_query(outgoing.query)
    return f"{outgoing.deployment.shown_base}{outgoing.path}{'?' if query else ''}{query}"


def head_of(attempt: Attempt, answer: UpstreamAnswer) -> Head:
    """Return the head of an upstream's answer as the client gets it."""
    head = Head(answer.status, header_rules.to_client(answer.headers), upstream_us=since_us(attempt))
    return _placed(head, attempt)


def own_head(attempt: Attempt | None, error: ApiError | None) -> Head:
    """Return the head of an answer that the proxy gives itself."""
    shown = error or LEDGER_UNAVAILABLE
    head = Head(shown.status, shown.headers(), error=error)
    return head if attempt is None else _placed(head, attempt)


def _placed(head: Head, attempt: Attempt) -> Head:
    head.deployment_id = attempt.deployment.deployment_id
    head.fallbacks = attempt.fallbacks
    head.retries = attempt.number - 1 - attempt.fallbacks
    return head


def since_us(attempt: Attempt) -> int:
    """Return the microseconds since the attempt started."""
    return int((time.monotonic() - attempt.started_s) * 1_000_000)


def cost_header(charge: Charge) -> str | None:
    """Return what `x-llm-response-cost` says; None where the cost is not known."""
    return None if charge.unknown else plain(charge.billed_usd + charge.estimated_usd)
