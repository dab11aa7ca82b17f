"""The engine and the SDK: which deployment, which attempt, retry, fall back. Knows no web server and no SQL.

The names of `__all__` are the SDK (docs/SDK.md): what it needs is loaded at the first call, so that importing this
package costs next to nothing. Everything else below is the engine, which the proxy uses as well.
"""

from typing import TYPE_CHECKING, Any

from llm.sdk.errors import RecordingError, SdkError, UsageError
from llm.sdk.face import (
    acancel_responses,
    adelete_responses,
    aget_responses,
    alist_input_items,
    aresponses,
    cancel_responses,
    delete_responses,
    get_responses,
    list_input_items,
    responses,
)
from llm.sdk.runtime import close
from llm.sdk.settings import configure

if TYPE_CHECKING:
    from llm.sdk.answers import AsyncResponseStream, Response, ResponseStream

    __version__: str

__all__ = [
    "AsyncResponseStream",
    "RecordingError",
    "Response",
    "ResponseStream",
    "SdkError",
    "UsageError",
    "__version__",
    "acancel_responses",
    "adelete_responses",
    "aget_responses",
    "alist_input_items",
    "aresponses",
    "cancel_responses",
    "close",
    "configure",
    "delete_responses",
    "get_responses",
    "list_input_items",
    "responses",
]


def __getattr__(name: str) -> Any:
    """Load what is rarely asked for, and heavy: the openai package's types, and the version's metadata."""
    if name in {"AsyncResponseStream", "Response", "ResponseStream"}:
        from llm.sdk import answers  # noqa: PLC0415 - loads the openai package

        return getattr(answers, name)
    if name == "__version__":
        from importlib.metadata import PackageNotFoundError, version  # noqa: PLC0415 - reads the installation

        try:
            return version("responses-ledger")
        except PackageNotFoundError:
            return "0.1.0+source"
    raise AttributeError(f"module 'llm' has no attribute {name!r}")
