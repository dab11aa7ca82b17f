"""The server's end of a connection: uvicorn's, with bounds on a request's head and errors in OpenAI's shape.

uvicorn waits for a head for ever, however large it grows, and says what is wrong with it in plain text. What is refused
here never becomes a request, so nothing is recorded of it; everything behind the head is in `asgi_client.py`.
"""

import asyncio
import functools
from http import HTTPStatus
from typing import Any, Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from llm.errors import ApiError

#: Request line and headers; a line of either may be as long as all of them.
HEAD_BYTES_MAX: Final = 64 * 1024
#: A connection whose request was refused is listened to for this long: closed upon unread bytes, it loses the answer.
LINGER_S: Final = 2.0

NOT_HTTP: Final = ApiError(400, "The request is not valid HTTP/1.1.", code="invalid_http_request")
TOO_LARGE: Final = ApiError(
    431, f"The request's line and headers are larger than {HEAD_BYTES_MAX} bytes.", code="request_headers_too_large"
)
TOO_SLOW: Final = ApiError(408, "The request's headers did not arrive in time.", code="request_timeout")


class HeadTooLargeError(Exception):
    """The head of a request is larger than HEAD_BYTES_MAX."""


def protocol(head_timeout_s: float) -> Any:
    """Return what uvicorn's configuration takes as `http`."""
    return functools.partial(BoundedProtocol, head_timeout_s=head_timeout_s)


class BoundedProtocol(HttpToolsProtocol):
    """One connection of a client."""

    def __init__(self, *arguments: Any, head_timeout_s: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._head_timeout_s = head_timeout_s
        self._head_timer: asyncio.TimerHandle | None = None
        self._is_in_head = False
        #: Bytes since the head began, as they came; and what the parser has made of them.
        self._head_bytes = 0
        self._parsed_bytes = 0
        self._error = NOT_HTTP
        self._is_refused = False

    def connection_made(self, transport: asyncio.Transport) -> None:  # pyright: ignore[reportIncompatibleMethodOverride] - as uvicorn has it
        """Begin to wait for a head."""
        super().connection_made(transport)
        self._expect_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing more."""
        self._stop_timer()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take what came, within the bounds."""
        if self._is_refused:
            return
        if self._is_in_head:
            self._head_bytes += len(data)
        super().data_received(data)
        if self._is_in_head and self._head_bytes > HEAD_BYTES_MAX and not self._is_refused:
            self._refuse(TOO_LARGE)

    def on_message_begin(self) -> None:
        """Begin a head; the parser calls this."""
        super().on_message_begin()
        self._is_in_head = True
        self._head_bytes = self._parsed_bytes = 0
        self._expect_head()

    def on_url(self, url: bytes) -> None:
        """Take a piece of the request line; the parser calls this."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header; the parser calls this."""
        self._count(len(name) + len(value) + 4)
        super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """End the head; the parser calls this."""
        self._is_in_head = False
        self._stop_timer()
        super().on_headers_complete()

    def send_400_response(self, msg: str) -> None:
        """Refuse what cannot be parsed; uvicorn calls this."""
        del msg
        self._refuse(self._error)

    def _count(self, size: int) -> None:
        self._parsed_bytes += size
        if self._parsed_bytes > HEAD_BYTES_MAX:
            self._error = TOO_LARGE
            raise HeadTooLargeError

    def _expect_head(self) -> None:
        self._stop_timer()
        self._head_timer = self.loop.call_later(self._head_timeout_s, self._on_late_head)

    def _stop_timer(self) -> None:
        if self._head_timer is not None:
            self._head_timer.cancel()
            self._head_timer = None

    def _on_late_head(self) -> None:
        if self._is_in_head:
            self._refuse(TOO_SLOW)
        else:
            self.transport.close()

    def _refuse(self, error: ApiError) -> None:
        """Answer with an error, and close; behind the answers to earlier requests of this connection, only close."""
        self._is_refused = True
        self._stop_timer()
        cycle = self.cycle
        is_answering = cycle is not None and not cycle.response_complete  # pyright: ignore[reportUnnecessaryComparison] - None before the first request
        if is_answering and (cycle.response_started or not cycle.more_body):
            cycle.keep_alive = False
            return
        body = error.body()
        headers = [*error.headers(), ("content-length", str(len(body))), ("connection", "close")]
        status_line = f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}"
        lines = [status_line, *(f"{name}: {value}" for name, value in headers), "", ""]
        self.transport.write("\r\n".join(lines).encode("latin-1") + body)
        if is_answering:
            # The body that is being read cannot be parsed: whoever reads it learns that there is no more.
            self.transport.close()
            return
        self.transport.write_eof()
        self.loop.call_later(LINGER_S, self.transport.close)
