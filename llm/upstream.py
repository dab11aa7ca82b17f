"""The seam to the upstream: what is sent, what comes back, how it fails. Nothing else speaks HTTP to an upstream.

`upstream_http.py` is the real one, `upstream_mock.py` answers by itself; a test may put a third behind the protocol.
"""

from collections.abc import AsyncIterator
from typing import NamedTuple, Protocol

from llm.deployment import Deployment

Headers = list[tuple[str, str]]


class UpstreamRequest(NamedTuple):
    """One request, as bytes and headers; `path` and `query` are appended to the deployment's base."""

    deployment: Deployment
    method: str
    path: str
    query: str
    headers: Headers
    body: bytes
    is_stream: bool

    @property
    def url(self) -> str:
        """The whole URL."""
        return f"{self.deployment.api_base}{self.path}{'?' if self.query else ''}{self.query}"


class UpstreamError(Exception):
    """The upstream gave no answer, or broke off in the middle of one.

    Args:
        reason: a stable word: connect, timeout, disconnected, protocol, cut.
        message: what happened, without credentials.
        sent: whether the upstream may have begun to work on the request; if so, it may cost.
    """

    def __init__(self, reason: str, message: str, *, sent: bool) -> None:
        super().__init__(f"{reason}: {message}")
        self.reason = reason
        self.message = message
        self.sent = sent


class UpstreamAnswer(Protocol):
    """An answer whose head has arrived; its body comes in pieces, undecoded."""

    status: int
    headers: Headers

    def pieces(self) -> AsyncIterator[bytes]:
        """Yield the body as it arrives.

        Raises:
            UpstreamError: it broke off.
        """
        ...

    async def aclose(self) -> None:
        """Release the connection; what has not been read is dropped."""
        ...


class Upstream(Protocol):
    """Something that answers requests."""

    async def send(self, request: UpstreamRequest) -> UpstreamAnswer:
        """Send a request and return its answer once the head is there.

        Raises:
            UpstreamError: there was none.
        """
        ...

    async def aclose(self) -> None:
        """Close all connections."""
        ...
