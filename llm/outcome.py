"""What is told of a call once it has ended: to whoever counts calls and keeps the log; `api` says who that is.

Told once a call, at its end, and once for each charge: never by the chunk, since it lies on the hot route.
"""

from dataclasses import dataclass
from typing import Final, Protocol
from uuid import UUID

from ledger.money.cost import Charge


@dataclass(slots=True)
class Outcome:
    """How a call went; nothing that was said in it. Times are in microseconds.

    `terminal` is the type of the event that ends it in the book, `status` the HTTP status that is written there.
    `charge` is that of the last attempt. `upstream_us`: for how long upstreams were at work, over all attempts.
    `model` is what the client asked for, so it may be any text.
    """

    call_id: UUID
    key_id: str
    model: str
    deployment_id: str
    is_stream: bool
    terminal: str
    status: int | None
    charge: Charge | None
    attempts: int
    chunks: int
    request_bytes: int
    answer_bytes: int
    first_chunk_us: int | None
    upstream_us: int
    duration_us: int


class Observer(Protocol):
    """Is told of charges and ends. It must neither wait nor fail: the client has its answer, others wait for theirs."""

    def charged(self, model: str, charge: Charge) -> None:
        """Take note of an attempt's charge: the first one, not a correction. `model` is what the client asked for."""
        ...

    def ended(self, outcome: Outcome) -> None:
        """Take note of a call's end."""
        ...


class _Nobody:
    def charged(self, model: str, charge: Charge) -> None:
        """Leave it at that."""

    def ended(self, outcome: Outcome) -> None:
        """Leave it at that."""


NOBODY: Final = _Nobody()
