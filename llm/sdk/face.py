"""What users of the SDK call. Light to import: `calling.py`, and with it the `openai` package, loads at the first call.

Every function has an asynchronous twin, named with an `a` in front, as in LiteLLM.
"""

from typing import TYPE_CHECKING, Any, Literal, cast, overload

if TYPE_CHECKING:
    from openai.pagination import AsyncCursorPage, SyncCursorPage
    from openai.types.responses import ResponseItem

    from llm.sdk.answers import AsyncResponseStream, Response, ResponseStream


@overload
def responses(*, stream: Literal[True], **parameters: Any) -> "ResponseStream": ...
@overload
def responses(*, stream: Literal[False] | None = None, **parameters: Any) -> "Response": ...
@overload
def responses(*, stream: bool | None = None, **parameters: Any) -> "Response | ResponseStream": ...
def responses(**parameters: Any) -> "Response | ResponseStream":
    """Make a response: `llm.responses(model="gpt-4o", input="Hello")`; with `stream=True` its events as they come.

    Parameters are those of `POST /responses`, new and unknown ones too, and of the `openai` package `extra_headers`,
    `extra_query`, `extra_body`. Not sent: `api_key`, `api_base`, `timeout` (seconds without a byte), `num_retries`,
    `fallbacks` (models, or mappings of model, api_key, api_base), `mock_response` (answer so, ask nobody).

    Raises:
        UsageError: an argument cannot be used; nothing was sent.
        RecordingError: a book is configured and cannot record; nothing was sent.
        openai.APIStatusError: the API refused, by status: `openai.RateLimitError` and so on.
        openai.APIConnectionError: no answer, after all attempts; `openai.APITimeoutError` where it took too long.
    """
    from llm.sdk.calling import create  # noqa: PLC0415 - half a second

    return create(parameters)


@overload
async def aresponses(*, stream: Literal[True], **parameters: Any) -> "AsyncResponseStream": ...
@overload
async def aresponses(*, stream: Literal[False] | None = None, **parameters: Any) -> "Response": ...
@overload
async def aresponses(*, stream: bool | None = None, **parameters: Any) -> "Response | AsyncResponseStream": ...
async def aresponses(**parameters: Any) -> "Response | AsyncResponseStream":
    """Make a response, in the caller's event loop. Cancelling it ends the call at the upstream, too."""
    from llm.sdk.calling import acreate  # noqa: PLC0415 - half a second

    return await acreate(parameters)


@overload
def get_responses(response_id: str, *, stream: Literal[True], **parameters: Any) -> "ResponseStream": ...
@overload
def get_responses(response_id: str, *, stream: Literal[False] | None = None, **parameters: Any) -> "Response": ...
def get_responses(response_id: str, **parameters: Any) -> "Response | ResponseStream":
    """Read a stored response; with `stream=True` and `starting_after` the events of one. It costs nothing."""
    from llm.sdk.calling import act  # noqa: PLC0415 - half a second

    return cast("Response | ResponseStream", act("retrieve", response_id, parameters))


@overload
async def aget_responses(response_id: str, *, stream: Literal[True], **parameters: Any) -> "AsyncResponseStream": ...
@overload
async def aget_responses(
    response_id: str, *, stream: Literal[False] | None = None, **parameters: Any
) -> "Response": ...
async def aget_responses(response_id: str, **parameters: Any) -> "Response | AsyncResponseStream":
    """Read a stored response, in the caller's loop."""
    from llm.sdk.calling import aact  # noqa: PLC0415 - half a second

    return cast("Response | AsyncResponseStream", await aact("retrieve", response_id, parameters))


def delete_responses(response_id: str, **parameters: Any) -> None:
    """Delete a stored response at the upstream."""
    from llm.sdk.calling import act  # noqa: PLC0415 - half a second

    act("delete", response_id, parameters)


async def adelete_responses(response_id: str, **parameters: Any) -> None:
    """Delete a stored response at the upstream, in the caller's loop."""
    from llm.sdk.calling import aact  # noqa: PLC0415 - half a second

    await aact("delete", response_id, parameters)


def cancel_responses(response_id: str, **parameters: Any) -> "Response":
    """Cancel a response that was made with `background=True`."""
    from llm.sdk.calling import act  # noqa: PLC0415 - half a second

    return cast("Response", act("cancel", response_id, parameters))


async def acancel_responses(response_id: str, **parameters: Any) -> "Response":
    """Cancel a response that was made with `background=True`, in the caller's loop."""
    from llm.sdk.calling import aact  # noqa: PLC0415 - half a second

    return cast("Response", await aact("cancel", response_id, parameters))


def list_input_items(response_id: str, **parameters: Any) -> "SyncCursorPage[ResponseItem]":
    """List what a stored response was asked with; iterating over the page goes on to the next ones."""
    from llm.sdk.calling import list_items  # noqa: PLC0415 - half a second

    return cast("SyncCursorPage[ResponseItem]", list_items(response_id, parameters))


async def alist_input_items(response_id: str, **parameters: Any) -> "AsyncCursorPage[ResponseItem]":
    """List what a stored response was asked with, in the caller's loop."""
    from llm.sdk.calling import alist_items  # noqa: PLC0415 - half a second

    return cast("AsyncCursorPage[ResponseItem]", await alist_items(response_id, parameters))
