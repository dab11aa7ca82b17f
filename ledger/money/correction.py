"""What a later, better charge changes: the facts of `cost.corrected`, and the sum of a charge and its corrections.

A correction carries deltas, so that folding it is adding. `accumulate(old, [correction(old, new)])` has the
money of `new`; a property test holds it.
"""

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from ledger.money.cost import Charge
from ledger.money.exact import EXACT, ZERO, parse, plain
from ledger.money.usage import METERS

_SUMS = ("billed_usd", "estimated_usd")
_STATE_AFTER = ("state", "reason", "price_id", "priced_model", "tier_assumed")
USAGE_FIELDS = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")

#: By meter, unit price, and the item's own price where it has one.
_Items = dict[tuple[str, Decimal, str], tuple[int, Decimal]]


def correction(old: Mapping[str, Any], new: Charge) -> dict[str, Any]:
    """The money part of `cost.corrected` that leads from `old` to `new`.

    `old` is the money part in force: of `cost.recorded`, or of `accumulate` where there were corrections before.
    `tier` and `requested_tier` stay those of `old`, because they are dimensions under which its sums were booked;
    `tier_served` is the tier that `new` was priced by. `usage` is None when there is nothing to add to it.
    """
    after = new.to_facts()
    items = _add_items(_read_items(after["items"]), _read_items(old["items"]), sign=-1)
    return {
        **{name: after[name] for name in _STATE_AFTER},
        "usage": _subtract_usage(after["usage"], old["usage"]),
        "items": _spell_items(items),
        **{name: plain(EXACT.subtract(parse(after[name]), parse(old[name]))) for name in _SUMS},
        "unknown": after["unknown"] - old["unknown"],
        "tier": old["tier"],
        "requested_tier": old["requested_tier"],
        "tier_served": after["tier"],
        **({"missing": after["missing"]} if "missing" in after else {}),
    }


def accumulate(recorded: Mapping[str, Any], corrections: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """The money part in force after `recorded` and its corrections in order of revision; keys as in `recorded`."""
    result = dict(recorded)
    for delta in corrections:
        items = _add_items(_read_items(result["items"]), _read_items(delta["items"]), sign=1)
        result.pop("missing", None)
        if "missing" in delta:
            result["missing"] = delta["missing"]
        result.update({name: delta[name] for name in _STATE_AFTER})
        result["items"] = _spell_items(items)
        result["usage"] = _add_usage(result["usage"], delta["usage"])
        result["unknown"] += delta["unknown"]
        for name in _SUMS:
            result[name] = plain(EXACT.add(parse(result[name]), parse(delta[name])))
    return result


def _read_items(facts: Iterable[Mapping[str, Any]]) -> _Items:
    items: _Items = {}
    for item in facts:
        key = (str(item["meter"]), parse(item["unit_price_usd"]), item.get("price_id") or "")
        quantity, amount = items.get(key, (0, ZERO))
        items[key] = (quantity + item["quantity"], EXACT.add(amount, parse(item["amount_usd"])))
    return items


def _add_items(left: _Items, right: _Items, *, sign: int) -> _Items:
    total = dict(left)
    for key, (quantity, amount) in right.items():
        before, sum_before = total.get(key, (0, ZERO))
        total[key] = (before + sign * quantity, EXACT.add(sum_before, EXACT.multiply(Decimal(sign), amount)))
    return total


def _spell_items(items: _Items) -> list[dict[str, Any]]:
    """Items in the order of their meters, then by unit price; those that cancel out are left out."""
    ordered = sorted(items.items(), key=lambda entry: (METERS.index(entry[0][0]), *entry[0][1:]))  # pyright: ignore[reportArgumentType]  # a meter out of facts is a str
    return [
        {
            "meter": meter,
            "quantity": quantity,
            "unit_price_usd": plain(unit_price),
            "amount_usd": plain(amount),
            **({"price_id": price_id} if price_id else {}),
        }
        for (meter, unit_price, price_id), (quantity, amount) in ordered
        if quantity or amount
    ]


def _subtract_usage(after: Mapping[str, int] | None, old: Mapping[str, int] | None) -> dict[str, int] | None:
    if after is None and old is None:
        return None
    return {name: (after or {}).get(name, 0) - (old or {}).get(name, 0) for name in USAGE_FIELDS}


def _add_usage(old: Mapping[str, int] | None, delta: Mapping[str, int] | None) -> dict[str, int] | None:
    if delta is None:
        return None if old is None else dict(old)
    return {name: (old or {}).get(name, 0) + delta.get(name, 0) for name in USAGE_FIELDS}
