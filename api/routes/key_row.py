"""How keys and totals look in answers: our names, and LiteLLM's beside them. Pure; never a key or its hash."""

from typing import Any

from ledger.money.exact import plain
from ledger.reports.keys import Totals


def shown_key(row: dict[str, Any]) -> dict[str, Any]:
    """Return a row of `ledger.reports.keys` as answers show it; what the row lacks is empty."""
    names = {name: row.get(name, "") for name in ("key_id", "key_name", "key_alias", "org", "team")}
    user = row.get("user_id", "")
    return {
        **names,
        "user": user,
        "end_user": row.get("end_user", ""),
        "organization_id": names["org"] or None,
        "team_id": names["team"] or None,
        "user_id": user or None,
        "models": row.get("models", []),
        "metadata": row.get("metadata", {}),
        "tags": row.get("tags", []),
        "expires": row.get("expires_at"),
        "allowed_routes": row.get("allowed_routes", []),
        "permissions": row.get("permissions", []),
        "store_bodies": row.get("store_bodies"),
        "former_until": max(row.get("former_until", []), default=None),
        "blocked": row.get("blocked", False),
        "revoked": row.get("revoked", False),
        "created_at": row.get("created_at"),
        "created_by": row.get("created_by", ""),
        "updated_at": row.get("changed_at"),
        "updated_by": row.get("changed_by", ""),
        "revision": row.get("revision", 0),
        **shown_totals(row["totals"]),
    }


def shown_totals(totals: Totals) -> dict[str, Any]:
    """Return sums over all time: `spend` a number, as LiteLLM has it; ours are texts, and the unknown apart."""
    return {
        "spend": totals.billed_usd + totals.estimated_usd,
        "billed_usd": plain(totals.billed_usd),
        "estimated_usd": plain(totals.estimated_usd),
        "unknown_calls": totals.unknown_calls,
        "calls": totals.calls,
    }
