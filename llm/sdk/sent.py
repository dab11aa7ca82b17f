"""A request as the `openai` package made it, and what of its headers the engine would not pass on by itself."""

from dataclasses import dataclass
from typing import Final

from llm.upstream import Headers, Upstream, UpstreamAnswer, UpstreamRequest

#: A proxy drops these, because they are another party's. Here they are the program's own, meant for its upstream.
_OWN: Final = frozenset({"openai-organization", "openai-project", "api-key", "x-api-key", "cookie"})


@dataclass(frozen=True, slots=True)
class Sent:
    """One request; `path` and `query` as they follow the base URL, header names in lower case."""

    method: str
    path: str
    query: str
    headers: Headers
    body: bytes

    @property
    def is_stream(self) -> bool:
        """Whether its stream is asked for by query, as that of a stored response is."""
        return "stream=true" in self.query.split("&")


class WithOwnHeaders:
    """An upstream that also gets the program's own credentials and account headers, at `api_base` and nowhere else."""

    def __init__(self, upstream: Upstream, headers: Headers, api_base: str) -> None:
        self._upstream = upstream
        self._headers = [(name, value) for name, value in headers if name in _OWN]
        self._api_base = api_base

    async def send(self, request: UpstreamRequest) -> UpstreamAnswer:
        """Send a request.

        Raises:
            UpstreamError: there was no answer.
        """
        if self._headers and request.deployment.api_base == self._api_base:
            request = request._replace(headers=[*request.headers, *self._headers])
        return await self._upstream.send(request)

    async def aclose(self) -> None:
        """Leave the upstream open: it serves other calls."""
