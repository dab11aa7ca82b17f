"""What may be said about a virtual key, read strictly: a field that would not be obeyed is refused, never ignored.

Pure. The names are LiteLLM's, beside ours; how a key is recorded is the matter of `key_changes.py`.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final, cast

from api.allowed_routes import GROUPS, ROUTES_MAX
from api.config_nodes import nearest
from api.errors import bad_request
from api.routes.field_values import (
    asks_nothing,
    read_flag,
    read_metadata,
    read_name,
    read_tags,
    read_texts,
    unknown_field,
    wrong_type,
)
from api.routes.times import after, read_moment
from ledger.encoding import rfc3339

MODELS_MAX: Final = 100
GRACE_MAX: Final = timedelta(days=30)
PERMISSIONS: Final = ("admin", "view")
_KEY: Final = re.compile(r"sk-[\x21-\x7e]{13,253}", re.ASCII)
_ROUTE: Final = re.compile(r"/[\x21-\x29\x2b-\x7e]*\*?", re.ASCII)
_NO_GRACE: Final = re.compile(r"0+(?:s|m|h|d|w|mo)?", re.ASCII)

_SAME: Final = {
    "organization_id": "org",
    "team_id": "team",
    "user_id": "user",
    "end_user_id": "end_user",
    "customer_id": "end_user",
    "expires_at": "expires",
}
#: Known from LiteLLM and not enforced here yet.
_NOT_ENFORCED: Final = frozenset(
    {
        "access_group_ids", "agent_id", "aliases", "allowed_cache_controls", "auto_rotate", "budget_duration",
        "budget_fallbacks", "budget_id", "budget_limits", "budget_reset_at", "config",
        "default_estimated_output_tokens", "default_estimated_output_tokens_per_model", "enable_prompt_caching",
        "end_user_budget_id", "enforced_params", "guardrails", "key_type", "max_budget", "max_parallel_requests",
        "mcp_rpm_limit", "model_max_budget", "model_rpm_limit", "model_tpm_limit", "new_master_key",
        "object_permission", "policies", "project_id", "prompts", "rotation_interval", "router_settings", "rpm_limit",
        "rpm_limit_type", "send_invite_email", "soft_budget", "spend", "tag_rpm_limit", "temp_budget_expiry",
        "temp_budget_increase", "throttle_on_budget_exceeded", "tpd_limit", "tpm_limit", "tpm_limit_type",
    }
)  # fmt: skip
#: Names that stand for sets of models in LiteLLM; here they would allow nothing.
_MODEL_SETS: Final = frozenset({"all-proxy-models", "all-team-models", "no-default-models", "all"})

#: What a key is where nothing is said, as the fact `key` spells it; a field that is set to null becomes this.
DEFAULTS: Final[Mapping[str, Any]] = {
    "key_alias": "", "org": "", "team": "", "user": "", "end_user": "", "models": [], "tags": [], "metadata": {},
    "expires_at": None, "blocked": False, "allowed_routes": [], "permissions": [], "store_bodies": None,
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class KeyWish:
    """What was asked for: the state of the new key as facts spell it. `key` None: a secret is to be made."""

    key: str | None
    state: dict[str, Any]


@dataclass(frozen=True, slots=True)
class KeyUpdate:
    """A key by one of its names, and the part of its state that shall be another."""

    name: str
    changes: dict[str, Any]


@dataclass(frozen=True, slots=True)
class KeyRegeneration:
    """As KeyUpdate, with the new secret (None: to be made) and for how long the old one is still accepted."""

    name: str
    changes: dict[str, Any]
    new_key: str | None
    grace: timedelta


def read_key_wish(body: dict[str, Any], now: datetime) -> KeyWish:
    """Read the body of /key/generate; null is the same as absent.

    Raises:
        ApiFailure: 400 naming the field that is unknown, not enforced, of the wrong type or out of bounds.
    """
    for name, value in body.items():
        _check_known(name, value, {"key"})
    given = _named({name: value for name, value in body.items() if value is not None and name not in _NOT_ENFORCED})
    return KeyWish(_secret(given.pop("key", None), "key"), {**DEFAULTS, **_state(given, now)})


def read_key_update(body: dict[str, Any], now: datetime) -> KeyUpdate:
    """Read the body of /key/update: what is absent stays, null resets.

    Raises:
        ApiFailure: 400.
    """
    name, rest = _name_of_key(body, {"key", "key_id"})
    return KeyUpdate(name, _state(_named(rest), now))


def read_key_regeneration(body: dict[str, Any], now: datetime, name: str | None = None) -> KeyRegeneration:
    """Read the body of /key/regenerate; `name` where the path names the key.

    Raises:
        ApiFailure: 400.
    """
    if name is not None:
        body = {"key_id": name} | body
    name, rest = _name_of_key(body, {"key", "key_id", "new_key", "grace_period"})
    new_key, grace = _secret(rest.pop("new_key", None), "new_key"), _grace(rest.pop("grace_period", None), now)
    return KeyRegeneration(name, _state(_named(rest), now), new_key, grace)


def _name_of_key(body: dict[str, Any], beside: set[str]) -> tuple[str, dict[str, Any]]:
    for field, value in body.items():
        _check_known(field, value, beside)
    names = [body[field] for field in ("key", "key_id") if body.get(field) is not None]
    if len(names) != 1 or not isinstance(names[0], str) or not names[0]:
        raise bad_request('Send "key": the key, its hash or its key_id; once.', param="key")
    enforced = {field: value for field, value in body.items() if field not in _NOT_ENFORCED}
    return names[0], {field: value for field, value in enforced.items() if field not in {"key", "key_id"}}


def _check_known(name: str, value: Any, beside: set[str]) -> None:
    """Refuse a field that no key has, or that asks for something that would not be obeyed."""
    if name in _NOT_ENFORCED:
        if not asks_nothing(name, value):
            raise bad_request(
                f"{name} is not enforced by this proxy yet, so a key cannot be issued with it. Leave it out.",
                param=name,
                code="unsupported_parameter",
            )
    elif name not in (known := {*KEY_VALUES, *_ENDS, *_SAME, *beside}):
        raise unknown_field(name, known, _SAME)


def _named(given: dict[str, Any]) -> dict[str, Any]:
    """Return fields under our names."""
    fields: dict[str, Any] = {}
    for name, value in given.items():
        known = _SAME.get(name, name)
        if known in fields:
            raise bad_request(f"{name} means the same as {known}, which is given too; keep one.", param=name)
        fields[known] = value
    return fields


def _state(fields: dict[str, Any], now: datetime) -> dict[str, Any]:
    """Return the part of a key's state that fields speak of; null: the default."""
    if fields.get("duration") is not None and fields.get("expires") is not None:
        raise bad_request("duration and expires both say when the key ends; keep one.", param="expires")
    state: dict[str, Any] = {}
    for name in sorted(fields, key=lambda name: fields[name] is not None):
        value, kept_as = fields[name], "expires_at" if name in _ENDS else name
        if value is None:
            state[kept_as] = DEFAULTS[kept_as]
        else:
            state[kept_as] = _expires(value, name, now) if name in _ENDS else KEY_VALUES[name](value, name)
    return state


def _secret(value: Any, param: str) -> str | None:
    if value is None:
        return None
    # The value is a secret: it is not repeated in an error.
    if not isinstance(value, str) or not _KEY.fullmatch(value):
        raise bad_request(
            f"{param} must be a text that starts with sk-, of 16 to 256 printable ASCII characters without spaces.",
            param=param,
        )
    return value


def _grace(value: Any, now: datetime) -> timedelta:
    if value is None:
        return timedelta()
    if not isinstance(value, str):
        raise wrong_type("grace_period", "a text", value)
    grace = timedelta() if _NO_GRACE.fullmatch(value.strip()) else after(value, now, "grace_period") - now
    if grace > GRACE_MAX:
        raise bad_request(f"grace_period must be at most {GRACE_MAX.days}d: got {value[:60]!r}.", param="grace_period")
    return grace


def _models(value: Any, param: str) -> list[str]:
    models = read_texts(value, param, MODELS_MAX)
    for model in models:
        if model in _MODEL_SETS or "*" in model:
            raise bad_request(
                f"models must be names of models: {model[:60]!r} stands for a set of them, which is not known here. "
                "Leave models out to allow all.",
                param=param,
            )
    return models


def _routes(value: Any, param: str) -> list[str]:
    routes = read_texts(value, param, ROUTES_MAX)
    for route in routes:
        if route not in GROUPS and not _ROUTE.fullmatch(route):
            raise bad_request(
                f"allowed_routes must be paths, such as /responses or /spend/*, or of {', '.join(GROUPS)}: "
                f"got {route[:60]!r}{nearest(route, GROUPS) or '.'}",
                param=param,
            )
    return routes


def _permissions(value: Any, param: str) -> list[str]:
    # LiteLLM's clients send an empty object where they mean none.
    listed: list[Any] = [] if value == {} else [value] if isinstance(value, str) else cast("list[Any]", value)
    permissions = sorted(read_texts(listed, param, 10))
    for permission in permissions:
        if permission not in PERMISSIONS:
            raise bad_request(f"permissions must be of {', '.join(PERMISSIONS)}: got {permission[:60]!r}.", param=param)
    return permissions


def _store_bodies(value: Any, param: str) -> str:
    if value not in ("all", "none"):
        raise bad_request(f"store_bodies must be all or none: got {str(value)[:60]!r}.", param=param)
    return str(value)


def _expires(value: Any, param: str, now: datetime) -> str:
    if not isinstance(value, str):
        raise wrong_type(param, "a text", value)
    if param == "duration":
        return rfc3339(after(value, now))
    expires_at = read_moment(value, param, is_end=True)
    if expires_at <= now:
        raise bad_request(f"expires must lie in the future: got {value[:60]!r}.", param=param)
    return rfc3339(expires_at)


#: Readers of values that do not depend on the time, by field; `litellm_keys.py` uses them, too.
KEY_VALUES: Final[dict[str, Callable[[Any, str], Any]]] = {
    **dict.fromkeys(("key_alias", "org", "team", "user", "end_user"), read_name),
    "models": _models,
    "tags": read_tags,
    "metadata": read_metadata,
    "blocked": read_flag,
    "allowed_routes": _routes,
    "permissions": _permissions,
    "store_bodies": _store_bodies,
}
_ENDS: Final = frozenset({"duration", "expires"})
