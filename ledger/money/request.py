"""What only the request knows about money: the tier asked for, the background window, the tools at hand.

The upstream checks requests; here a member of a wrong type is taken as absent. The answer's side is in `tools` and
`usage`. `attempt.started` keeps these facts, so that a cost can be settled later without the request's bytes.
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, cast

from ledger.money.tariff import container_memory_default

TEXT_MAX = 64
"""Longest tier, window or tool type that is kept; the known ones have at most 26 characters."""
_TOOLS_MAX = 1024
_SEARCH_TOOLS_MAX = 8
LOCAL = "local"
"""Stands for a shell that the caller runs, where a container's memory would stand."""


class ToolsAtHand(NamedTuple):
    """The tools of a body on which a price depends.

    `search` are the types of web search tools. `code_memory` and `shell_memory` are the memory limits of containers
    that the upstream makes for this request ("1g" and so on, or "local"); "" where there is no such tool or the
    request refers to a container whose size it does not say. `image_model` is the one that an image tool names.
    """

    search: frozenset[str] = frozenset()
    code_memory: str = ""
    shell_memory: str = ""
    image_model: str = ""


NO_TOOLS_AT_HAND = ToolsAtHand()


class RequestFacts(NamedTuple):
    """The parts of a request that a price can depend on; "" where the request does not say."""

    requested_tier: str = ""
    background: bool = False
    stream: bool = False
    completion_window: str = ""
    model: str = ""
    tools: ToolsAtHand = NO_TOOLS_AT_HAND

    def to_facts(self) -> dict[str, Any]:
        """The `money` part of `attempt.started`: what differs from a request that says nothing."""
        tools = self.tools
        facts: dict[str, Any] = {
            "requested_tier": self.requested_tier,
            "background": self.background,
            "stream": self.stream,
            "completion_window": self.completion_window,
            "model": self.model,
            "search_tools": sorted(tools.search),
            "code_memory": tools.code_memory,
            "shell_memory": tools.shell_memory,
            "image_model": tools.image_model,
        }
        return {name: value for name, value in facts.items() if value}

    @staticmethod
    def from_facts(facts: Mapping[str, Any]) -> "RequestFacts":
        """Read back what `to_facts` wrote."""
        return RequestFacts(
            requested_tier=facts.get("requested_tier", ""),
            background=facts.get("background", False),
            stream=facts.get("stream", False),
            completion_window=facts.get("completion_window", ""),
            model=facts.get("model", ""),
            tools=ToolsAtHand(
                search=frozenset(facts.get("search_tools", ())),
                code_memory=facts.get("code_memory", ""),
                shell_memory=facts.get("shell_memory", ""),
                image_model=facts.get("image_model", ""),
            ),
        )


NO_REQUEST = RequestFacts()
"""For an answer whose request is not known."""


def read_request(request: Mapping[str, Any]) -> RequestFacts:
    """Read the money-relevant members of a request body (of `POST /responses` or `/responses/compact`)."""
    window = _mapping(request.get("background_options")).get("completion_window")
    return RequestFacts(
        requested_tier=text_of(request.get("service_tier")),
        background=request.get("background") is True,
        stream=request.get("stream") is True,
        completion_window=text_of(window),
        model=text_of(request.get("model"), 256),
        tools=read_tools_at_hand(request),
    )


def read_tools_at_hand(body: Mapping[str, Any]) -> ToolsAtHand:
    """Read `tools` of a request, or of the answer that echoes it; of several tools of one type the last one counts."""
    if not body.get("tools"):
        return NO_TOOLS_AT_HAND
    search: set[str] = set()
    code_memory = shell_memory = image_model = ""
    for tool in _tools(body):
        kind = text_of(tool.get("type"))
        if kind.startswith("web_search") and len(search) < _SEARCH_TOOLS_MAX:
            search.add(kind)
        elif kind == "code_interpreter":
            code_memory = _memory(_mapping(tool.get("container")), "auto")
        elif kind == "shell":
            # Without an environment the caller runs the commands.
            environment = _mapping(tool.get("environment"))
            is_local = environment.get("type", LOCAL) == LOCAL
            shell_memory = LOCAL if is_local else _memory(environment, "container_auto")
        elif kind == "image_generation":
            image_model = text_of(tool.get("model"))
    return ToolsAtHand(frozenset(search), code_memory, shell_memory, image_model)


def _tools(body: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    tools = body.get("tools")
    for tool in cast("list[Any]", tools)[:_TOOLS_MAX] if isinstance(tools, list) else ():
        if isinstance(tool, Mapping):
            yield cast("Mapping[str, Any]", tool)


def _memory(container: Mapping[str, Any], made_for_request: str) -> str:
    """The memory of a container that is made for the request; of others it is not known."""
    if container.get("type") != made_for_request:
        return ""
    return text_of(container.get("memory_limit")) or container_memory_default()


def _mapping(value: Any) -> Mapping[str, Any]:
    # Of nearly every request None is asked, and asking an abstract class takes longer than all else here.
    return cast("Mapping[str, Any]", value) if value is not None and isinstance(value, Mapping) else {}


def text_of(value: Any, length_max: int = TEXT_MAX) -> str:
    """The value if it is a string, cut to a length that facts can hold; "" otherwise."""
    return value[:length_max] if isinstance(value, str) else ""
