"""The JSON body of an administrative request: bounded, an object, each name once, no float, nothing unstorable."""

import asyncio
import json
from decimal import Decimal
from typing import Any, Final, cast

from fastapi import Request
from starlette.requests import ClientDisconnect

from api.context import context
from api.errors import ApiFailure, bad_request
from ledger.encoding import is_storable
from llm.errors import ApiError
from llm.json_text import JsonError, check_depth, refuse_constant, utf8

BYTES_MAX: Final = 256 * 1024


class _RepeatedNameError(ValueError):
    """A name stands twice in one object, so that it is not known what was meant."""


async def read_object(request: Request, *, may_be_empty: bool = False) -> dict[str, Any]:
    """Return the JSON object of a request's body; fractions are Decimal. An empty body that `may_be_empty` is {}.

    Raises:
        ApiFailure: 413 for more than BYTES_MAX, 400 for what is not such an object.
    """
    body = await _read(request)
    if not body.strip():
        if may_be_empty:
            return {}
        raise bad_request("The body is empty; send a JSON object.")
    try:
        check_depth(body)
        value = json.loads(
            utf8(body), parse_float=Decimal, parse_constant=refuse_constant, object_pairs_hook=_each_name_once
        )
    except (ValueError, RecursionError) as error:
        reason = error if isinstance(error, JsonError | _RepeatedNameError | json.JSONDecodeError) else "not readable"
        raise bad_request(f"We could not parse the JSON body of your request: {reason}.") from error
    if not isinstance(value, dict):
        raise bad_request("The body must be a JSON object.")
    refuse_unstorable(value)
    return cast("dict[str, Any]", value)


async def _read(request: Request) -> bytes:
    pieces: list[bytes] = []
    try:
        async with asyncio.timeout(context(request).config.general.body_timeout_s):
            await _gather(request, pieces)
    except TimeoutError:
        raise ApiFailure(ApiError(408, "The request body did not arrive in time.", code="request_timeout")) from None
    except ClientDisconnect:
        raise bad_request("The client left before its request was complete.") from None
    return b"".join(pieces)


async def _gather(request: Request, pieces: list[bytes]) -> None:
    size = 0
    async for piece in request.stream():
        size += len(piece)
        if size > BYTES_MAX:
            message = f"The body is larger than {BYTES_MAX} bytes."
            raise ApiFailure(ApiError(413, message, code="request_too_large"))
        pieces.append(piece)


def _each_name_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for name, value in pairs:
        if name in made:
            raise _RepeatedNameError(f"{name[:60]!r} is given twice")
        made[name] = value
    return made


def refuse_unstorable(value: Any) -> None:
    """Refuse what Postgres cannot hold in a text: NUL and lone surrogates."""
    if isinstance(value, str):
        if not is_storable(value):
            raise bad_request(f"A text holds NUL or half a surrogate pair: {value[:60]!a}.")
    elif isinstance(value, dict):
        for name, member in cast("dict[str, Any]", value).items():
            refuse_unstorable(name)
            refuse_unstorable(member)
    elif isinstance(value, list):
        for member in cast("list[Any]", value):
            refuse_unstorable(member)
