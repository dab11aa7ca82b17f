"""The real upstream, over aiohttp's client. The only module that knows which HTTP client is used.

aiohttp itself rather than httpx over it: of a bare pass-through on one core, the same calls take half the time or less
(docs/PERFORMANCE.md has the figures), and a lost connection can be told from one that was refused.
"""

import ssl
from collections.abc import AsyncIterator, Callable
from functools import lru_cache
from io import BytesIO
from typing import Final

import aiohttp
from yarl import URL

from llm.upstream import Headers, UpstreamAnswer, UpstreamError, UpstreamRequest

CONNECT_TIMEOUT_S: Final = 10.0
#: Idle connections are given up before common upstreams and their gateways do, so that a request meets a live one.
KEEPALIVE_S: Final = 20.0
#: What may end an exchange; 101 and statuses that nobody defines cannot be passed on.
_STATUSES: Final = range(200, 600)
CONNECTIONS_MAX: Final = 2_000
_HEADER_BYTES_MAX: Final = 65_536
_READ_BUFFER_BYTES: Final = 256 * 1024
_BODY_AT_ONCE_BYTES_MAX: Final = 256 * 1024
#: A program of the SDK may compute the timeouts and bases of its calls; a config has a few of each.
_REMEMBERED_MAX: Final = 256


class _Answer:
    def __init__(self, response: aiohttp.ClientResponse) -> None:
        self.status = response.status
        self.headers: Headers = [
            (name.decode("latin-1"), value.decode("latin-1")) for name, value in response.raw_headers
        ]
        self._response = response

    async def pieces(self) -> AsyncIterator[bytes]:
        read = self._response.content.readany
        try:
            while piece := await read():
                yield piece
        except TimeoutError as error:
            raise UpstreamError("timeout", "the upstream fell silent in the middle of its answer", sent=True) from error
        except (aiohttp.ClientError, OSError) as error:
            raise UpstreamError("cut", "the upstream broke off its answer", sent=True) from error

    async def aclose(self) -> None:
        if self._response.content.at_eof():
            self._response.release()
        else:
            self._response.close()


def _checked(response: aiohttp.ClientResponse) -> _Answer:
    if response.status in _STATUSES:
        return _Answer(response)
    response.close()
    raise UpstreamError("protocol", f"the upstream answered with the status {response.status}", sent=True)


def _payload(body: bytes) -> bytes | BytesIO | None:
    """A large body goes out piece by piece, as fast as it is taken; BytesIO shares its memory."""
    return BytesIO(body) if len(body) > _BODY_AT_ONCE_BYTES_MAX else body or None


@lru_cache(_REMEMBERED_MAX)
def _timeout(read_s: float) -> aiohttp.ClientTimeout:
    return aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT_S, sock_read=read_s, connect=60.0)


class HttpUpstream:
    """Sends requests over HTTP/1.1, keeps connections, follows no redirects, keeps no cookies."""

    def __init__(self, proxy_for: Callable[[str], str | None] = lambda _url: None) -> None:
        """`proxy_for` names the HTTP proxy through which a URL is reached, if any; its answers are remembered."""
        self._session: aiohttp.ClientSession | None = None
        self._proxy_for = lru_cache(_REMEMBERED_MAX)(proxy_for)

    def _open(self) -> aiohttp.ClientSession:
        # Made late: a session belongs to the loop that it is made in.
        return aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                limit=CONNECTIONS_MAX,
                keepalive_timeout=KEEPALIVE_S,
                ssl=ssl.create_default_context(),
                ttl_dns_cache=60,
            ),
            skip_auto_headers=("user-agent", "accept", "accept-encoding", "content-type"),
            # One client's cookies must never go out with another's request.
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            max_line_size=_HEADER_BYTES_MAX,
            max_field_size=_HEADER_BYTES_MAX,
            read_bufsize=_READ_BUFFER_BYTES,
        )

    async def send(self, request: UpstreamRequest) -> UpstreamAnswer:
        """Send a request and return its answer once the head is there.

        Raises:
            UpstreamError: there was none.
        """
        if self._session is None:
            self._session = self._open()
        deployment = request.deployment
        read_s = deployment.stream_timeout_s if request.is_stream else deployment.timeout_s
        try:
            response = await self._session.request(
                request.method,
                # As the client wrote it: yarl would write %5B as [.
                URL(request.url, encoded=request.url.isascii()),
                headers=request.headers,
                data=_payload(request.body),
                allow_redirects=False,
                timeout=_timeout(read_s),
                proxy=self._proxy_for(deployment.api_base),
            )
        # Clients read these: where an upstream lies is the operator's, and stands in the book with the attempt.
        except aiohttp.ClientConnectorError as error:
            raise UpstreamError("connect", "no connection could be made", sent=False) from error
        except aiohttp.ConnectionTimeoutError as error:
            raise UpstreamError("connect", "no connection could be made in time", sent=False) from error
        except aiohttp.InvalidURL as error:
            raise UpstreamError("connect", "its address is no URL", sent=False) from error
        except TimeoutError as error:
            raise UpstreamError("timeout", f"no answer within {read_s:g} s", sent=True) from error
        except (aiohttp.ServerDisconnectedError, OSError) as error:
            message = "the upstream closed the connection without an answer"
            raise UpstreamError("disconnected", message, sent=True) from error
        except (aiohttp.ClientError, ValueError) as error:
            raise UpstreamError("protocol", "the upstream's answer is not HTTP", sent=True) from error
        return _checked(response)

    async def aclose(self) -> None:
        """Close all connections."""
        session, self._session = self._session, None
        if session is not None:
            await session.close()
