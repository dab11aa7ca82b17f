"""How an attempt ended and what it costs: from what was seen of its answer to the terminal event and the charge.

Pure. `relay.py` collects what is seen; `estimates.py` counts tokens where no usage came.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, NamedTuple

from ledger.events import CALL_CANCELLED, CALL_COMPLETED, CALL_FAILED, CALL_TRUNCATED
from ledger.facts import terminal_of
from ledger.money.answer import charge_answer
from ledger.money.book import PriceBook
from ledger.money.cost import Charge, no_charge, unknown_cost
from ledger.money.request import RequestFacts
from llm.json_text import JsonError, read_json_quickly
from llm.terminal import ErrorFacts, TerminalEvent, read_error

_OK: Final = range(200, 300)
_SERVER_ERROR: Final = 500
#: In-stream errors that say that the work was refused: nothing was generated.
_REFUSALS: Final = frozenset({"rate_limit_exceeded", "insufficient_quota"})
_TEXT_CHARS_MAX: Final = 1_000


class Ending(NamedTuple):
    """An attempt's end as the answer tells it. `response` is the Response object, None where there was none.

    `charge` is None where only an estimate can tell: the answer broke off.
    """

    type: str
    response: Mapping[str, Any] | None
    error: dict[str, str] | None
    charge: Charge | None


class Pricing(NamedTuple):
    """What a charge is computed with, beside the answer itself."""

    request: RequestFacts
    at: datetime
    prices: PriceBook
    deployment: str
    is_billable: bool
    region: str = ""

    def to_facts(self) -> dict[str, Any]:
        """Return the `money` of `attempt.started`: what a later settlement needs beside an answer and the prices."""
        facts = self.request.to_facts() if self.is_billable else {}
        return {**facts, "region": self.region} if self.region else facts


def of_plain(status: int, decoded: bytes | None, pricing: Pricing) -> Ending:
    """Judge a plain answer; `decoded` is its body without content coding, None where that could not be undone."""
    value = _json(decoded)
    answer = value if isinstance(value, dict) else None
    error = None if answer is None else read_error(answer.get("error"))
    if status not in _OK:
        return Ending(CALL_FAILED, None, _error_facts(error, f"http_{status}"), _refused(status, error, pricing))
    if not pricing.is_billable:
        return Ending(CALL_COMPLETED, answer, None, no_charge("a read does not charge", request=pricing.request))
    if answer is None:
        charge = unknown_cost("the answer is not a JSON object", request=pricing.request)
        return Ending(CALL_COMPLETED, None, None, charge)
    return _of_response(answer, error, pricing)


def of_stream(terminal: TerminalEvent | None, is_cut: bool, pricing: Pricing) -> Ending:
    """Judge a stream by its terminal event; `is_cut`: the connection broke before its end."""
    if terminal is None or not terminal.readable:
        message = "the upstream broke off" if is_cut else "the stream ended without a terminal event"
        return Ending(CALL_TRUNCATED, None, {"code": "truncated", "message": message}, _unless_read(pricing))
    if not pricing.is_billable:
        charge = no_charge("a read does not charge", request=pricing.request)
        kind = CALL_FAILED if terminal.response is None else terminal_of(_status(terminal.response))
        return Ending(kind, terminal.response, _error_facts(terminal.error, ""), charge)
    if terminal.response is None:
        return Ending(CALL_FAILED, None, _error_facts(terminal.error, "error"), _in_stream(terminal.error, pricing))
    ending = _of_response(terminal.response, terminal.error, pricing)
    if terminal.kind == "response.cancelled":
        return Ending(CALL_CANCELLED, ending.response, ending.error, ending.charge)
    return ending


def _of_response(response: Mapping[str, Any], error: ErrorFacts | None, pricing: Pricing) -> Ending:
    status = _status(response)
    usage = response.get("usage")
    if status in {"queued", "in_progress"}:
        charge = unknown_cost(f"the response is {status}: its usage is not known yet", request=pricing.request)
    elif usage is None and error is not None and error.code in _REFUSALS:
        charge = _in_stream(error, pricing)
    else:
        charge = charge_answer(
            response,
            request=pricing.request,
            at=pricing.at,
            prices=pricing.prices,
            deployment=pricing.deployment,
            region=pricing.region,
        )
    return Ending(terminal_of(status), response, _error_facts(error, ""), charge)


def _in_stream(error: ErrorFacts | None, pricing: Pricing) -> Charge:
    if error is not None and (error.code in _REFUSALS or error.type in _REFUSALS):
        return no_charge(f"refused by the upstream: {error.code or error.type}", request=pricing.request)
    return unknown_cost("the upstream reported an error and no usage", request=pricing.request)


def _refused(status: int, error: ErrorFacts | None, pricing: Pricing) -> Charge:
    """An answer outside 2xx. A refusal costs nothing; a gateway's 5xx leaves open what went on behind it."""
    if status < _SERVER_ERROR or error is not None:
        return no_charge(f"refused by the upstream with HTTP {status}", request=pricing.request)
    if not pricing.is_billable:
        return no_charge("a read does not charge", request=pricing.request)
    return unknown_cost(f"HTTP {status} without an error object: what went on behind it is not known")


def _unless_read(pricing: Pricing) -> Charge | None:
    return None if pricing.is_billable else no_charge("a read does not charge", request=pricing.request)


def of_failure(message: str, pricing: Pricing, *, sent: bool) -> Charge:
    """Price an attempt that got no answer at all."""
    if not sent:
        return no_charge(f"never sent: {message}", request=pricing.request)
    if not pricing.is_billable:
        return no_charge("a read does not charge", request=pricing.request)
    return unknown_cost(f"no answer came: {message}", request=pricing.request)


def _status(response: Mapping[str, Any]) -> str | None:
    status = response.get("status")
    return status if isinstance(status, str) else None


def _error_facts(error: ErrorFacts | None, code: str) -> dict[str, str] | None:
    if error is None:
        return {"code": code, "message": ""} if code else None
    return {
        "code": (error.code or error.type or code)[:_TEXT_CHARS_MAX],
        "message": error.message[:_TEXT_CHARS_MAX],
    }


def _json(body: bytes | None) -> Any:
    if not body:
        return None
    try:
        return read_json_quickly(body)
    except JsonError:
        return None


def text_fact(response: Mapping[str, Any] | None, name: str) -> str | None:
    """Return a member of a Response if it is a text, cut to what facts hold."""
    value = None if response is None else response.get(name)
    return value[:_TEXT_CHARS_MAX] if isinstance(value, str) else None
