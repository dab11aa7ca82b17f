"""What an answer's tools cost beside its tokens: what is charged is counted, what cannot be counted is named.

A tool that is not known to be free is named as unpriced, so that a charge never passes for complete because nobody
thought of the tool. Neighbours: `request` (which tools were at hand), `image_tokens` (what an image tool used), `cost`
(turns this into items and reasons).
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any, cast

from ledger.money.billable import NO_TOOLS, Billable, ToolUse
from ledger.money.image_tokens import read_image_tokens
from ledger.money.request import LOCAL, ToolsAtHand, read_tools_at_hand, text_of
from ledger.money.tariff import container_minutes_min, preview_meter, search_content_tokens
from ledger.money.usage import METERS, TOKENS_MAX, Meter

FREE_ITEMS = frozenset({
    "message", "reasoning", "compaction", "item_reference",
    "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output",
    "mcp_call", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response",
    "computer_call", "computer_call_output", "local_shell_call", "local_shell_call_output", "shell_call_output",
    "apply_patch_call", "apply_patch_call_output", "tool_search_call", "tool_search_output", "additional_tools",
})  # fmt: skip
"""Output items that cost their tokens and nothing else: https://developers.openai.com/api/docs/pricing."""

_SEARCH_TOOLS = frozenset({"web_search", "web_search_2025_08_26"})
_PREVIEW_TOOLS = frozenset({"web_search_preview", "web_search_preview_2025_03_11"})
_NAMED_MAX = 8
_CONTAINERS_MAX = 1024
_ID_MAX = 256


def read_tool_use(response: Mapping[str, Any], requested: ToolsAtHand) -> ToolUse:
    """Read the tools that an answer used; `requested` are those of the request.

    Web searches are counted by `tool_usage.web_search.num_requests`. Answers without it are counted by their output
    items, as an estimate: these mix searches with page views, and one item may stand for several searches.
    """
    kinds = _kinds_of_items(response)
    tool_usage = response.get("tool_usage")
    if not kinds and tool_usage is None:
        return NO_TOOLS
    counts = Counter(kinds)
    echoed = read_tools_at_hand(response)
    use = ToolUse()
    use += _read_searches(response, counts.pop("web_search_call", 0), requested.search | echoed.search)
    if files := counts.pop("file_search_call", 0):
        use += ToolUse((Billable("file_search", files),))
    counts.pop("code_interpreter_call", None)
    use += _read_containers(response, "code_interpreter_call", requested.code_memory or echoed.code_memory)
    counts.pop("shell_call", None)
    use += _read_containers(response, "shell_call", requested.shell_memory or echoed.shell_memory)
    images = counts.pop("image_generation_call", 0)
    use += read_image_tokens(tool_usage, images, requested.image_model or echoed.image_model)
    return use + ToolUse((), tuple(f"{kind} ({n}) has no price" for kind, n in sorted(counts.items())[:_NAMED_MAX]))


def _items(response: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    output = response.get("output")
    items = cast("list[Any]", output) if isinstance(output, list) else []
    return [item for item in items if type(item) is dict or isinstance(item, Mapping)]


def _kinds_of_items(response: Mapping[str, Any]) -> list[str]:
    """Types of the items that are not known to be free; page views of a web search are free, searches are not."""
    kinds: list[str] = []
    for item in _items(response):
        kind = text_of(item.get("type")) or "untyped item"
        if kind in FREE_ITEMS:
            continue
        action = item.get("action")
        named = cast("Mapping[str, Any]", action).get("type") if isinstance(action, Mapping) else None
        if not (kind == "web_search_call" and named not in {None, "search"}):
            kinds.append(kind)
    return kinds


def _read_searches(response: Mapping[str, Any], items: int, at_hand: frozenset[str]) -> ToolUse:
    reported = _member(response.get("tool_usage"), "web_search", "num_requests")
    if reported is not None and (type(reported) is not int or not 0 <= reported <= TOKENS_MAX):
        return ToolUse((), ("tool_usage.web_search.num_requests is not a count",))
    searches = items if reported is None else reported
    if not searches:
        return NO_TOOLS
    doubt = "" if reported is not None else "searches counted by output items, as the answer does not count them"
    model = text_of(response.get("model"), _ID_MAX)
    if at_hand and at_hand <= _SEARCH_TOOLS:
        meter: Meter | None = "web_search"
    else:
        meter = preview_meter(model) if at_hand and at_hand <= _PREVIEW_TOOLS else None
    if meter is None:
        named = sorted(at_hand) or "no search tool named"
        return ToolUse((), (f"web search ({searches}) with {named} on {model!r:.80} has no price",))
    use = ToolUse((Billable(meter, searches, doubt=doubt),))
    content = search_content_tokens(model) * searches if meter == "web_search" else 0
    if 0 < content <= TOKENS_MAX:
        doubt = f"search content on {model} is charged as a block of tokens that usage may not show"
        use += ToolUse((Billable("search_content", content, doubt=doubt),))
    return use


def _read_containers(response: Mapping[str, Any], kind: str, memory: str) -> ToolUse:
    """Containers that the items of `kind` ran in: their least time, since an answer does not tell how long they ran."""
    containers: set[str] = set()
    unnamed = 0
    for item in _items(response):
        if item.get("type") != kind:
            continue
        environment = item.get("environment")
        place = cast("Mapping[str, Any]", environment) if isinstance(environment, Mapping) else {}
        if kind == "shell_call" and (place.get("type") == LOCAL or (not place and memory == LOCAL)):
            continue
        container = text_of(item.get("container_id") or place.get("container_id"), _ID_MAX)
        unnamed += not container
        if container and len(containers) < _CONTAINERS_MAX:
            containers.add(container)
    if not containers and not unnamed:
        return NO_TOOLS
    meter = f"container_minutes_{memory}"
    if unnamed or meter not in METERS:
        size = "container is not named" if unnamed else f"memory ({memory or 'not said'}) has no price"
        return ToolUse((), (f"{kind} ({len(containers) + unnamed}): its {size}",))
    minutes = container_minutes_min()
    doubt = (
        f"{kind}: the least time of {minutes} minutes for each container, as the answer does not say how long it ran"
    )
    return ToolUse((Billable(meter, len(containers) * minutes, doubt=doubt),))


def _member(value: Any, *path: str) -> Any:
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = cast("Mapping[str, Any]", value).get(name)
    return value
