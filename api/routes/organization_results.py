"""Spells sums as usage and costs in OpenAI's shape, in pages of buckets. What is not known is null, never made up.

`organization_shapes.py` describes the same. Additions of ours: `end_user_id`, `num_unknown_costs`, and
`estimated_value` beside an amount's `value`.
"""

from collections.abc import Sequence
from typing import Any, Final

from api.routes.organization_query import DIMENSIONS, Asked, next_page
from ledger.money.usage import IMAGE_METERS, METERS, TOKEN_METERS
from ledger.reports.buckets import ItemSums, LineItem, Sums

#: Meters under the names that a line item of a bill has; others keep theirs.
_ITEM_NAMES: Final[dict[str, str]] = {
    "input_uncached": "input_tokens",
    "input_cached": "cached_input_tokens",
    "input_cache_write": "cache_write_input_tokens",
    "input_cache_write_12h": "cache_write_12h_input_tokens",
    "output": "output_tokens",
}
_TOKENS: Final[frozenset[str]] = frozenset({*TOKEN_METERS, *IMAGE_METERS, "search_content"})
_METERS: Final = {name: meter for meter, name in _ITEM_NAMES.items()}
_SPLITS: Final = (
    "input_text_tokens", "input_audio_tokens", "input_image_tokens", "input_cached_text_tokens",
    "input_cached_audio_tokens", "input_cached_image_tokens", "output_text_tokens", "output_audio_tokens",
    "output_image_tokens",
)  # fmt: skip


def line_item(name: str) -> LineItem:
    """Return the line item of that name, such as "gpt-5, output_tokens"; nothing has it if there is none."""
    model, _, item = name.rpartition(", ")
    return LineItem(model, _METERS.get(item, item))


def completions_result(asked: Asked, sums: Sums) -> dict[str, Any]:
    """Return the usage of one group in one bucket."""
    writes = sums.cache_write_tokens
    return {
        "object": "organization.usage.completions.result",
        "input_tokens": sums.input_tokens,
        "output_tokens": sums.output_tokens,
        "num_model_requests": sums.calls,
        "input_cached_tokens": sums.cached_tokens,
        "input_uncached_tokens": sums.input_tokens - sums.cached_tokens - writes,
        "input_cache_write_tokens": writes,
        # How long a write is kept is not in the sums; of none, it is none.
        "input_cache_write_30m_tokens": None if writes else 0,
        "input_cache_write_12h_tokens": None if writes else 0,
        **dict.fromkeys(_SPLITS),
        **_names(asked, sums.names, ("project_id", "user_id", "api_key_id", "model")),
        "batch": False if "batch" in asked.group_by else None,
        **_names(asked, sums.names, ("service_tier",)),
        "api_source": "unlabeled" if "api_source" in asked.group_by else None,
        **_names(asked, sums.names, ("end_user_id",)),
        "num_unknown_costs": sums.unknown_costs,
    }


def costs_result(asked: Asked, sums: Sums) -> dict[str, Any]:
    """Return the costs of one group on one day."""
    amount = {
        "value": sums.billed_usd + sums.estimated_usd,
        "currency": "usd",
        "estimated_value": sums.estimated_usd,
    }
    return _cost(asked, sums.names, amount, sums.unknown_costs)


def line_item_result(asked: Asked, sums: ItemSums) -> dict[str, Any]:
    """Return one line item of one group on one day, or the sum of several."""
    # A correction's items may take from what was estimated and add to what is billed: they cannot be told apart.
    amount = {"value": sums.amount_usd, "currency": "usd", "estimated_value": None}
    result = _cost(asked, sums.names, amount, sums.unknown_costs)
    if "line_item" in asked.group_by:
        meter = sums.names["meter"]
        # Of what is not itemised there is an amount, and no quantity.
        is_counted = meter in METERS
        result |= {
            "line_item": f"{sums.names['model']}, {_ITEM_NAMES.get(meter, meter)}",
            "quantity": sums.quantity if is_counted else None,
            "quantity_unit": _unit(meter),
        }
    return result


def _unit(meter: str) -> str | None:
    if meter in _TOKENS:
        return "tokens"
    return "duration_minutes" if meter.startswith("container_minutes") else None


def _cost(asked: Asked, names: dict[str, str], amount: dict[str, Any], unknown_costs: int) -> dict[str, Any]:
    return {
        "object": "organization.costs.result",
        "amount": amount,
        "line_item": None,
        **_names(asked, names, ("project_id", "user_id", "api_key_id")),
        "quantity": None,
        "quantity_unit": None,
        "api_source": "unlabeled" if "api_source" in asked.group_by else None,
        **_names(asked, names, ("end_user_id",)),
        "num_unknown_costs": unknown_costs,
    }


def _names(asked: Asked, names: dict[str, str], wanted: Sequence[str]) -> dict[str, str | None]:
    """Return dimensions as results show them: null where it was not grouped by, or where the calls had none."""
    return {name: (names[DIMENSIONS[name]] or None) if name in asked.group_by else None for name in wanted}


def page(asked: Asked, results: Sequence[tuple[int, dict[str, Any]]], end: int) -> dict[str, Any]:
    """Return a page of the buckets up to `end` (Unix seconds), each with its results; empty ones too."""
    if asked.span is None:
        return {"object": "page", "data": [], "has_more": False, "next_page": None}
    span = type(asked.span)(asked.span.start, end, asked.span.width_s)
    buckets: dict[int, list[dict[str, Any]]] = {start: [] for start in range(span.start, span.end, span.width_s)}
    for start, result in results:
        buckets[start].append(result)
    has_more = span.end < asked.end
    return {
        "object": "page",
        "data": [
            {"object": "bucket", "start_time": start, "end_time": start + span.width_s, "results": found}
            for start, found in buckets.items()
        ],
        "has_more": has_more,
        "next_page": next_page(span, asked.end) if has_more else None,
    }
