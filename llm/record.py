"""How the engine records: a small protocol, which a call's log in the ledger fulfils; the engine never sees SQL."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from ledger.money.cost import Charge


class Record(Protocol):
    """The log of one call. What is appended becomes durable in the order in which it was appended.

    Every method raises `ledger.errors.FencedError` once the log's journal has been taken over.
    """

    call_id: UUID
    journal_id: UUID
    #: False: bodies are dropped (`llm.without_bodies`), so that nothing needs to be masked in them.
    keeps_bodies: bool

    def append(
        self, type_: str, facts: Mapping[str, Any], body: bytes | None = None, *, with_next: bool = False
    ) -> None:
        """Enqueue an event, without waiting."""
        ...

    def chunk(self, body: bytes) -> None:
        """Enqueue a `chunk.received` without facts."""
        ...

    async def append_large(self, type_: str, facts: Mapping[str, Any], body: bytes) -> None:
        """Enqueue an event whose body may be of any size, in parts."""
        ...

    async def durable(self) -> None:
        """Wait until all that was enqueued is committed."""
        ...

    async def wait_for(self, seconds: float) -> bool:
        """The same, at most `seconds`; tell whether it is committed."""
        ...

    @property
    def has_room(self) -> bool:
        """Whether another piece fits into the bounds."""
        ...

    @property
    def is_stalled(self) -> bool:
        """Whether the book is not being written at this moment."""
        ...

    async def wait_for_room(self, seconds: float) -> bool:
        """Wait until there is room and the book is being written, at most `seconds`; tell whether it is so."""
        ...

    @property
    def received_at(self) -> datetime:
        """When the call was received."""
        ...

    def close(self) -> None:
        """Note that nothing more will be enqueued."""
        ...


class Bookkeeper(Protocol):
    """What the engine asks of the book beside the log of a call."""

    def settle_fenced(self, record: Record, attempt: int, charge: Charge) -> None:
        """Have the real cost of an attempt booked as a correction: its log was closed by recovery, with a guess."""
        ...

    async def settle_response(self, response: Mapping[str, Any]) -> None:
        """Settle the attempt that made this response, if its cost is not known yet; bounded, raises nothing."""
        ...
