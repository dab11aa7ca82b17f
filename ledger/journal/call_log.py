"""One call's own log: gives its events their versions, bounds its share of the buffer, waits for durability.

It is what the engine records through (the protocol is `llm/record.py`); it lives in the journal that was current when
the call began, to the call's end.
"""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID

from ledger import events
from ledger.encoding import encode_facts
from ledger.journal.rows import EMPTY_FACTS, chunk_type
from ledger.journal.writer import Writer

_TYPES: Final = {
    value: value.encode()
    for name, value in vars(events).items()
    if name.isupper() and isinstance(value, str) and "." in value
}
_CHUNK: Final = chunk_type()
_PART: Final = events.BODY_PART.encode()


class CallLog:
    """The events of one call, in order. Not to be used by two tasks at once."""

    keeps_bodies = True

    def __init__(self, writer: Writer, call_id: UUID, share_bytes: int, total_bytes: int) -> None:
        self.call_id = call_id
        self.journal_id = writer.journal_id
        self.last_seq = 0
        self.pending_bytes = 0
        self.closed = False
        #: When the first event was recorded, in microseconds since 1970: the call's `received_at`.
        self.began_us = 0
        self._writer = writer
        self._id = call_id.bytes
        self._version = 0
        self._share_bytes = share_bytes
        self._total_bytes = total_bytes
        writer.open_calls += 1

    @property
    def next_version(self) -> int:
        """The version that the next event of this call will have."""
        return self._version

    def append(
        self, type_: str, facts: Mapping[str, Any], body: bytes | None = None, *, with_next: bool = False
    ) -> None:
        """Put an event into the buffer; `durable` waits for it. A body over PART_BYTES_MAX goes through `append_large`.

        `with_next`: it and the event appended after it become durable in one flush.

        Raises:
            FencedError: the journal was taken over.
        """
        self._append(_TYPES[type_], encode_facts(facts), body, is_glued=with_next)

    def chunk(self, body: bytes) -> None:
        """Put a `chunk.received` into the buffer: the same as `append`, without the cost of facts."""
        self._append(_CHUNK, EMPTY_FACTS, body)

    def _append(self, type_: bytes, facts: bytes, body: bytes | None, *, is_glued: bool = False) -> None:
        entry = self._writer.append(self._id, self._version, type_, facts, body, self)
        entry.is_glued = is_glued
        if self._version == 0:
            self.began_us = entry.recorded_us
        self._version += 1
        self.last_seq = entry.seq
        self.pending_bytes += entry.size

    async def append_large(self, type_: str, facts: Mapping[str, Any], body: bytes) -> None:
        """Append an event whose body may be of any size: what exceeds a part continues in `body.part` events.

        The parts are handed over one at a time, each when the one before is durable, so that other callers' events come
        in between; the event itself says how many there are.

        Raises:
            FencedError: the journal was taken over.
        """
        size = events.PART_BYTES_MAX
        parts = max(1, -(-len(body) // size))
        of = self._version
        self.append(type_, {**facts, "body_bytes": len(body), "parts": parts}, body[:size] if parts > 1 else body)
        for part in range(2, parts + 1):
            await self.durable()
            self._append(_PART, encode_facts({"of": of, "part": part}), body[(part - 1) * size : part * size])

    def acknowledged(self, size: int) -> None:
        """Note that `size` bytes of this call are durable; called by the outbox."""
        self.pending_bytes -= size

    async def durable(self) -> None:
        """Wait until everything appended so far is committed.

        Raises:
            FencedError: it never will be.
        """
        await self._writer.durable(self.last_seq)

    @property
    def is_durable(self) -> bool:
        """Whether everything appended so far is committed."""
        return self._writer.acknowledged_seq >= self.last_seq

    @property
    def has_room(self) -> bool:
        """Whether this call's share and the process's buffer take another piece."""
        return self.pending_bytes < self._share_bytes and self._writer.pending_bytes < self._total_bytes

    @property
    def is_stalled(self) -> bool:
        """Whether the book is not being written: the database is away, or a flush hangs."""
        return self._writer.is_stalled

    async def wait_for_room(self, seconds: float) -> bool:
        """Wait until there is room and the book is being written, at most `seconds`; return whether it is so.

        The caller meanwhile reads nothing, and so its upstream is held back.
        """
        try:
            async with asyncio.timeout(seconds):
                while (not self.has_room or self.is_stalled) and self._writer.fenced is None:
                    await self._writer.progress()
        except TimeoutError:
            return False
        return True

    @property
    def received_at(self) -> datetime:
        """When the first event of the call was recorded."""
        return datetime.fromtimestamp(0, UTC) + timedelta(microseconds=self.began_us)

    def close(self) -> None:
        """Note that the call has ended: its journal may be sealed once all of its calls have."""
        if not self.closed:
            self.closed = True
            self._writer.open_calls -= 1

    async def wait_for(self, seconds: float) -> bool:
        """Wait until all is durable, but at most `seconds`; return whether it is.

        Raises:
            FencedError: it never will be.
        """
        return await self._writer.durable_within(self.last_seq, seconds)
