"""HTTP for what something would cost: POST /spend/calculate. Nothing is called and nothing is recorded."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Depends, Request

from api.auth import Caller
from api.context import Context, caller, context
from api.errors import bad_request
from api.exact_answer import ExactJson
from api.routes.request_body import read_object
from api.routes.shapes import takes
from api.routes.spend_shapes import Quote, QuoteShape
from ledger.money.exact import plain
from ledger.money.quote import quote

router = APIRouter(tags=["spend"])

#: Members of a chat completion's usage, and what the Responses API calls them.
_OF_CHAT: Final = {
    "prompt_tokens": "input_tokens",
    "prompt_tokens_details": "input_tokens_details",
    "completion_tokens": "output_tokens",
    "completion_tokens_details": "output_tokens_details",
}
_FIELDS: Final = ("model", "input", "messages", "completion_response", "response", "service_tier")


@router.post("/spend/calculate", response_model=Quote, openapi_extra=takes(QuoteShape))
async def calculate(
    request: Request, running: Annotated[Context, Depends(context)], _who: Annotated[Caller, Depends(caller)]
) -> ExactJson:
    """Price a request (`model` with `input` or `messages`) or an answer (`response`, `completion_response`) as of now.

    Of a request only its input is counted; the answer would come on top.
    """
    body = await read_object(request)
    asked = _asked(body)
    charge = await asyncio.to_thread(quote, prices=running.book.prices, at=datetime.now(UTC), **asked)
    return ExactJson(
        {
            "cost": None if charge.unknown else charge.billed_usd + charge.estimated_usd,
            "billed_usd": plain(charge.billed_usd),
            "estimated_usd": plain(charge.estimated_usd),
            "unknown_calls": charge.unknown,
            "state": charge.state,
            "reason": charge.reason,
        }
    )


def _asked(body: Mapping[str, Any]) -> dict[str, Any]:
    unknown = [name for name in body if name not in _FIELDS]
    if unknown:
        raise bad_request(
            f"Unknown field {unknown[0][:60]!r}. Accepted here: {', '.join(_FIELDS)}.",
            param=unknown[0][:60],
            code="unknown_parameter",
        )
    model, tier = (_text(body, name) for name in ("model", "service_tier"))
    answers = [name for name in ("response", "completion_response") if body.get(name) is not None]
    requests = [name for name in ("input", "messages") if body.get(name) is not None]
    if len(answers) + len(requests) != 1:
        raise bad_request("Give one of response, completion_response, input and messages.", param="input")
    if answers:
        answer = body[answers[0]]
        if not isinstance(answer, dict):
            raise bad_request(f"{answers[0]} must be an object.", param=answers[0])
        return {"model": model, "tier": tier or None, "response": _with_usage(cast("dict[str, Any]", answer))}
    if not model:
        raise bad_request("Missing required parameter: 'model'.", param="model", code="missing_required_parameter")
    given = body[requests[0]]
    if not isinstance(given, str | list):
        raise bad_request(f"{requests[0]} must be a text or a list.", param=requests[0])
    return {"model": model, "tier": tier or None, "request": {"model": model, "input": given}}


def _with_usage(answer: dict[str, Any]) -> dict[str, Any]:
    """Return an answer with its usage under the names of the Responses API; LiteLLM's clients send a chat's."""
    usage = answer.get("usage")
    if not isinstance(usage, dict) or "prompt_tokens" not in usage or "input_tokens" in usage:
        return answer
    members = cast("dict[str, Any]", usage)
    details = [members.get(name) for name in ("prompt_tokens_details", "completion_tokens_details")]
    if any(isinstance(each, dict) and cast("dict[str, Any]", each).get("audio_tokens") for each in details):
        # Audio has prices of its own, which the Responses API does not know: it stays unknown.
        return answer
    return {**answer, "usage": {_OF_CHAT.get(name, name): value for name, value in members.items()}}


def _text(body: Mapping[str, Any], name: str) -> str:
    value = body.get(name)
    if value is not None and not isinstance(value, str):
        raise bad_request(f"{name} must be a text.", param=name)
    return value or ""
