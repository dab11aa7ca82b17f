"""What may be said about a new virtual key, read strictly: a field that would not be obeyed is refused, never ignored.

Pure. The names are LiteLLM's, beside ours; how a key is recorded is the matter of `key_changes.py`.
"""

import re
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final, cast

from api.config_nodes import nearest
from api.errors import ApiFailure, bad_request
from api.identity import TAGS_MAX
from api.routes.times import after, read_moment
from ledger.facts import tags_of

#: Longer names would be shortened where reports group by them.
NAME_CHARS_MAX: Final = 200
MODELS_MAX: Final = 100
METADATA_CHARS_MAX: Final = 4_096
_KEY: Final = re.compile(r"sk-[\x21-\x7e]{13,253}", re.ASCII)
_INTEGER_MAX: Final = 2**63 - 1
_METADATA_DEPTH_MAX: Final = 8

_SAME: Final = {
    "organization_id": "org",
    "team_id": "team",
    "user_id": "user",
    "end_user_id": "end_user",
    "customer_id": "end_user",
    "expires_at": "expires",
}
_KNOWN: Final = frozenset(
    {"key", "key_alias", "models", "metadata", "tags", "duration", "expires", "org", "team", "user", "end_user", *_SAME}
)
#: Known from LiteLLM and not enforced here yet.
_NOT_ENFORCED: Final = frozenset(
    {
        "access_group_ids", "agent_id", "aliases", "allowed_cache_controls", "allowed_routes", "auto_rotate", "blocked",
        "budget_duration", "budget_fallbacks", "budget_id", "budget_limits", "budget_reset_at", "config",
        "default_estimated_output_tokens", "default_estimated_output_tokens_per_model", "enable_prompt_caching",
        "end_user_budget_id", "enforced_params", "grace_period", "guardrails", "key_type", "max_budget",
        "max_parallel_requests", "mcp_rpm_limit", "model_max_budget", "model_rpm_limit", "model_tpm_limit",
        "object_permission", "permissions", "policies", "project_id", "prompts", "rotation_interval", "router_settings",
        "rpm_limit", "rpm_limit_type", "send_invite_email", "soft_budget", "spend", "tag_rpm_limit",
        "temp_budget_expiry", "temp_budget_increase", "throttle_on_budget_exceeded", "tpd_limit", "tpm_limit",
        "tpm_limit_type",
    }
)  # fmt: skip
#: Names that stand for sets of models in LiteLLM; here they would allow nothing.
_MODEL_SETS: Final = frozenset({"all-proxy-models", "all-team-models", "no-default-models", "all"})


@dataclass(frozen=True, slots=True)
class KeyWish:
    """What was asked for; "" and empty where nothing was. `key` None: one is to be made."""

    key: str | None
    key_alias: str
    org: str
    team: str
    user: str
    end_user: str
    models: tuple[str, ...]
    tags: tuple[str, ...]
    metadata: dict[str, Any]
    expires_at: datetime | None


def read_key_wish(body: dict[str, Any], now: datetime) -> KeyWish:
    """Read the body of /key/generate; null is the same as absent.

    Raises:
        ApiFailure: 400 naming the field that is unknown, not enforced, of the wrong type or out of bounds.
    """
    fields: dict[str, Any] = {}
    for name, value in body.items():
        check_known(name, value)
        if value is None:
            continue
        known = _SAME.get(name, name)
        if known in fields:
            raise bad_request(f"{name} means the same as {known}, which is given too; keep one.", param=name)
        fields[known] = value
    names = {name: _name(fields, name) for name in ("key_alias", "org", "team", "user", "end_user")}
    return KeyWish(
        key=_key(fields),
        models=_models(fields),
        tags=_tags(fields),
        metadata=_metadata(fields),
        expires_at=_expiry(fields, now),
        **names,
    )


def check_known(name: str, value: Any) -> None:
    """Refuse a field that no key has, or that is given and would not be obeyed.

    Raises:
        ApiFailure: 400.
    """
    if name in _NOT_ENFORCED:
        if value is not None:
            raise bad_request(
                f"{name} is not enforced by this proxy yet, so a key cannot be issued with it. Leave it out.",
                param=name,
                code="unsupported_parameter",
            )
    elif name not in _KNOWN:
        raise unknown_field(name, _KNOWN)


def unknown_field(name: str, known: frozenset[str]) -> ApiFailure:
    """400: a field that is not known, with the nearest one that is."""
    accepted = ", ".join(sorted(known - _SAME.keys()))
    return bad_request(
        f"Unknown field {name[:60]!r}{nearest(name, known)}. Accepted here: {accepted}.",
        param=name[:60],
        code="unknown_parameter",
    )


def _key(fields: dict[str, Any]) -> str | None:
    value = fields.get("key")
    if value is None:
        return None
    # The value is a secret: it is not repeated in an error.
    if not isinstance(value, str) or not _KEY.fullmatch(value):
        raise bad_request(
            "key must be a text that starts with sk-, of 16 to 256 printable ASCII characters without spaces.",
            param="key",
        )
    return value


def _name(fields: dict[str, Any], name: str) -> str:
    value = fields.get(name, "")
    if not isinstance(value, str):
        raise _wrong_type(name, "a text", value)
    stripped = value.strip()
    if len(stripped) > NAME_CHARS_MAX:
        raise bad_request(f"{name} must have at most {NAME_CHARS_MAX} characters: got {len(stripped)}.", param=name)
    return stripped


def _texts(fields: dict[str, Any], name: str) -> list[str]:
    value = fields.get(name, [])
    if not isinstance(value, list):
        raise _wrong_type(name, "a list of texts", value)
    texts: list[str] = []
    for position, member in enumerate(cast("list[Any]", value)):
        param = f"{name}[{position}]"
        if not isinstance(member, str):
            raise _wrong_type(param, "a text", member)
        if not member.strip() or len(member.strip()) > NAME_CHARS_MAX:
            raise bad_request(f"{param} must have from 1 to {NAME_CHARS_MAX} characters.", param=param)
        texts.append(member.strip())
    return texts


def _models(fields: dict[str, Any]) -> tuple[str, ...]:
    models = tuple(dict.fromkeys(_texts(fields, "models")))
    if len(models) > MODELS_MAX:
        raise bad_request(f"models must be at most {MODELS_MAX}: got {len(models)}.", param="models")
    for model in models:
        if model in _MODEL_SETS or "*" in model:
            raise bad_request(
                f"models must be names of models: {model[:60]!r} stands for a set of them, which is not known here. "
                "Leave models out to allow all.",
                param="models",
            )
    return models


def _tags(fields: dict[str, Any]) -> tuple[str, ...]:
    texts = _texts(fields, "tags")
    for tag in texts:
        if "," in tag:
            raise bad_request(f"A tag has no comma, which separates tags in a header: got {tag[:60]!r}.", param="tags")
    tags = tags_of(texts)
    if len(tags) > TAGS_MAX:
        raise bad_request(f"A call has at most {TAGS_MAX} tags, this key would bring {len(tags)}.", param="tags")
    return tuple(tags)


def _metadata(fields: dict[str, Any]) -> dict[str, Any]:
    value = fields.get("metadata", {})
    if not isinstance(value, dict):
        raise _wrong_type("metadata", "an object", value)
    size = _check_metadata(value, "metadata", 0)
    if size > METADATA_CHARS_MAX:
        raise bad_request(f"metadata must be at most {METADATA_CHARS_MAX} characters: got {size}.", param="metadata")
    return cast("dict[str, Any]", value)


def _check_metadata(value: Any, path: str, depth: int) -> int:
    """Return about how many characters a value takes; refuse what facts cannot hold as it is."""
    if depth > _METADATA_DEPTH_MAX:
        raise bad_request(f"metadata must be nested at most {_METADATA_DEPTH_MAX} deep.", param="metadata")
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value).items()
        return sum(len(name) + 4 + _check_metadata(member, f"{path}.{name}", depth + 1) for name, member in members) + 2
    if isinstance(value, list):
        listed = enumerate(cast("list[Any]", value))
        return sum(1 + _check_metadata(member, f"{path}[{position}]", depth + 1) for position, member in listed) + 2
    is_integer = isinstance(value, int)
    if isinstance(value, Decimal) or (is_integer and not -_INTEGER_MAX <= value <= _INTEGER_MAX):
        raise bad_request(
            f"{path[:200]} must not be a fraction or a number of more than 64 bits: send it as a text, which stays as "
            "it is.",
            param=path[:200],
        )
    return len(str(value)) + 2


def _expiry(fields: dict[str, Any], now: datetime) -> datetime | None:
    for name in ("duration", "expires"):
        if not isinstance(fields.get(name, ""), str):
            raise _wrong_type(name, "a text", fields[name])
    if "duration" in fields and "expires" in fields:
        raise bad_request("duration and expires both say when the key ends; keep one.", param="expires")
    if "duration" in fields:
        return after(fields["duration"], now)
    if "expires" not in fields:
        return None
    expires_at = read_moment(fields["expires"], "expires", is_end=True)
    if expires_at <= now:
        raise bad_request(f"expires must lie in the future: got {fields['expires'][:60]!r}.", param="expires")
    return expires_at


def _wrong_type(param: str, expected: str, value: Any) -> ApiFailure:
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return bad_request(f"{param} must be {expected}: got {kinds.get(type(value), 'a number')}.", param=param)
