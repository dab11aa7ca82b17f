"""What an attempt costs that ended without usage: counted from what is known of request and answer, or unknown.

Serves the engine, when a stream breaks off, and recovery, when a writer has died. Everything here blocks: use a thread.
"""

import asyncio
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import islice
from typing import Protocol, cast

from ledger.money.answer import charge_answer
from ledger.money.book import PriceBook
from ledger.money.cost import Charge, as_estimate, no_charge, unknown_cost
from ledger.money.estimate import OutputCounter, estimate_charge
from ledger.money.request import NO_REQUEST, read_request
from llm.attempt import Attempt
from llm.encodings import EncodingError, decode
from llm.json_text import JsonError, read_json
from llm.request import read_mapping
from llm.sse import data
from llm.terminal import read_terminal

_DECODED_BYTES_MAX = 64 * 1024 * 1024
_HEAD_BLOCKS = 3
_ID_CHARS_MAX = 512
#: Paths whose calls may cost something; everything else below /responses reads or cancels.
BILLABLE_PATHS = frozenset({"/responses", "/responses/compact"})


def is_billable(method: str, path: str) -> bool:
    """Tell whether a call can cost anything; `path` without the prefix under which it came."""
    return method == "POST" and path in BILLABLE_PATHS


def estimate(
    request_body: bytes,
    blocks: Iterable[bytes],
    *,
    reason: str,
    model: str,
    at: datetime,
    prices: PriceBook,
    deployment: str,
    region: str = "",
) -> Charge:
    """Price a stream that broke off, from the request's JSON and the blocks that came.

    Should a terminal event be among the blocks, its usage is the upstream's own; the charge is still an estimate, since
    nobody saw the answer end.
    """
    request = read_mapping(request_body)
    money = NO_REQUEST if request is None else read_request(request)
    counter = OutputCounter()
    any_block = False
    for block in blocks:
        any_block = True
        terminal = read_terminal(block)
        if terminal is not None and terminal.response is not None and terminal.response.get("usage") is not None:
            charged = charge_answer(
                terminal.response, request=money, at=at, prices=prices, deployment=deployment, region=region
            )
            return as_estimate(charged, f"{reason}; usage read from the recorded stream")
        try:
            event = read_json(data(block))
        except JsonError:
            continue
        if isinstance(event, dict):
            counter.feed(event)
    if request is None:
        return unknown_cost(f"{reason}; not estimated: the request is not in the book as JSON", request=money)
    if not any_block:
        return unknown_cost(f"{reason}; not estimated: nothing of an answer came", request=money)
    return estimate_charge(
        request,
        counter.tokens,
        reason=reason,
        model=model,
        at=at,
        prices=prices,
        request=money,
        deployment=deployment,
        region=region,
    )


async def estimate_attempt(request_body: bytes, attempt: Attempt, reason: str) -> Charge:
    """Price an attempt whose stream broke off, in a thread."""
    if attempt.blocks is None:
        reason = f"{reason}; not estimated: the answer was too large to keep"
        return unknown_cost(reason, request=attempt.pricing.request)
    return await asyncio.to_thread(
        estimate,
        request_body,
        attempt.blocks,
        reason=reason,
        model=attempt.deployment.upstream_model,
        at=attempt.started_at,
        prices=attempt.pricing.prices,
        deployment=attempt.deployment.deployment_id,
        region=attempt.deployment.region,
    )


class OpenCall(Protocol):
    """A call as recovery reads it (`ledger.journal.open_calls.OpenCall`)."""

    received: dict[str, object]
    request: bytes | None


class OpenAttempt(Protocol):
    """An attempt as recovery reads it (`ledger.journal.open_calls.OpenAttempt`)."""

    started_at: datetime
    facts: dict[str, object]
    http_status: int | None
    chunks: list[bytes]
    body: bytes | None
    response_id: str | None


def estimate_open_attempt(call: OpenCall, attempt: OpenAttempt, prices: PriceBook) -> Charge:
    """Price an attempt whose writer died: estimated, or unknown; zero only for what cannot cost."""
    if not is_billable(str(call.received.get("method")), str(call.received.get("path"))):
        return no_charge("a read does not charge")
    reason = "the proxy's process ended before the answer did"
    if call.received.get("store_bodies") == "none":
        return unknown_cost(f"{reason}; not estimated: bodies are not stored")
    if call.request is None:
        return unknown_cost(f"{reason}; not estimated: too large to read again")
    try:
        request = decode(call.request, str(call.received.get("content_encoding") or ""), _DECODED_BYTES_MAX)
    except EncodingError as error:
        return unknown_cost(f"{reason}; not estimated: {error}")
    model, deployment = str(attempt.facts["upstream_model"]), str(attempt.facts["deployment"])
    region = region_of_attempt(attempt.facts)
    answer = None if attempt.body is None else read_mapping(attempt.body)
    if answer is not None and answer.get("usage") is not None:
        parsed = read_mapping(request)
        money = NO_REQUEST if parsed is None else read_request(parsed)
        charged = charge_answer(
            answer, request=money, at=attempt.started_at, prices=prices, deployment=deployment, region=region
        )
        return as_estimate(charged, f"{reason}; usage read from the recorded answer")
    return estimate(
        request,
        attempt.chunks,
        reason=reason,
        model=model,
        at=attempt.started_at,
        prices=prices,
        deployment=deployment,
        region=region,
    )


def response_id_of(blocks: Iterable[bytes]) -> str | None:
    """Return the id of the response that a stream began to tell of; its first event has it."""
    for block in islice(blocks, _HEAD_BLOCKS):
        try:
            event = read_json(data(block))
        except JsonError:
            continue
        response = cast("Mapping[str, object]", event).get("response") if isinstance(event, Mapping) else None
        response_id = cast("Mapping[str, object]", response).get("id") if isinstance(response, Mapping) else None
        if isinstance(response_id, str):
            return response_id[:_ID_CHARS_MAX]
    return None


def region_of_attempt(started: Mapping[str, object]) -> str:
    """Return the region that `attempt.started` names; "" for none."""
    money = started.get("money")
    region = cast("Mapping[str, object]", money).get("region") if isinstance(money, Mapping) else None
    return region if isinstance(region, str) else ""
