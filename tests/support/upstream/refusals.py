"""Answers that refuse: OpenAI's errors by status, a CDN's HTML, redirects.

Part of the scripts in `faults`. Messages and codes as the API documents or as they were recorded; no recorded 403, 404,
429 or 5xx is known, so those follow the documentation.
"""

import json
from collections.abc import Callable

from tests.support.upstream.framing import JSON_TYPE, plain
from tests.support.upstream.generated import openai_headers
from tests.support.upstream.requests import Received
from tests.support.upstream.steps import Answer, Header

Script = Callable[[Received, str], Answer]
_HTML: Header = ("content-type", "text/html; charset=UTF-8")
_LIMITS: tuple[Header, ...] = (
    ("x-ratelimit-limit-requests", "500"),
    ("x-ratelimit-remaining-tokens", "0"),
    ("x-ratelimit-reset-tokens", "6m0s"),
)


def refusal(
    status: int,
    message: str,
    *,
    kind: str = "invalid_request_error",
    code: str | int | None = None,
    param: str | None = None,
    headers: tuple[Header, ...] = (),
) -> Script:
    """A JSON error in OpenAI's shape."""
    body = json.dumps({"error": {"message": message, "type": kind, "param": param, "code": code}}, indent=2).encode()

    def script(received: Received, response_id: str) -> Answer:
        del response_id
        return plain(body, status=status, headers=(JSON_TYPE, *openai_headers(received), *headers))

    return script


def _page(status: int, body: bytes, headers: tuple[Header, ...] = ()) -> Script:
    return lambda _received, _response_id: plain(body, status=status, headers=(_HTML, *headers))


_RATE = "Rate limit reached for gpt-4o in organization org-stand-in on tokens per min (TPM)."
_QUOTA = "You exceeded your current quota, please check your plan and billing details."

REFUSALS: dict[str, Script] = {
    "error_400": refusal(400, "Invalid value: 'x'.", code="invalid_value", param="input"),
    "error_400_model": refusal(400, "The requested model 'x' does not exist.", code="model_not_found", param="model"),
    "error_400_context": refusal(
        400, "Your input exceeds the context window of this model.", code="context_length_exceeded", param="input"
    ),
    "error_401": refusal(
        401,
        "Incorrect API key provided: sk-stand*************-in.",
        code="invalid_api_key",
        headers=(("www-authenticate", 'Bearer realm="OpenAI API"'),),
    ),
    "error_403": refusal(
        403,
        "Country, region, or territory not supported",
        kind="request_forbidden",
        code="unsupported_country_region_territory",
    ),
    "error_404": refusal(404, "Response with id 'resp_x' not found."),
    "error_408": refusal(408, "Request timeout.", kind="timeout"),
    "error_409": refusal(409, "Conflict: another request holds this resource.", kind="conflict"),
    "error_422": refusal(422, "Unprocessable entity."),
    "error_429": refusal(
        429, _RATE, kind="tokens", code="rate_limit_exceeded", headers=(("retry-after", "1"), *_LIMITS)
    ),
    "error_429_ms": refusal(
        429, _RATE, kind="tokens", code="rate_limit_exceeded", headers=(("retry-after-ms", "20"), *_LIMITS)
    ),
    "error_429_long": refusal(429, _RATE, kind="tokens", code="rate_limit_exceeded", headers=(("retry-after", "300"),)),
    "error_429_date": refusal(
        429,
        _RATE,
        kind="tokens",
        code="rate_limit_exceeded",
        headers=(("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT"),),
    ),
    "error_429_quota": refusal(
        429, _QUOTA, kind="insufficient_quota", code="insufficient_quota", headers=(("x-should-retry", "false"),)
    ),
    "error_400_should_retry": refusal(400, "Try again.", headers=(("x-should-retry", "true"),)),
    "error_500": refusal(
        500, "The server had an error processing your request.", kind="server_error", code="server_error"
    ),
    "error_500_integer_code": refusal(500, "Provider returned error", kind="server_error", code=500),
    "error_502": refusal(502, "Bad gateway.", kind="server_error"),
    "error_503": refusal(
        503,
        "The engine is currently overloaded, please try again later.",
        kind="service_unavailable_error",
        code="server_is_overloaded",
        headers=(("retry-after", "1"),),
    ),
    "error_504": refusal(504, "Gateway timeout.", kind="server_error"),
    "error_529": refusal(529, "Slow down.", kind="server_error", code="slow_down"),
    "html_502": _page(502, b"<html><head><title>502 Bad Gateway</title></head><body>cloudflare</body></html>\n"),
    "html_503": _page(503, b"<!DOCTYPE html><title>Service unavailable</title>\n", (("retry-after", "1"),)),
    "html_200": _page(200, b"<html><body>Sign in to the hotel's network</body></html>\n"),
    "error_string": lambda _r, _i: plain(b'{"error":"upstream unhappy"}', status=500),
    "error_empty": lambda _r, _i: plain(b"", status=500),
    "redirect_301": _page(301, b"moved\n", (("location", "https://example.invalid/v1/responses"),)),
    "redirect_307": _page(307, b"moved\n", (("location", "https://example.invalid/v1/responses"),)),
}
