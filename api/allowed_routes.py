"""Which routes a key may use: paths, paths with a trailing star, and named groups of them.

Pure. The groups bear LiteLLM's names; what they hold is what this proxy serves. `key_fields.py` reads what people give,
`context.py` and `calls.py` ask.
"""

from collections.abc import Iterable, Sequence
from typing import Final

ROUTES_MAX: Final = 50

#: Paths below which nothing is told apart: /v1/responses and /responses are one route.
_PREFIXES: Final = ("/openai/v1", "/v1", "/v2")

GROUPS: Final[dict[str, tuple[str, ...]]] = {
    "llm_api_routes": ("/responses", "/responses/*", "/models", "/models/*"),
    "info_routes": (
        "/models", "/models/*", "/key/info", "/key/list", "/key/aliases", "/team/info", "/team/list", "/user/info",
        "/user/list", "/customer/info", "/customer/list", "/end_user/info", "/end_user/list", "/organization/info",
        "/organization/list", "/ledger/*", "/prices", "/prices/info", "/prices/list",
    ),
    "management_routes": (
        "/key/*", "/team/*", "/organization/new", "/organization/update", "/organization/delete", "/organization/info",
        "/organization/list", "/user/new", "/user/update", "/user/delete", "/user/info", "/user/list", "/customer/new",
        "/customer/update", "/customer/delete", "/customer/info", "/customer/list", "/customer/block",
        "/customer/unblock", "/end_user/*", "/budget/*", "/prices", "/prices/*", "/price/*", "/tag/*",
    ),
    "spend_tracking_routes": (
        "/spend/*", "/global/*", "/organization/usage/*", "/organization/costs", "/customer/daily/activity",
        "/customer/info", "/customer/list", "/end_user/daily/activity", "/end_user/info", "/end_user/list",
        "/user/daily/activity", "/user/daily/activity/aggregated", "/team/daily/activity", "/tag/daily/activity",
        "/organization/daily/activity", "/ledger/calls/*",
    ),
}  # fmt: skip


def normal(path: str) -> str:
    """Return a path without its version, without a slash at its end."""
    return _without_version(path).rstrip("/") or "/"


def _without_version(path: str) -> str:
    found = next((prefix for prefix in _PREFIXES if path.startswith(f"{prefix}/")), "")
    return path[len(found) :]


def is_allowed(patterns: Sequence[str], path: str) -> bool:
    """Tell whether a key with these patterns may use a path, with its version or without; no patterns: every path."""
    spelt = {path, normal(path)}
    return not patterns or any(_matches(pattern, each) for pattern in _paths(patterns) for each in spelt)


def covers(own: Sequence[str], granted: Sequence[str]) -> bool:
    """Tell whether everything that `granted` allows is allowed by `own` too."""
    if not own:
        return True
    mine = tuple(_paths(own))
    return bool(granted) and all(any(_holds(pattern, other) for pattern in mine) for other in _paths(granted))


def _paths(patterns: Iterable[str]) -> Iterable[str]:
    """Spell groups out; a star stays at the end of its path."""
    for pattern in patterns:
        for path in GROUPS.get(pattern, (pattern,)):
            if not path.endswith("*"):
                yield normal(path)
            elif _without_version(path) == "/*":
                # Everything below a version is not everything.
                yield path
            else:
                yield _without_version(path)


def _matches(pattern: str, path: str) -> bool:
    return path.startswith(pattern[:-1]) if pattern.endswith("*") else path == pattern


def _holds(pattern: str, other: str) -> bool:
    """Tell whether every path of one pattern is one of another's."""
    if other.endswith("*"):
        return pattern.endswith("*") and other.startswith(pattern[:-1])
    return _matches(pattern, other)
