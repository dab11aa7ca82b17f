"""Token usage as the upstream reports it, checked, and its decomposition into quantities by meter.

Input tokens include cached and cache-write tokens, output tokens include reasoning tokens: `decompose` is the one place
that takes them apart, so that nothing is charged twice. What a quantity costs is `cost`'s business.
"""

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, cast, get_args

Meter = Literal[
    "input_uncached",
    "input_cached",
    "input_cache_write",
    "input_cache_write_12h",
    "output",
    "web_search",
    "web_search_preview",
    "web_search_preview_reasoning",
    "search_content",
    "file_search",
    "container_minutes_1g",
    "container_minutes_4g",
    "container_minutes_16g",
    "container_minutes_64g",
    "image_text_input",
    "image_text_input_cached",
    "image_input",
    "image_input_cached",
    "image_text_output",
    "image_output",
]
"""What is counted: tokens of the model; searches and calls of tools; `search_content`, input tokens that searches are
charged with outside usage; minutes of containers by their memory; tokens of an image model (text or image, in or out).
"""

METERS: tuple[Meter, ...] = get_args(Meter)
TOKEN_METERS = frozenset[Meter](
    {"input_uncached", "input_cached", "input_cache_write", "input_cache_write_12h", "output"}
)
IMAGE_METERS = frozenset[Meter](
    {
        "image_text_input",
        "image_text_input_cached",
        "image_input",
        "image_input_cached",
        "image_text_output",
        "image_output",
    }
)
TOKENS_MAX = 1_000_000_000  # a thousand times the largest context window; keeps every amount inside NUMERIC(24,12)


_KINDS = {type(None): "null", bool: "boolean", float: "fraction", str: "string", list: "array", dict: "object"}


class UsageError(ValueError):
    """The usage object contradicts itself or has a wrong type; the message says where and with which values."""


class Quantity(NamedTuple):
    """So many units of one meter."""

    meter: Meter
    quantity: int


class Usage(NamedTuple):
    """Tokens of one answer. `cache_write_30m` and `cache_write_12h` are None where the answer does not detail them."""

    input_tokens: int
    cached_tokens: int
    cache_write_tokens: int
    output_tokens: int
    reasoning_tokens: int
    cache_write_30m: int | None = None
    cache_write_12h: int | None = None

    def to_facts(self) -> dict[str, int]:
        """The `usage` part of `cost.recorded`; the lifetimes of cache writes are in its line items."""
        return {
            "input_tokens": self.input_tokens,
            "cached_tokens": self.cached_tokens,
            "cache_write_tokens": self.cache_write_tokens,
            "output_tokens": self.output_tokens,
            "reasoning_tokens": self.reasoning_tokens,
        }


def read_usage(response: Mapping[str, Any]) -> Usage | None:
    """Read the usage of a Response or `response.compaction` object; None when it has none (yet).

    Absent or null details count as zero, as recordings of 2025 lack them. Source of the shape: the `openai` package's
    `ResponseUsage`. Raises `UsageError` for a wrong type, a negative or absurd number, parts that exceed their whole,
    and a total that is not input plus output: such a count cannot be priced, and is never clipped into shape.
    """
    raw = response.get("usage")
    if raw is None:
        return None
    usage = _mapping(raw, "usage")
    input_details = _details(usage, "input_tokens_details")
    output_details = _details(usage, "output_tokens_details")
    write, write_30m, write_12h = _cache_writes(input_details)
    result = Usage(
        input_tokens=_count(usage, "usage", "input_tokens", required=True),
        cached_tokens=_count(input_details, "usage.input_tokens_details", "cached_tokens"),
        cache_write_tokens=write,
        output_tokens=_count(usage, "usage", "output_tokens", required=True),
        reasoning_tokens=_count(output_details, "usage.output_tokens_details", "reasoning_tokens"),
        cache_write_30m=write_30m,
        cache_write_12h=write_12h,
    )
    _check(result, usage)
    return result


def decompose(usage: Usage) -> tuple[Quantity, ...]:
    """Split usage into disjoint quantities that sum to input plus output tokens; meters at zero are left out.

    Cache writes whose lifetime is not detailed, or detailed as 30 minutes, are `input_cache_write`.
    """
    return tuple([Quantity(meter, amount) for meter, amount in amounts(usage) if amount])


def amounts(usage: Usage) -> tuple[tuple[Meter, int], ...]:
    """What `decompose` makes quantities of, meters at zero included."""
    write_12h = usage.cache_write_12h or 0
    return (
        ("input_uncached", usage.input_tokens - usage.cached_tokens - usage.cache_write_tokens),
        ("input_cached", usage.cached_tokens),
        ("input_cache_write", usage.cache_write_tokens - write_12h),
        ("input_cache_write_12h", write_12h),
        ("output", usage.output_tokens),
    )


def _cache_writes(input_details: Mapping[str, Any]) -> tuple[int, int | None, int | None]:
    where = "usage.input_tokens_details"
    write = _count(input_details, where, "cache_write_tokens")
    if input_details.get("cache_write_tokens_details") is None:
        return write, None, None
    where = f"{where}.cache_write_tokens_details"
    lifetimes = _mapping(input_details["cache_write_tokens_details"], where)
    write_30m = _count(lifetimes, where, "ttl_30m_tokens")
    write_12h = _count(lifetimes, where, "ttl_12h_tokens")
    if write_30m + write_12h != write:
        raise UsageError(
            f"cache writes by lifetime ({write_30m} for 30m, {write_12h} for 12h) do not sum to "
            f"cache_write_tokens ({write})"
        )
    return write, write_30m, write_12h


def _check(result: Usage, usage: Mapping[str, Any]) -> None:
    if result.cached_tokens + result.cache_write_tokens > result.input_tokens:
        raise UsageError(
            f"cached_tokens ({result.cached_tokens}) and cache_write_tokens ({result.cache_write_tokens}) exceed "
            f"input_tokens ({result.input_tokens})"
        )
    if result.reasoning_tokens > result.output_tokens:
        raise UsageError(
            f"reasoning_tokens ({result.reasoning_tokens}) exceed output_tokens ({result.output_tokens}), "
            f"which should include them"
        )
    total = result.input_tokens + result.output_tokens
    if usage.get("total_tokens") is not None and _count(usage, "usage", "total_tokens") != total:
        raise UsageError(f"total_tokens ({usage['total_tokens']}) is not input_tokens plus output_tokens ({total})")


def _details(usage: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = usage.get(name)
    return {} if value is None else _mapping(value, f"usage.{name}")


def _mapping(value: Any, where: str) -> Mapping[str, Any]:
    if type(value) is dict:
        return cast("dict[str, Any]", value)
    if not isinstance(value, Mapping):
        raise UsageError(f"{where}: expected an object, got {_kind(value)}")
    return cast("Mapping[str, Any]", value)


def _count(values: Mapping[str, Any], where: str, name: str, *, required: bool = False) -> int:
    value = values.get(name)
    if type(value) is int and 0 <= value <= TOKENS_MAX:
        return value
    if value is None and not required:
        return 0
    if type(value) is not int:  # bool is an int to isinstance, and 5.0 is not a count of tokens
        shown = f" {value!r:.40}" if isinstance(value, str | float) else ""
        raise UsageError(f"{where}.{name}: expected a whole number, got {_kind(value)}{shown}")
    # A number's digits are bounded before they are printed: Python refuses to print very long ones.
    shown = value if abs(value) < TOKENS_MAX**2 else "a number of more than 18 digits"
    raise UsageError(f"{where}.{name}: expected 0 to {TOKENS_MAX}, got {shown}")


def _kind(value: Any) -> str:
    """What JSON calls a value of that kind: reasons are read by people who never see this program."""
    return _KINDS.get(type(value), type(value).__name__)
