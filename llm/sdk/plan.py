"""What one call is to do, from its arguments, the settings and the environment: where to, how often, how long.

Pure but for the settings that it is handed. A plan is a value: calls with equal plans share a client (`calling.py`).
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, cast
from urllib.parse import urlsplit

from llm.deployment import Deployment
from llm.sdk.errors import UsageError
from llm.sdk.settings import Settings, environment_target, require_texts

PROVIDER: Final = "openai"
NUM_RETRIES: Final = 2
TIMEOUT_S: Final = 600.0
#: Stands for "no timeout": nothing here waits for ever.
TIMEOUT_S_MAX: Final = 86_400.0
_RETRIES_MAX: Final = 20
_FALLBACKS_MAX: Final = 5
_FALLBACK_KEYS: Final = frozenset({"model", "api_key", "api_base", "mock_response"})


@dataclass(frozen=True, slots=True)
class Target:
    """A model at a place. `model` is "" for requests that name none."""

    model: str
    api_base: str
    api_key: str = field(repr=False)
    mock_response: str | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """Where a call goes: the first target, then the others; `proxy` is its URL, "" where the engine calls by itself.

    `num_retries` are further attempts at the first target; through a proxy, further calls. Times in seconds.
    `keeps_bodies`: the book may hold what is asked and answered, as far as the call's own headers allow it.
    """

    targets: tuple[Target, ...]
    num_retries: int
    timeout_s: float
    proxy: str = ""
    keeps_bodies: bool = True

    def deployments(self) -> list[Deployment]:
        """Return the targets as the engine takes them; a model that occurs twice gets a group of its own each time."""
        found: list[Deployment] = []
        for number, target in enumerate(self.targets):
            is_twice = target.model in {deployment.model_name for deployment in found}
            name = f"{target.model}#{number + 1}" if is_twice else target.model
            found.append(
                Deployment(
                    deployment_id=_deployment_id(target),
                    model_name=name,
                    upstream_model=target.model,
                    api_base=target.api_base,
                    api_key=target.api_key,
                    mock_response=target.mock_response,
                    timeout_s=self.timeout_s,
                    stream_timeout_s=self.timeout_s,
                )
            )
        return found


def make_plan(
    settings: Settings,
    model: str = "",
    *,
    api_key: str | None = None,
    api_base: str | None = None,
    timeout: Any = None,
    num_retries: int | None = None,
    fallbacks: Sequence[str | Mapping[str, Any]] | None = None,
    mock_response: str | None = None,
) -> Plan:
    """Put a call's plan together; None: not given. `timeout` in seconds, or an httpx timeout whose `read` counts.

    Raises:
        UsageError: something of it cannot be used.
    """
    require_texts(api_key=api_key, api_base=api_base, mock_response=mock_response)
    timeout_s = _timeout_s(settings.timeout_s if timeout is None else timeout)
    retries = settings.num_retries if num_retries is None else num_retries
    keeps_bodies = settings.store_bodies != "none"
    if settings.proxy:
        _refuse_beside_proxy(api_base=api_base, fallbacks=fallbacks, mock_response=mock_response)
        key = api_key or settings.api_key
        if not key:
            raise UsageError("a proxy needs a key: llm.configure(proxy=..., api_key=...), or api_key of the call")
        target = Target(model, f"{settings.proxy}/v1", key)
        return Plan((target,), _count(0 if retries is None else retries), timeout_s, settings.proxy, keeps_bodies)
    first = _target(settings, model, api_key, api_base, mock_response)
    if isinstance(fallbacks, str | Mapping):
        # A text would be taken for a list of models of one letter each.
        raise UsageError("fallbacks is a list, such as ['gpt-4o-mini']")
    others = [_fallback(settings, first, fallback) for fallback in fallbacks or ()]
    if len(others) > _FALLBACKS_MAX:
        raise UsageError(f"at most {_FALLBACKS_MAX} fallbacks are taken, here are {len(others)}")
    retries = _count(NUM_RETRIES if retries is None else retries)
    return Plan((first, *others), retries, timeout_s, keeps_bodies=keeps_bodies)


def upstream_model(model: str) -> str:
    """Return the upstream's name of a model that may name its provider: `openai/gpt-4o` is `gpt-4o`.

    Raises:
        UsageError: another provider.
    """
    provider, slash, name = model.partition("/")
    if not slash:
        return model
    if provider != PROVIDER or not name:
        raise UsageError(f"model {model!r:.80}: the only provider is {PROVIDER}, as in {PROVIDER}/gpt-4o")
    return name


def _target(
    settings: Settings, model: str, api_key: str | None, api_base: str | None, mock_response: str | None
) -> Target:
    usual_base, usual_key = environment_target()
    configured = (settings.api_base or usual_base).rstrip("/")
    base = configured if api_base is None else api_base.strip().rstrip("/")
    _check_url(base)
    key = api_key
    if key is None and base == configured:
        key = settings.api_key
    if key is None and base == usual_base:
        key = usual_key
    if key is None and mock_response is None:
        raise UsageError(
            f"no key for {base:.80}: set OPENAI_API_KEY, or give api_key to the call or to llm.configure"
            if base == usual_base
            else f'no key for {base:.80}: give it api_key ("" sends none); OPENAI_API_KEY is not sent there'
        )
    return Target(upstream_model(model), base, key or "", mock_response)


def _fallback(settings: Settings, first: Target, fallback: str | Mapping[str, Any]) -> Target:
    if isinstance(fallback, str):
        return Target(upstream_model(fallback), first.api_base, first.api_key, first.mock_response)
    if not isinstance(fallback, Mapping):  # pyright: ignore[reportUnnecessaryIsInstance] - whatever programs give
        raise UsageError(f"a fallback is a model's name or a mapping, not {type(fallback).__name__}")
    unknown = sorted(map(str, fallback.keys() - _FALLBACK_KEYS))
    if unknown or not isinstance(fallback.get("model"), str):
        raise UsageError(
            f"a fallback is a model's name, or a mapping of {', '.join(sorted(_FALLBACK_KEYS))} with at least model; "
            f"found {', '.join(unknown) or 'no model'}"
        )
    given = cast("Mapping[str, str | None]", fallback)
    require_texts(**given)
    base, key = given.get("api_base"), given.get("api_key")
    if base is None:
        base, key = first.api_base, first.api_key if key is None else key
    return _target(settings, given["model"] or "", key, base, given.get("mock_response"))


def _refuse_beside_proxy(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            raise UsageError(f"{name} cannot be said to a proxy: its config says which deployments serve a model")


def _timeout_s(timeout: Any) -> float:
    value = getattr(timeout, "read", timeout)
    if timeout is not None and value is None:
        return TIMEOUT_S_MAX
    if value is None:
        return TIMEOUT_S
    if isinstance(value, bool) or not isinstance(value, int | float) or not (value > 0 and math.isfinite(value)):
        raise UsageError(f"timeout is a number of seconds above 0, not {value!r:.40}")
    return min(float(value), TIMEOUT_S_MAX)


def _count(num_retries: Any) -> int:
    if isinstance(num_retries, bool) or not isinstance(num_retries, int) or not 0 <= num_retries <= _RETRIES_MAX:
        raise UsageError(f"num_retries is a number from 0 to {_RETRIES_MAX}, not {num_retries!r:.40}")
    return num_retries


def _check_url(url: str) -> None:
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment or parts.username:
        raise UsageError(
            f"api_base is a URL such as https://api.openai.com/v1, without user and query, not {url!r:.80}"
        )


def _deployment_id(target: Target) -> str:
    """The id that a proxy gives a deployment of the same name, model and place."""
    identity = "\n".join((target.model, f"{PROVIDER}/{target.model}", target.api_base))
    return hashlib.sha256(identity.encode()).hexdigest()[:16]
