"""A call's log where there is no book: implements `llm.record.Record` and keeps nothing.

The SDK without a ledger gives it to the engine (`llm/sdk/recording.py`), and so does the benchmark of what books cost.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from uuid import UUID


class NoRecord:
    """Everything is durable at once, because nothing is kept."""

    has_room = True
    is_stalled = False

    def __init__(self, call_id: UUID, *, keeps_bodies: bool = False) -> None:
        """`keeps_bodies`: have the engine prepare bodies as for a book that stores them."""
        self.call_id = call_id
        self.journal_id = call_id
        self.received_at = datetime.now(UTC)
        self.keeps_bodies = keeps_bodies

    def append(
        self, type_: str, facts: Mapping[str, Any], body: bytes | None = None, *, with_next: bool = False
    ) -> None:
        """Keep nothing."""

    def chunk(self, body: bytes) -> None:
        """Keep nothing."""

    async def append_large(self, type_: str, facts: Mapping[str, Any], body: bytes) -> None:
        """Keep nothing."""

    async def durable(self) -> None:
        """Return at once."""

    async def wait_for(self, seconds: float) -> bool:  # noqa: ARG002 - the protocol's
        """Return at once."""
        return True

    async def wait_for_room(self, seconds: float) -> bool:  # noqa: ARG002 - the protocol's
        """Return at once."""
        return True

    def close(self) -> None:
        """Do nothing."""
