"""How a call looks in the request log: the columns of reporting.calls, and LiteLLM's names beside them. Pure."""

from datetime import timedelta
from decimal import Decimal
from typing import Any, Final

from ledger.money.exact import plain
from ledger.reports.tables import CALLS


def shown_call(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the log with our names: money as texts."""
    return {name: plain(value) if isinstance(value, Decimal) else value for name, value in row.items()}


def shown_log_row(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of the log with our names and LiteLLM's; `spend` is null where nothing is known of it, never 0."""
    received_at, first_chunk_us = row["received_at"], row["first_chunk_us"]
    tokens_in, tokens_out = row["input_tokens"], row["output_tokens"]
    known = [tokens for tokens in (tokens_in, tokens_out) if tokens is not None]
    first_at = None if first_chunk_us is None else received_at + timedelta(microseconds=first_chunk_us)
    return {
        **shown_call(row),
        "request_id": row["call_id"],
        "call_type": "aresponses",
        "api_key": row["key_id"],
        "spend": spend_of(row),
        "total_tokens": sum(known) if known else None,
        "prompt_tokens": tokens_in,
        "completion_tokens": tokens_out,
        "startTime": received_at,
        "endTime": row["finished_at"],
        "completionStartTime": first_at,
        "model_id": row["deployment"],
        "model_group": row["model"],
        "user": row["user_id"],
        "request_tags": row["tags"],
        "team_id": row["team"] or None,
        "organization_id": row["org"] or None,
        "requester_ip_address": row["client_address"],
        "metadata": {"user_api_key_alias": row["key_alias"], "usage_object": _usage(row)},
    }


def spend_of(row: dict[str, Any]) -> Decimal | None:
    """Return billed and estimated USD of a call; None while it runs, and where its cost is unknown."""
    spent: Decimal = row["billed_usd"] + row["estimated_usd"]
    is_open = row["cost_state"] is None and row["status"] == "in_progress"
    return None if not spent and (row["unknown_costs"] > 0 or is_open) else spent


def _usage(row: dict[str, Any]) -> dict[str, Any] | None:
    if row["input_tokens"] is None:
        return None
    return {
        "input_tokens": row["input_tokens"],
        "input_tokens_details": {
            "cached_tokens": row["cached_tokens"],
            "cache_write_tokens": row["cache_write_tokens"],
        },
        "output_tokens": row["output_tokens"],
        "output_tokens_details": {"reasoning_tokens": row["reasoning_tokens"]},
    }


#: The columns of a table of calls: the values of a row that are single ones.
LOG_COLUMNS: Final = (
    *(column.name if column.name != "unknown" else "unknown_costs" for column in CALLS.c),
    "spend", "total_tokens",
)  # fmt: skip
