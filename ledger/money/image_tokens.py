"""Tokens of an image tool: `tool_usage.image_gen` taken apart into text and image, in, cached and out.

They are priced by the image model, which only the request names. Shape: `ToolUsageImageGen` of the `openai` package;
its documentation says that calls may be missing, that the split of the output may be, and that absent cache counts
mean unknown ones.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

from ledger.money.billable import NO_TOOLS, Billable, ToolUse
from ledger.money.tariff import image_model_default
from ledger.money.usage import TOKENS_MAX, Meter

_NOT_READABLE = "image generation: tool_usage.image_gen cannot be read"


class _ImageTokens(NamedTuple):
    text_in: int
    image_in: int
    text_cached: int | None
    image_cached: int | None
    out: int
    text_out: int | None


def read_image_tokens(tool_usage: Any, calls: int, named_model: str) -> ToolUse:
    """Read what the image tool used; `calls` are the answer's image items, `named_model` is "" for the default one."""
    usage = _mapping(_mapping(tool_usage).get("image_gen"))
    if not usage.get("total_tokens"):
        if not calls:
            return NO_TOOLS
        return ToolUse((), (f"image_generation_call ({calls}) has no price: the answer does not count its tokens",))
    tokens = _read(usage)
    if tokens is None:
        return ToolUse((), (_NOT_READABLE,))
    model = named_model or image_model_default()
    doubt_in = "" if tokens.text_cached is not None else "image generation: whether input was cached is not said"
    doubt_out = "" if tokens.text_out is not None else "image generation: which part of the output is text is not said"
    text_cached, image_cached, text_out = tokens.text_cached or 0, tokens.image_cached or 0, tokens.text_out or 0
    counted: tuple[tuple[Meter, int, str], ...] = (
        ("image_text_input", tokens.text_in - text_cached, doubt_in),
        ("image_text_input_cached", text_cached, ""),
        ("image_input", tokens.image_in - image_cached, doubt_in),
        ("image_input_cached", image_cached, ""),
        ("image_text_output", text_out, ""),
        ("image_output", tokens.out - text_out, doubt_out),
    )
    if any(quantity < 0 for _, quantity, _ in counted):
        return ToolUse((), ("image generation: tool_usage.image_gen contradicts itself",))
    return ToolUse(tuple(Billable(meter, n, model, doubt) for meter, n, doubt in counted if n))


def _read(usage: Mapping[str, Any]) -> _ImageTokens | None:
    """The counts of `image_gen`; None when one is missing, of a wrong type, or does not sum to its whole."""
    given, made = _mapping(usage.get("input_tokens_details")), _mapping(usage.get("output_tokens_details"))
    text_in, image_in = _count(given, "text_tokens"), _count(given, "image_tokens")
    whole_in, out = _count(usage, "input_tokens"), _count(usage, "output_tokens")
    if text_in is None or image_in is None or whole_in is None or out is None or text_in + image_in != whole_in:
        return None
    text_cached, image_cached = _cached(usage)
    if not made:
        return _ImageTokens(text_in, image_in, text_cached, image_cached, out, None)
    text_out, image_out = _count(made, "text_tokens"), _count(made, "image_tokens")
    if text_out is None or image_out is None or text_out + image_out != out:
        return None
    return _ImageTokens(text_in, image_in, text_cached, image_cached, out, text_out)


def _cached(usage: Mapping[str, Any]) -> tuple[int | None, int | None]:
    """Cached text and image tokens; None, None where it is not said which were cached."""
    if _count(usage, "cached_tokens") == 0:
        return 0, 0
    details = _mapping(usage.get("cached_tokens_details"))
    text, image = _count(details, "cached_text_tokens"), _count(details, "cached_image_tokens")
    return (None, None) if text is None or image is None else (text, image)


def _count(values: Mapping[str, Any], name: str) -> int | None:
    value = values.get(name)
    return value if type(value) is int and 0 <= value <= TOKENS_MAX else None


def _mapping(value: Any) -> Mapping[str, Any]:
    return cast("Mapping[str, Any]", value) if isinstance(value, Mapping) else {}
