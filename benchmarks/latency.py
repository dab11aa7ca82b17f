"""Measures one call after another on one connection: whole time, and time to a stream's first chunk.

A client of our own over plain sockets, because load generators do not tell when the first byte of a body came. The
differences between two targets are taken pair by pair, alternating, so that both see the same machine.
"""

import socket
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

from benchmarks.load import BODIES

TIMEOUT_S = 30.0


class AnswerError(Exception):
    """A call was not answered with 200."""


@dataclass(frozen=True)
class Timing:
    """Milliseconds from the request's last byte to the body's first byte and to the answer's end."""

    first_ms: float
    whole_ms: float


class Caller:
    """One kept-alive connection to one target."""

    def __init__(self, url: str, kind: str, key: str) -> None:
        parts = urlsplit(url)
        self._address = (parts.hostname or "127.0.0.1", parts.port or 80)
        body = BODIES[kind].encode()
        self._request = (
            f"POST /v1/responses HTTP/1.1\r\nhost: {parts.netloc}\r\nauthorization: Bearer {key}\r\n"
            f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        ).encode() + body
        self._socket = socket.create_connection(self._address, timeout=TIMEOUT_S)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def call(self) -> Timing:
        """Make one call."""
        started = time.perf_counter()
        self._socket.sendall(self._request)
        data = bytearray()
        head_end = -1
        first = 0.0
        while not first or not _is_complete(data, head_end):
            piece = self._socket.recv(262144)
            if not piece:
                raise AnswerError(f"{self._address}: closed after {bytes(data[:300])!r}")
            data += piece
            if head_end < 0:
                head_end = data.find(b"\r\n\r\n")
            if not first and 0 <= head_end < len(data) - 4:
                first = time.perf_counter()
        ended = time.perf_counter()
        if b" 200 " not in data[:20]:
            raise AnswerError(f"{self._address}: {bytes(data[:600])!r}")
        return Timing((first - started) * 1000, (ended - started) * 1000)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _is_complete(data: bytearray, head_end: int) -> bool:
    """Whether the answer has ended: by its content-length, or by the last HTTP chunk."""
    head = bytes(data[:head_end]).lower()
    _, mark, after = head.partition(b"content-length:")
    if mark:
        return len(data) >= head_end + 4 + int(after.partition(b"\r")[0])
    return data.endswith(b"\r\n0\r\n\r\n")


def measure(urls: Sequence[str], kind: str, *, calls: int, key: str) -> list[Timing]:
    """Call each target `calls` times, taking turns; returns the median timing of each."""
    callers = [Caller(url, kind, key) for url in urls]
    timings: list[list[Timing]] = [[] for _ in urls]
    try:
        for number in range(calls + calls // 10):
            for caller, taken in zip(callers, timings, strict=True):
                timing = caller.call()
                if number >= calls // 10:  # the first tenth warms up
                    taken.append(timing)
    finally:
        for caller in callers:
            caller.close()
    return [
        Timing(statistics.median(t.first_ms for t in taken), statistics.median(t.whole_ms for t in taken))
        for taken in timings
    ]
