"""Answers from recorded exchanges: a row of the corpus, sent again byte for byte, cut where a seed says.

The corpus holds decoded bodies, so the recorded content-encoding and framing headers are left out; `encoding`
compresses anew. Rows are loaded by `tests/support/corpus.py`.
"""

import gzip
from collections.abc import Mapping
from typing import Any, Protocol

import brotli
import zstandard

from tests.support.upstream.framing import plain, stream
from tests.support.upstream.steps import Answer, Header

_OF_THE_CONNECTION = frozenset({"content-encoding", "content-length", "transfer-encoding", "connection", "keep-alive"})
_ENCODE = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.ZstdCompressor().compress}


class Recording(Protocol):
    """A recorded answer; `tests.support.corpus.Row` is one. A status of None stands for 200."""

    @property
    def status(self) -> int | None:
        """The HTTP status."""
        ...

    @property
    def headers(self) -> Mapping[str, Any]:
        """The headers, a list of values where a name came more than once."""
        ...

    @property
    def response_body(self) -> str:
        """The decoded body."""
        ...

    @property
    def stream(self) -> bool:
        """Whether the body is SSE."""
        ...


def row_headers(row: Recording) -> tuple[Header, ...]:
    """The recorded headers that describe the answer, in the recorded order."""
    headers: list[Header] = []
    for name, value in row.headers.items():
        values: list[Any] = value if isinstance(value, list) else [value]
        headers += [(name, str(v)) for v in values if name.lower() not in _OF_THE_CONNECTION]
    if not any(name.lower() == "content-type" for name, _ in headers):
        kind = "text/event-stream; charset=utf-8" if row.stream else "application/json"
        headers.append(("content-type", kind))
    return tuple(headers)


def row_body(row: Recording) -> bytes:
    """The recorded body's bytes."""
    return row.response_body.encode()


def recorded(
    row: Recording, *, seed: int | None = None, pieces: int = 7, pause_s: float = 0.002, encoding: str | None = None
) -> Answer:
    """The row's answer; with a seed cut at random into pieces with pauses, else a piece a block without pauses."""
    body, headers, status = row_body(row), row_headers(row), row.status or 200
    if encoding:
        body, headers = _ENCODE[encoding](body), (*headers, ("content-encoding", encoding))
    if row.stream and not encoding:
        pause_s = pause_s if seed is not None else 0
        return stream(body, status=status, headers=headers, seed=seed, pieces=pieces, pause_s=pause_s, name="recorded")
    framing = "chunked" if encoding else "length"
    return plain(body, status=status, headers=headers, framing=framing, seed=seed, pause_s=pause_s, name="recorded")
