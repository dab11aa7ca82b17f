"""Errors in OpenAI's shape, for answers that the proxy gives itself: `{"error": {message, type, param, code}}`."""

import json
from dataclasses import dataclass

_UNAUTHORIZED = 401
_KEY_STATUSES = frozenset({401, 403})
_STATUS_OF_REASON = {"timeout": 504}


@dataclass(frozen=True, slots=True)
class ApiError:
    """What a client is told, by status and in OpenAI's shape; `retry_after_s` and `allow` become headers."""

    status: int
    message: str
    type: str = "invalid_request_error"
    code: str | None = None
    param: str | None = None
    retry_after_s: int | None = None
    should_retry: bool | None = None
    #: The methods that a path takes.
    allow: tuple[str, ...] = ()

    def body(self) -> bytes:
        """Return the JSON body."""
        return json.dumps({"error": self.facts()}).encode()

    def facts(self) -> dict[str, str | None]:
        """Return the four members of `error`."""
        return {"message": self.message, "type": self.type, "param": self.param, "code": self.code}

    def event(self, sequence_number: int) -> bytes:
        """Return the SSE block that ends a stream with this error, in the shape that OpenAI sends."""
        event = {"type": "error", "sequence_number": sequence_number, "error": self.facts()}
        return f"event: error\ndata: {json.dumps(event, separators=(',', ':'))}\n\n".encode()

    def headers(self) -> list[tuple[str, str]]:
        """Return the headers that go with it."""
        headers = [("content-type", "application/json")]
        if self.retry_after_s is not None:
            headers.append(("retry-after", str(self.retry_after_s)))
        if self.should_retry is not None:
            headers.append(("x-should-retry", "true" if self.should_retry else "false"))
        if self.allow:
            headers.append(("allow", ", ".join(self.allow)))
        if self.status == _UNAUTHORIZED:
            headers.append(("www-authenticate", 'Bearer realm="responses-ledger"'))
        return headers


def upstream_failed(reason: str, message: str) -> ApiError:
    """Return the answer to a client whose upstream gave none."""
    status = _STATUS_OF_REASON.get(reason, 502)
    return ApiError(status, f"The upstream did not answer: {message}.", "server_error", f"upstream_{reason}")


def key_refused(status: int) -> ApiError | None:
    """Return the answer to a client whose upstream refused the proxy's own key; None for every other status.

    Passed on as it is, it would tell the client that its key is wrong.
    """
    if status not in _KEY_STATUSES:
        return None
    message = (
        f"The upstream refused the key that this proxy is configured with (HTTP {status}). Your own key is not at "
        "fault; tell whoever runs the proxy."
    )
    return ApiError(502, message, "server_error", "upstream_key_refused", should_retry=False)


LEDGER_UNAVAILABLE = ApiError(
    503,
    "The ledger cannot record at the moment, so nothing was forwarded. Try again shortly.",
    "server_error",
    "ledger_unavailable",
    retry_after_s=2,
)
STREAM_CUT = ApiError(
    503, "The ledger could not record the end of this answer in time.", "server_error", "ledger_unavailable"
)
ANSWER_UNRECORDED = ApiError(
    503,
    "The request was forwarded, and may be charged, but its answer could not be recorded in time.",
    "server_error",
    "ledger_unavailable",
    should_retry=False,
)
INTERNAL = ApiError(500, "The proxy failed to serve this request; its log says why.", "server_error", "internal_error")
SHUTTING_DOWN = ApiError(503, "The proxy is shutting down.", "server_error", "shutting_down", retry_after_s=1)
