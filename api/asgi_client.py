"""A call's client as ASGI shows it: reads the body within bounds, notices that it left, sends the answer."""

import asyncio
import time
from collections.abc import Awaitable, Callable, MutableMapping
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

from api.errors import ApiFailure
from llm.client import Head, Headers
from llm.errors import ApiError

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]

#: The rest of a body that is too large is listened to for this long.
DISCARD_S: Final = 5.0
_LENGTH_DIGITS_MAX: Final = 18


class ClientGoneError(Exception):
    """The client left before its request was complete; there is nobody to answer."""


def headers_of(scope: Scope) -> list[tuple[str, str]]:
    """Return the request's headers as text, names in lower case."""
    return [(name.decode("latin-1"), value.decode("latin-1")) for name, value in scope["headers"]]


async def read_body(receive: Receive, headers: dict[str, str], max_bytes: int, timeout_s: float) -> bytes:
    """Read a request's body; it must have arrived whole after `timeout_s`.

    Raises:
        ApiFailure: 413 when it is larger than `max_bytes`, 408 when it does not arrive in time.
        ClientGoneError: the client left.
    """
    declared = headers.get("content-length", "")
    if declared.isdigit() and (len(declared) > _LENGTH_DIGITS_MAX or int(declared) > max_bytes):
        if "expect" not in headers:  # who waits for a word of ours sends nothing
            await _discard(receive)
        raise _too_large(max_bytes)
    message = await _next(receive, timeout_s)
    if not message.get("more_body"):
        body: bytes = message.get("body", b"")
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
        return body
    deadline = time.monotonic() + timeout_s
    pieces = [message.get("body", b"")]
    size = len(pieces[0])
    while message.get("more_body"):
        message = await _next(receive, deadline - time.monotonic())
        pieces.append(message.get("body", b""))
        size += len(pieces[-1])
        if size > max_bytes:
            pieces.clear()
            await _discard(receive)
            raise _too_large(max_bytes)
    return b"".join(pieces)


def _too_large(max_bytes: int) -> ApiFailure:
    message = f"The request body is larger than {max_bytes} bytes."
    return ApiFailure(ApiError(413, message, code="request_too_large"))


async def _discard(receive: Receive) -> None:
    """Take what the client still sends, for a while: closed upon unread bytes, the connection would lose the answer."""
    with suppress(TimeoutError):
        async with asyncio.timeout(DISCARD_S):
            more = True
            while more:
                more = (await receive()).get("more_body", False)


async def _next(receive: Receive, timeout_s: float) -> dict[str, Any]:
    try:
        async with asyncio.timeout(timeout_s):
            message = await receive()
    except TimeoutError:
        raise ApiFailure(ApiError(408, "The request body did not arrive in time.", code="request_timeout")) from None
    if message["type"] == "http.disconnect":
        raise ClientGoneError
    return message


class AsgiClient:
    """The client of one call, once its body has been read. Implements `llm.client.Client`."""

    def __init__(self, receive: Receive, send: Send, call_id: UUID | None, began_s: float) -> None:
        self.is_gone = False
        self.has_begun = False
        self.on_gone: Callable[[], None] = lambda: None
        self.key_spend: str | None = None
        self._receive = receive
        self._send = send
        self._call_id = call_id
        self._began_s = began_s
        self._is_done = False

    def elapsed_us(self) -> int:
        """Return the microseconds since the request came."""
        return int((time.monotonic() - self._began_s) * 1_000_000)

    async def watch(self) -> None:
        """Wait until the client leaves; run beside the call and cancelled at its end."""
        while True:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                if not self._is_done:
                    self.is_gone = True
                    self.on_gone()
                return

    async def answer(self, head: Head, body: bytes) -> None:
        """Send a whole answer."""
        if self.is_gone or self.has_begun:
            return
        headers = self._stamped(head)
        headers.append((b"content-length", str(len(body)).encode()))
        self.has_begun = True
        await self._send({"type": "http.response.start", "status": head.status, "headers": headers})
        self._is_done = True
        await self._send({"type": "http.response.body", "body": body})

    async def start(self, head: Head) -> None:
        """Send the head of a stream."""
        if self.is_gone:
            return
        self.has_begun = True
        headers = self._stamped(head)
        headers.append((b"cache-control", b"no-cache"))
        headers.append((b"x-accel-buffering", b"no"))
        await self._send({"type": "http.response.start", "status": head.status, "headers": headers})

    async def send(self, piece: bytes) -> None:
        """Send a piece of a stream; waits while the client is slower than the upstream."""
        if not self.is_gone and not self._is_done:
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})

    async def end(self) -> None:
        """Send the end of the stream."""
        if not self.is_gone and not self._is_done:
            self._is_done = True
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    def _stamped(self, head: Head) -> list[tuple[bytes, bytes]]:
        own: Headers = [
            ("x-llm-attempted-retries", str(head.retries)),
            ("x-llm-attempted-fallbacks", str(head.fallbacks)),
        ]
        if self._call_id is not None:
            own.append(("x-llm-call-id", str(self._call_id)))
        if head.deployment_id:
            own.append(("x-llm-model-id", head.deployment_id))
        if head.cost_usd is not None:
            own.append(("x-llm-response-cost", head.cost_usd))
        if head.cost_state:
            own.append(("x-llm-response-cost-state", head.cost_state))
        if self.key_spend is not None:
            own.append(("x-llm-key-spend", self.key_spend))
        overhead_us = self.elapsed_us() - head.upstream_us
        own.append(("x-llm-overhead-duration-ms", f"{max(0, overhead_us) / 1_000:.3f}"))
        return [(name.encode("latin-1"), value.encode("latin-1", "replace")) for name, value in (*head.headers, *own)]
