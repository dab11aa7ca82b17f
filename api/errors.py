"""Turns what goes wrong into answers in OpenAI's shape; the one table of statuses and codes.

Routes raise `ApiFailure`; `app.py` answers it. The shape itself is `llm.errors.ApiError`.
"""

import re
from collections.abc import Sequence
from typing import Final

from llm.errors import ApiError

SERVED = (
    "POST /responses and what lies below it (also under /v1 and /openai/v1), /models, /health/*, /key/*, /team/*, "
    "/spend/*, /global/*, /customer/*, /end_user/*, /{user,team,organization,tag,customer}/daily/activity, /prices/*, "
    "/organization/usage/completions, /organization/costs, /ledger/calls/*, /ledger/events, /metrics, /openapi.json, "
    "/docs"
)

_PATH_CHARS_MAX: Final = 200
#: Paths of OpenAI's other APIs, which clients of such proxies try.
_OF_OTHER_APIS: Final = re.compile(
    r"/(?:completions|embeddings|moderations|images|audio|files|batches|assistants|threads|fine_tuning|realtime|"
    r"vector_stores|conversations|messages)(?:/|$)"
)


class ApiFailure(Exception):  # noqa: N818 - it is an answer, not a fault of the program
    """A request that is answered with an error."""

    def __init__(self, error: ApiError) -> None:
        super().__init__(error.message)
        self.error = error


def bad_request(message: str, *, param: str | None = None, code: str | None = None) -> ApiFailure:
    """400: the request cannot be understood or is refused as it stands."""
    return ApiFailure(ApiError(400, message, "invalid_request_error", code, param))


def unauthorized(message: str, code: str = "invalid_api_key") -> ApiFailure:
    """401: no key, or one that is not valid."""
    return ApiFailure(ApiError(401, message, "invalid_request_error", code))


def forbidden(message: str, code: str = "permission_denied") -> ApiFailure:
    """403: a valid key that may not do this."""
    return ApiFailure(ApiError(403, message, "invalid_request_error", code))


def not_found(message: str, code: str = "not_found", param: str | None = None) -> ApiFailure:
    """404: there is no such thing, or it is not this key's to see."""
    return ApiFailure(ApiError(404, message, "invalid_request_error", code, param))


def unknown_path(method: str, path: str) -> ApiError:
    """404: a path that is not served, with those that are."""
    hint = ""
    if _OF_OTHER_APIS.search(path):
        hint = " Of OpenAI's API this proxy serves the Responses API: send the request to POST /v1/responses."
    elif path_with_single_slashes(path) != path:
        hint = f" Did you mean {path_with_single_slashes(path)[:_PATH_CHARS_MAX]}?"
    return ApiError(
        404, f"{method} {path[:_PATH_CHARS_MAX]} is not served here.{hint} Served are: {SERVED}.", code="unknown_url"
    )


def path_with_single_slashes(path: str) -> str:
    """Return a path as it was probably meant."""
    return re.sub(r"/{2,}", "/", path)


def wrong_method(method: str, path: str, allowed: Sequence[str]) -> ApiError:
    """405: a path that is served, with another method."""
    message = f"{path[:_PATH_CHARS_MAX]} does not take {method}, but {', '.join(allowed)}."
    return ApiError(405, message, code="method_not_allowed", allow=tuple(allowed))


def unavailable(message: str) -> ApiFailure:
    """503: the book cannot do it now."""
    return ApiFailure(ApiError(503, message, "server_error", "ledger_unavailable", retry_after_s=2))
