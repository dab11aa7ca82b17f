"""From arguments to an answer, by way of the `openai` package: it makes the request and reads what comes back.

Loaded at the first call (`face.py`). Clients of the package are kept for equal plans; they hold no connections, those
are on the SDK's thread.
"""

import inspect
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import Any, Final, cast

import httpx2
import openai
from openai.resources.responses import Responses

from llm.sdk import runtime
from llm.sdk.answers import AsyncResponseStream, Response, ResponseStream, stamped
from llm.sdk.errors import UsageError
from llm.sdk.plan import Plan, make_plan, upstream_model
from llm.sdk.settings import Settings, current
from llm.sdk.transport import AsyncBridge, Bridge, exchange_of

_CLIENTS_MAX: Final = 64
#: Arguments that are ours; everything else is the API's.
_PLANNED: Final = ("api_key", "api_base", "timeout", "num_retries", "fallbacks", "mock_response")
_EXTRAS: Final = ("extra_headers", "extra_query", "extra_body")
_END_USER: Final = ("safety_identifier", "user")


def create(parameters: dict[str, Any]) -> Response | ResponseStream:
    """Make a response; see `face.responses`."""
    plan, arguments = _of_creation(parameters)
    raw = cast("Any", _client(plan).responses.with_raw_response).create(**arguments)
    return _answered(raw, is_stream=arguments.get("stream") is True)


async def acreate(parameters: dict[str, Any]) -> Response | AsyncResponseStream:
    """Make a response, in the caller's loop."""
    plan, arguments = _of_creation(parameters)
    raw = await cast("Any", _async_client(plan).responses.with_raw_response).create(**arguments)
    return _async_answered(raw, is_stream=arguments.get("stream") is True)


def act(verb: str, response_id: str, parameters: dict[str, Any]) -> Any:
    """Retrieve, delete or cancel a response."""
    plan, arguments = _of_reference(parameters)
    raw = getattr(_client(plan).responses.with_raw_response, verb)(response_id, **arguments)
    return None if verb == "delete" else _answered(raw, is_stream=arguments.get("stream") is True)


async def aact(verb: str, response_id: str, parameters: dict[str, Any]) -> Any:
    """Retrieve, delete or cancel a response, in the caller's loop."""
    plan, arguments = _of_reference(parameters)
    raw = await getattr(_async_client(plan).responses.with_raw_response, verb)(response_id, **arguments)
    return None if verb == "delete" else _async_answered(raw, is_stream=arguments.get("stream") is True)


def list_items(response_id: str, parameters: dict[str, Any]) -> Any:
    """Return the first page of a response's input items; the page gives the next ones."""
    plan, arguments = _of_reference(parameters)
    return _client(plan).responses.input_items.list(response_id, **arguments)


async def alist_items(response_id: str, parameters: dict[str, Any]) -> Any:
    """Return the first page of a response's input items, in the caller's loop."""
    plan, arguments = _of_reference(parameters)
    return await _async_client(plan).responses.input_items.list(response_id, **arguments)


def _answered(raw: Any, *, is_stream: bool) -> Response | ResponseStream:
    exchange = exchange_of(raw.http_response)
    if is_stream:
        return ResponseStream(raw.parse(), exchange, raw.http_request)
    return stamped(raw.parse(to=Response), exchange)


def _async_answered(raw: Any, *, is_stream: bool) -> Response | AsyncResponseStream:
    exchange = exchange_of(raw.http_response)
    if is_stream:
        return AsyncResponseStream(raw.parse(), exchange, raw.http_request)
    return stamped(raw.parse(to=Response), exchange)


@lru_cache(maxsize=_CLIENTS_MAX)
def _client(plan: Plan) -> openai.OpenAI:
    transport = Bridge(plan, runtime.service)
    http_client = httpx2.Client(transport=transport, trust_env=False, follow_redirects=False)
    return openai.OpenAI(http_client=http_client, **_account(plan))


@lru_cache(maxsize=_CLIENTS_MAX)
def _async_client(plan: Plan) -> openai.AsyncOpenAI:
    transport = AsyncBridge(plan, runtime.service)
    http_client = httpx2.AsyncClient(transport=transport, trust_env=False, follow_redirects=False)
    return openai.AsyncOpenAI(http_client=http_client, **_account(plan))


def _account(plan: Plan) -> dict[str, Any]:
    """Return the package's arguments: it retries calls to a proxy only, elsewhere the engine does."""
    first = plan.targets[0]
    max_retries = plan.num_retries if plan.proxy else 0
    return {"api_key": first.api_key or "none", "base_url": first.api_base, "max_retries": max_retries}


def _of_creation(parameters: dict[str, Any]) -> tuple[Plan, dict[str, Any]]:
    settings = current()
    planned = _take(parameters, _PLANNED)
    model = parameters.get("model") or ""
    if not isinstance(model, str):
        raise UsageError(f"model is a text such as gpt-4o, not {model!r:.40}")
    plan = make_plan(settings, model, **planned)
    arguments = _take(parameters, _EXTRAS)
    if not plan.proxy and model:
        parameters["model"] = upstream_model(model)
    known = _known_parameters()
    unknown = {name: parameters.pop(name) for name in list(parameters) if name not in known}
    arguments |= parameters
    if unknown:
        arguments["extra_body"] = {**unknown, **(arguments.get("extra_body") or {})}
    if plan.proxy:
        _introduce(arguments, parameters, settings)
    return plan, arguments


def _of_reference(parameters: dict[str, Any]) -> tuple[Plan, dict[str, Any]]:
    planned = _take(parameters, tuple(name for name in _PLANNED if name != "fallbacks"))
    settings = current()
    return make_plan(settings, **planned), parameters


def _take(parameters: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: parameters.pop(name) for name in names if name in parameters}


def _introduce(arguments: dict[str, Any], parameters: Mapping[str, Any], settings: Settings) -> None:
    """Tell a proxy whom the call is for, as `configure` says it, where the call itself does not."""
    headers = dict(arguments.get("extra_headers") or {})
    identity = settings.identity
    if identity.tags:
        headers.setdefault("x-llm-tags", ",".join(identity.tags))
    metadata = parameters.get("metadata")
    names_one = isinstance(metadata, Mapping) and "user_id" in metadata
    if identity.end_user and not names_one and not any(parameters.get(name) for name in _END_USER):
        headers.setdefault("x-llm-end-user-id", identity.end_user)
    if headers:
        arguments["extra_headers"] = headers


@cache
def _known_parameters() -> frozenset[str]:
    """The parameters that the installed `openai` package knows; others go into the body as they are."""
    return frozenset(inspect.signature(Responses.create).parameters) - {"self"}
