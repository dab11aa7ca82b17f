"""The other end of a call: whoever reads the answer. A web server's connection, or the SDK's caller."""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from llm.errors import ApiError

Headers = list[tuple[str, str]]


@dataclass(slots=True)
class Head:
    """The head of an answer, and what the engine knows about how it came about."""

    status: int
    headers: Headers
    deployment_id: str = ""
    retries: int = 0
    fallbacks: int = 0
    cost_usd: str | None = None
    #: billed, estimated or unknown; "" where nothing was charged yet.
    cost_state: str = ""
    upstream_us: int = 0
    extra: Headers = field(default_factory=list)
    #: The error that the engine answers with by itself; None for an upstream's own answer.
    error: ApiError | None = None


class Client(Protocol):
    """Takes an answer: either `answer` once, or `start`, any number of `send`, and `end`.

    After the reader has left, nothing raises: what is sent is dropped.
    """

    is_gone: bool
    #: Whether the head of an answer has been sent.
    has_begun: bool
    #: Called once, when the reader leaves before the end of the answer.
    on_gone: Callable[[], None]

    async def answer(self, head: Head, body: bytes) -> None:
        """Send a whole answer."""
        ...

    async def start(self, head: Head) -> None:
        """Send the head of a stream."""
        ...

    async def send(self, piece: bytes) -> None:
        """Send a piece of a stream; returns when there is room for another."""
        ...

    async def end(self) -> None:
        """Send the end of the stream, by which the reader knows that it is complete."""
        ...
