"""A call that goes to a proxy: sent as it is, relayed as it comes. The proxy records it, retries it and prices it.

What it cost stands in the answer's headers. A stream's head is sent before anybody knows; there the proxy's book is
asked once the stream has ended, so that it is the book's number, whatever prices the proxy has.
"""

import asyncio
import json
from decimal import Decimal, InvalidOperation
from typing import Any, Final

from ledger.money.exact import plain
from llm import headers as header_rules
from llm.client import Head
from llm.deployment import Deployment
from llm.sdk.exchange import Cost, Exchange
from llm.sdk.plan import Plan
from llm.sdk.sent import Sent
from llm.upstream import Headers, Upstream, UpstreamAnswer, UpstreamError, UpstreamRequest
from llm.without_bodies import STORE_BODIES_HEADER

_HOP_BY_HOP: Final = frozenset({"host", "connection", "content-length", "transfer-encoding", "keep-alive"})
_ANSWER_BYTES_MAX: Final = 256 * 1024 * 1024
_ASK_S: Final = 3.0
_OK: Final = 200


async def serve_by_proxy(exchange: Exchange, sent: Sent, plan: Plan, upstream: Upstream) -> None:
    """Send a call to the plan's proxy and relay the answer.

    Raises:
        UpstreamError: the proxy cannot be reached, or broke off.
    """
    task = asyncio.current_task()
    if task is not None:
        exchange.on_gone = lambda: _cancel(task)
    (deployment,) = plan.deployments()
    headers = sent.headers if plan.keeps_bodies else [*sent.headers, (STORE_BODIES_HEADER, "none")]
    answer = await upstream.send(_request(deployment, sent.method, sent.path, sent.query, headers, sent.body))
    try:
        head = Head(answer.status, _end_to_end(answer.headers))
        exchange.call_id = header_rules.find(answer.headers, "x-llm-call-id")
        if header_rules.find(answer.headers, "content-type").startswith("text/event-stream"):
            await exchange.start(head)
            async for piece in answer.pieces():
                await exchange.send(piece)
            if exchange.call_id:
                cost = await _ask(exchange.call_id, plan, upstream, sent.headers)
                exchange.cost = lambda: cost
            await exchange.end()
        else:
            body = await _read(answer)
            cost = _cost_of_headers(answer)
            exchange.cost = lambda: cost
            await exchange.answer(head, body)
    finally:
        exchange.on_gone = _nothing
        await answer.aclose()


def _nothing() -> None:
    """What happens when the caller leaves a call that has ended."""


def _cancel(task: asyncio.Task[Any]) -> None:
    task.cancel()


def _request(
    deployment: Deployment, method: str, path: str, query: str, headers: Headers, body: bytes
) -> UpstreamRequest:
    return UpstreamRequest(deployment, method, path, query, _end_to_end(headers), body, is_stream=False)


def _end_to_end(headers: Headers) -> Headers:
    return [(lower, value) for name, value in headers if (lower := name.lower()) not in _HOP_BY_HOP]


async def _read(answer: UpstreamAnswer) -> bytes:
    pieces: list[bytes] = []
    size = 0
    async for piece in answer.pieces():
        size += len(piece)
        if size > _ANSWER_BYTES_MAX:
            raise UpstreamError("too_large", f"the answer is larger than {_ANSWER_BYTES_MAX} bytes", sent=True)
        pieces.append(piece)
    return b"".join(pieces)


def _cost_of_headers(answer: UpstreamAnswer) -> Cost | None:
    """Return what a plain answer says that it cost; None where it says nothing, as an answer of the proxy's own."""
    usd = _decimal(header_rules.find(answer.headers, "x-llm-response-cost"))
    state = header_rules.find(answer.headers, "x-llm-response-cost-state")
    return Cost(usd, state) if state else None


async def _ask(call_id: str, plan: Plan, upstream: Upstream, headers: Headers) -> Cost | None:
    """Ask the proxy's book for the cost of a call that has ended; None where it does not say so in time."""
    asked = Deployment("", "", "", plan.proxy, "", timeout_s=_ASK_S)
    credentials = [(name, value) for name, value in headers if name == "authorization"]
    request = _request(asked, "GET", f"/ledger/calls/{call_id}", "", credentials, b"")
    try:
        async with asyncio.timeout(_ASK_S):
            answer = await upstream.send(request)
            try:
                body = await _read(answer)
            finally:
                await answer.aclose()
    except (UpstreamError, TimeoutError):
        return None
    if answer.status != _OK:
        return None
    try:
        return _cost_of_book(json.loads(body))
    except (ValueError, LookupError, TypeError, AttributeError, ArithmeticError):
        # Something else than a proxy of this kind answered: the stream that came from there is whole all the same.
        return None


def _cost_of_book(row: Any) -> Cost | None:
    """Return the cost of the attempt that ended a call, as the event says it."""
    for cost in reversed(row.get("costs") or []):
        facts: dict[str, Any] = cost.get("facts", cost)
        if facts.get("final"):
            usd = Decimal(facts["billed_usd"]) + Decimal(facts["estimated_usd"])
            return Cost(None if facts["unknown"] else Decimal(plain(usd)), facts["state"])
    return None


def _decimal(text: str) -> Decimal | None:
    try:
        return Decimal(text) if text else None
    except InvalidOperation:
        return None
