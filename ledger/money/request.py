"""What only the request knows about money: the tier asked for, the background window, the tools at hand.

The upstream checks requests; here a member of a wrong type is taken as absent. The answer's side is in `tools` and
`usage`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

TEXT_MAX = 64
"""Longest tier, window or tool type that is kept; the known ones have at most 26 characters."""
_TOOLS_MAX = 1024


@dataclass(frozen=True, slots=True)
class RequestFacts:
    """The parts of a request that a price can depend on; "" where the request does not say."""

    requested_tier: str = ""
    background: bool = False
    stream: bool = False
    completion_window: str = ""
    model: str = ""
    tool_types: frozenset[str] = frozenset()


NO_REQUEST = RequestFacts()
"""For an answer whose request is not known."""


def read_request(request: Mapping[str, Any]) -> RequestFacts:
    """Read the money-relevant members of a request body (of `POST /responses` or `/responses/compact`)."""
    options = request.get("background_options")
    window = cast("Mapping[str, Any]", options).get("completion_window") if isinstance(options, Mapping) else None
    return RequestFacts(
        requested_tier=text_of(request.get("service_tier")),
        background=request.get("background") is True,
        stream=request.get("stream") is True,
        completion_window=text_of(window),
        model=text_of(request.get("model"), 256),
        tool_types=read_tool_types(request),
    )


def read_tool_types(body: Mapping[str, Any]) -> frozenset[str]:
    """The `type` of each member of `tools`, in a request or in the answer that echoes it."""
    tools = body.get("tools")
    if not isinstance(tools, list):
        return frozenset()
    members = cast("list[Any]", tools)[:_TOOLS_MAX]
    types = (text_of(cast("Mapping[str, Any]", tool).get("type")) for tool in members if isinstance(tool, Mapping))
    return frozenset(types) - {""}


def text_of(value: Any, length_max: int = TEXT_MAX) -> str:
    """The value if it is a string, cut to a length that facts can hold; "" otherwise."""
    return value[:length_max] if isinstance(value, str) else ""
