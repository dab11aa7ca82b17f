"""What an answer's tools cost beside its tokens: billable calls that are counted, and those that cannot be priced.

A tool that is not known to be free is named as unpriced, so that a charge never passes for complete because nobody
thought of the tool. Neighbours: `request` (which tools were at hand), `cost` (turns this into items and reasons).
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

from ledger.money.request import read_tool_types, text_of
from ledger.money.usage import TOKENS_MAX

FREE_ITEMS = frozenset({
    "message", "reasoning", "compaction", "item_reference",
    "function_call", "function_call_output", "custom_tool_call", "custom_tool_call_output",
    "mcp_call", "mcp_list_tools", "mcp_approval_request", "mcp_approval_response",
    "computer_call", "computer_call_output", "local_shell_call", "local_shell_call_output",
    "apply_patch_call", "apply_patch_call_output", "tool_search_call", "tool_search_output", "additional_tools",
})  # fmt: skip
"""Output items that cost their tokens and nothing else: https://developers.openai.com/api/docs/pricing."""

# Each search on these models is billed as 8,000 input tokens that usage does not show (same page).
_HIDDEN_SEARCH_TOKENS = ("gpt-4o-mini", "gpt-4.1-mini")
# The pricing page names one rate per call for the tool proper; previews differ by model (10 or 25 USD per 1,000).
_SEARCH_TOOLS = frozenset({"web_search", "web_search_2025_08_26"})
_NAMED_MAX = 8


@dataclass(frozen=True, slots=True)
class ToolUse:
    """Billable web searches that were counted, and what may cost something that nobody can price yet."""

    web_searches: int = 0
    unpriced: tuple[str, ...] = ()


NO_TOOLS = ToolUse()


def read_tool_use(response: Mapping[str, Any], requested: frozenset[str] = frozenset()) -> ToolUse:
    """Read the tools that an answer used; `requested` are the tool types of the request.

    Web searches are counted by `tool_usage.web_search.num_requests` alone: output items mix searches with page views,
    and one item may stand for several searches.
    """
    counts = _count_items(response)
    tool_usage = response.get("tool_usage")
    if not counts and tool_usage is None:
        return NO_TOOLS
    unpriced: list[str] = []
    searches = _read_searches(response, counts.pop("web_search_call", 0), requested, unpriced)
    _read_images(tool_usage, counts, unpriced)
    for kind, count in sorted(counts.items())[:_NAMED_MAX]:
        unpriced.append(f"{kind} ({count}) has no price")
    return ToolUse(searches, tuple(unpriced)) if searches or unpriced else NO_TOOLS


def _count_items(response: Mapping[str, Any]) -> Counter[str]:
    """Items that are not known to be free, by type; page views of a web search are free, searches are not."""
    output = response.get("output")
    counts: Counter[str] = Counter()
    for item in cast("list[Any]", output) if isinstance(output, list) else ():
        if not isinstance(item, Mapping):
            continue
        members = cast("Mapping[str, Any]", item)
        kind = text_of(members.get("type")) or "untyped item"
        if kind in FREE_ITEMS or (kind.startswith("shell_call") and _is_local(members)):
            continue
        action = members.get("action")
        named = cast("Mapping[str, Any]", action).get("type") if isinstance(action, Mapping) else None
        if kind == "web_search_call" and named not in {None, "search"}:
            continue
        counts[kind] += 1
    return counts


def _is_local(item: Mapping[str, Any]) -> bool:
    environment = item.get("environment")
    return isinstance(environment, Mapping) and cast("Mapping[str, Any]", environment).get("type") == "local"


def _read_searches(response: Mapping[str, Any], items: int, requested: frozenset[str], unpriced: list[str]) -> int:
    reported = _member(response.get("tool_usage"), "web_search", "num_requests")
    if reported is None:
        if items:
            unpriced.append(f"web_search_call ({items}): the answer's tool_usage does not count the searches")
        return 0
    if type(reported) is not int or not 0 <= reported <= TOKENS_MAX:
        unpriced.append("tool_usage.web_search.num_requests is not a count")
        return 0
    if not reported:
        return 0
    at_hand = {kind for kind in requested | read_tool_types(response) if kind.startswith("web_search")}
    model = text_of(response.get("model"), 256)
    if not at_hand or at_hand - _SEARCH_TOOLS:
        unpriced.append(f"web search ({reported}) with {sorted(at_hand) or 'no search tool named'} has no price")
        return 0
    if model.startswith(_HIDDEN_SEARCH_TOKENS):
        unpriced.append(f"web search ({reported}) on {model}: its search content tokens are billed outside usage")
    return reported


def _read_images(tool_usage: Any, counts: Counter[str], unpriced: list[str]) -> None:
    tokens = _member(tool_usage, "image_gen", "total_tokens")
    if tokens is not None and tokens != 0:
        counts.pop("image_generation_call", None)
        unpriced.append("image generation: tool_usage.image_gen has no price")


def _member(value: Any, *path: str) -> Any:
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = cast("Mapping[str, Any]", value).get(name)
    return value
