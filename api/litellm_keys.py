"""Reads rows of LiteLLM's table `LiteLLM_VerificationToken` as keys of ours, with the same hash.

Pure. A row comes from its table, from Postgres' CSV export or from JSON: values are JSON's, or texts as Postgres prints
them. What such a key says and this proxy would not obey is refused, unless it is to be ignored by name.
"""

import csv
import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any, Final, cast

from api.auth import hash_of
from api.errors import ApiFailure
from api.routes.field_values import asks_nothing
from api.routes.key_fields import DEFAULTS, KEY_VALUES
from api.routes.request_body import refuse_unstorable
from api.routes.times import read_moment
from ledger.encoding import rfc3339

_HASH: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)
_MASKED: Final = re.compile(r"sk-\.\.\.[\x21-\x7e]{0,8}", re.ASCII)
_SHORT_ZONE: Final = re.compile(r"(?<=\d)([+-]\d\d)$", re.ASCII)
#: LiteLLM counts in floats; their sum must not overflow.
_SPEND_DIGITS_MAX: Final = 12
_FRACTION: Final = re.compile(r"(\.\d{6})\d+", re.ASCII)
#: What limits a key and is not enforced here.
BUDGETS: Final = (
    "max_budget", "soft_budget", "budget_duration", "budget_id", "model_max_budget", "max_parallel_requests",
    "tpm_limit", "rpm_limit", "tpd_limit", "budget_limits", "model_rpm_limit", "model_tpm_limit", "tag_rpm_limit",
    "mcp_rpm_limit", "budget_fallbacks", "end_user_budget_id", "temp_budget_increase",
)  # fmt: skip
#: What else would change what a key may or does.
_OTHERS: Final = (
    "aliases", "config", "permissions", "allowed_cache_controls", "router_settings", "object_permission_id", "agent_id",
    "project_id", "access_group_ids", "policies", "guardrails", "auto_rotate", "enforced_params",
)  # fmt: skip
REFUSED: Final = (*BUDGETS, *_OTHERS)
#: Those of them that LiteLLM keeps in a key's metadata, where it has no column for them.
_IN_METADATA: Final = (
    "model_rpm_limit", "model_tpm_limit", "tag_rpm_limit", "mcp_rpm_limit", "budget_fallbacks", "temp_budget_increase",
    "policies", "guardrails", "enforced_params",
)  # fmt: skip
#: Sets of models that mean: all.
_ALL_MODELS: Final = ("all-proxy-models", "*")


class RowError(Exception):
    """A row that cannot become a key; the message says which field and why."""


@dataclass(frozen=True, slots=True)
class ImportedKey:
    """The state of a key as facts spell it but for `key_id`, what LiteLLM had counted as spent, and remarks."""

    state: dict[str, Any]
    spend: Decimal
    notes: tuple[str, ...]


def read_row(row: Mapping[str, Any], *, ignored: Collection[str] = ()) -> ImportedKey:
    """Read a row; `ignored` are the fields of REFUSED that may be lost.

    Raises:
        RowError: the row says something that would not be obeyed, or is not readable.
    """
    try:
        refuse_unstorable(dict(row))
    except ApiFailure as failure:
        raise RowError(failure.error.message) from failure
    notes: list[str] = []
    metadata = _object(row.get("metadata"), "metadata")
    columns = [(name, _plain(row.get(name))) for name in REFUSED]
    for name, value in [*columns, *((name, metadata.get(name)) for name in _IN_METADATA)]:
        if asks_nothing(name, value):
            continue
        if name not in ignored:
            hint = "--ignore-budgets" if name in BUDGETS else f"--ignore {name}"
            raise RowError(
                f"{name} is set ({str(value)[:60]}) and would not be enforced here: use {hint} to import it so"
            )
        notes.append(f"{name} is not enforced")
    tags = metadata.pop("tags", None)
    fields = {
        "key_alias": _text(row.get("key_alias")),
        "org": _text(row.get("organization_id")),
        "team": _text(row.get("team_id")),
        "user": _text(row.get("user_id")),
        "models": _models(row.get("models")),
        "allowed_routes": _list(row.get("allowed_routes"), "allowed_routes"),
        "tags": tags or [],
        "metadata": _without_fractions(metadata, notes),
        "blocked": _flag(row.get("blocked")),
    }
    try:
        state = {name: KEY_VALUES[name](value, name) for name, value in fields.items()}
    except ApiFailure as failure:
        raise RowError(failure.error.message) from failure
    name = _text(row.get("key_name"))
    state |= {
        "key_hash": _hash(row.get("token")),
        "key_name": name if _MASKED.fullmatch(name) else "sk-...",
        "expires_at": _moment(row.get("expires"), "expires"),
        "created_at": _moment(row.get("created_at"), "created_at") or rfc3339(datetime.now(UTC)),
    }
    return ImportedKey({**DEFAULTS, **state}, _amount(row.get("spend")), tuple(notes))


def _plain(value: Any) -> Any:
    """Return a value that a CSV holds as text: JSON, or an array as Postgres prints it."""
    if not isinstance(value, str):
        return value
    text = value.strip()
    if text in {"", "null", "NULL", "f", "false", "{}", "[]"}:
        return None
    return text


def _text(value: Any) -> str:
    if value is None:
        return ""
    if not isinstance(value, str):
        raise RowError(f"a name is no text: {str(value)[:60]}")
    return value


def _hash(value: Any) -> str:
    text = _text(value).strip()
    if _HASH.fullmatch(text):
        return text
    if text.startswith("sk-"):
        # Very old rows hold the key itself.
        return hash_of(text)
    raise RowError("token is no SHA-256 in hex")


def _flag(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    flags = {"": False, "f": False, "false": False, "t": True, "true": True}
    text = "" if value is None else str(value).lower()
    if text not in flags:
        raise RowError(f"blocked is neither true nor false: {text[:60]}")
    return flags[text]


def _list(value: Any, name: str) -> list[Any]:
    if value is None or value == "":
        return []
    if isinstance(value, str):
        text = value.strip()
        value = _array(text, name) if text.startswith("{") else _json(text, name)
    if not isinstance(value, list):
        raise RowError(f"{name} is no list: {str(value)[:60]}")
    return cast("list[Any]", value)


def _array(text: str, name: str) -> list[str]:
    """Read an array of texts as Postgres prints it: a and "b c" in braces, a backslash before quotes."""
    if text == "{}":
        return []
    refusal = RowError(f"{name} is no array as Postgres prints it: {text[:60]}")
    if not text.endswith("}"):
        # Without its end it might be taken as empty, which means: all.
        raise refusal
    try:
        (items,) = csv.reader([text[1:-1]], doublequote=False, escapechar="\\", strict=True)
    except (ValueError, csv.Error) as error:
        raise refusal from error
    return items


def _models(value: Any) -> list[Any]:
    models = _list(value, "models")
    return [] if any(model in _ALL_MODELS for model in models) else models


def _object(value: Any, name: str) -> dict[str, Any]:
    value = _json(value, name) if isinstance(value, str) and value.strip() else value
    if value is None or value == "":
        return {}
    if not isinstance(value, dict):
        raise RowError(f"{name} is no object: {str(value)[:60]}")
    return dict(cast("dict[str, Any]", value))


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text, parse_float=Decimal)
    except (ValueError, RecursionError) as error:
        raise RowError(f"{name} is no JSON: {str(error)[:60]}") from error


def _without_fractions(value: Any, notes: list[str], path: str = "metadata") -> Any:
    if isinstance(value, Decimal):
        notes.append(f"{path} became a text")
        return str(value)
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value).items()
        return {name: _without_fractions(member, notes, f"{path}.{name}"[:100]) for name, member in members}
    if isinstance(value, list):
        return [_without_fractions(member, notes, path) for member in cast("list[Any]", value)]
    return value


def _moment(value: Any, name: str) -> str | None:
    if value is None or value == "":
        return None
    text = _FRACTION.sub(r"\1", _SHORT_ZONE.sub(r"\1:00", str(value).strip()))
    try:
        return rfc3339(read_moment(text, name))
    except ApiFailure as failure:
        raise RowError(failure.error.message) from failure


def _amount(value: Any) -> Decimal:
    try:
        amount = Decimal(str(value or 0))
    except InvalidOperation as error:
        raise RowError(f"spend is no number: {str(value)[:60]}") from error
    if not amount.is_finite():
        return Decimal(0)
    if amount.adjusted() > _SPEND_DIGITS_MAX:
        raise RowError(f"spend is too large to be one: {str(value)[:60]}")
    return amount
