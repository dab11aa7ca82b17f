"""Which headers cross the proxy, in which direction, and which of them the book keeps."""

from collections.abc import Iterable
from typing import Final

from llm.encodings import narrow_accept_encoding
from llm.masking import is_named_like_credential

Headers = list[tuple[str, str]]

#: Belong to one connection (RFC 9110, 7.6.1), or are computed anew.
_HOP_BY_HOP: Final = frozenset(
    {
        "connection", "keep-alive", "proxy-authenticate", "proxy-authorization", "proxy-connection", "te", "trailer",
        "transfer-encoding", "upgrade", "content-length", "host", "expect",
    }
)  # fmt: skip
#: The client's credentials and what only concerns this proxy.
_NOT_UPSTREAM: Final = _HOP_BY_HOP | {
    "authorization", "x-api-key", "api-key", "x-litellm-api-key", "cookie", "accept-encoding", "content-encoding",
    "forwarded", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-forwarded-port", "x-real-ip", "via",
    "openai-organization", "openai-project",
}  # fmt: skip
_OURS: Final = ("x-llm-", "x-litellm-")
#: Of the upstream's connection or site, not of its answer.
_NOT_TO_CLIENT: Final = _HOP_BY_HOP | {
    "set-cookie", "alt-svc", "strict-transport-security", "server", "date", "nel", "report-to", "cf-ray",
    "cf-cache-status",
}  # fmt: skip
#: What the book keeps of a request; no credentials are among them.
_BOOK_REQUEST: Final = frozenset(
    {
        "accept", "accept-encoding", "content-encoding", "content-type", "idempotency-key", "openai-beta", "user-agent",
        "x-client-request-id", "x-request-id",
    }
)  # fmt: skip
_BOOK_REQUEST_PREFIXES: Final = ("x-stainless-", "x-llm-", "x-litellm-")
_BOOK_ANSWER: Final = frozenset(
    {"content-type", "content-encoding", "location", "retry-after", "retry-after-ms", "x-request-id", "x-should-retry"}
)
_BOOK_ANSWER_PREFIXES: Final = ("openai-", "x-ratelimit-")
_VALUE_CHARS_MAX: Final = 512


def to_upstream(headers: Iterable[tuple[str, str]], *, api_key: str, content_encoding: str, is_stream: bool) -> Headers:
    """Return the headers to send: the client's without credentials and hop-by-hop ones, with the deployment's key.

    A stream is asked for without content coding, so that its blocks can be told apart as they arrive.
    """
    kept: Headers = []
    accepted: str | None = None
    has_type = False
    for name, value in headers:
        if name == "accept-encoding":
            accepted = value
        elif name not in _NOT_UPSTREAM and not name.startswith(_OURS):
            has_type = has_type or name == "content-type"
            kept.append((name, value))
    if not has_type:
        kept.append(("content-type", "application/json"))
    kept.append(("accept-encoding", "identity" if is_stream else narrow_accept_encoding(accepted)))
    if content_encoding:
        kept.append(("content-encoding", content_encoding))
    if api_key:
        kept.append(("authorization", f"Bearer {api_key}"))
    return kept


def to_client(headers: Iterable[tuple[str, str]]) -> Headers:
    """Return the headers of an upstream's answer that the client gets."""
    named = {
        item.strip().lower() for name, value in headers if name.lower() == "connection" for item in value.split(",")
    }
    return [
        (lower, value if value.isprintable() else _printable(value))
        for name, value in headers
        if (lower := name.lower()) not in _NOT_TO_CLIENT and lower not in named and not lower.startswith(_OURS)
    ]


def _printable(value: str) -> str:
    """Return a header's value without control characters, which no server may send (RFC 9110, 5.5)."""
    return "".join(letter for letter in value if letter == "\t" or not (letter < " " or letter == "\x7f"))


def of_request(headers: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return what the book keeps of a request's headers."""
    return [
        [name, value[:_VALUE_CHARS_MAX]]
        for name, value in headers
        if name in _BOOK_REQUEST or (name.startswith(_BOOK_REQUEST_PREFIXES) and not is_named_like_credential(name))
    ]


def of_answer(headers: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return what the book keeps of an answer's headers: what a replay needs, and the upstream's own account."""
    return [
        [lower, value[:_VALUE_CHARS_MAX]]
        for name, value in headers
        if (lower := name.lower()) in _BOOK_ANSWER or lower.startswith(_BOOK_ANSWER_PREFIXES)
    ]


def is_json(headers: Iterable[tuple[str, str]]) -> bool:
    """Tell whether a body's type is JSON's, or is not said."""
    kind = find(headers, "content-type").lower()
    return not kind or "json" in kind


def as_json(headers: Headers) -> Headers:
    """Return the headers of a body that is read as JSON, and so goes on as JSON: curl's -d calls it a form."""
    if is_json(headers):
        return headers
    return [(name, "application/json" if name == "content-type" else value) for name, value in headers]


def find(headers: Iterable[tuple[str, str]], wanted: str) -> str:
    """Return a header's first value, "" where it is absent; `wanted` in lower case."""
    return next((value for name, value in headers if name.lower() == wanted), "")
