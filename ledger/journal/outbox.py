"""What is appended but not yet durable: the pure half of a journal's writer.

Events in, batches out, acknowledgements in. No I/O and no clock, so that every order of failures can be played in a
test. `writer.py` moves the batches.
"""

from collections import deque
from dataclasses import dataclass
from enum import Enum, auto
from hashlib import sha256
from typing import Final
from uuid import UUID

from ledger import chain
from ledger.encoding import encode_facts
from ledger.events import EVENT_UNSTORABLE
from ledger.journal.rows import Entry, Owner, copy_data, leaf, row

FLUSH_EVENTS_MAX: Final = 2_000
FLUSH_BYTES_MAX: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Batch:
    """What one COPY writes: consecutive entries, byte-identical however often it is sent."""

    entries: tuple[Entry, ...]
    first_seq: int
    last_seq: int
    size: int
    chain: bytes
    data: bytes


class Verdict(Enum):
    """What the last row of the journal in the database says about the batch that is not acknowledged."""

    RESEND = auto()
    ACKNOWLEDGE = auto()
    FENCED = auto()
    LOST_TAIL = auto()


class UnstorableError(Exception):
    """Postgres refuses even the note that an event was unstorable: schema or rights are wrong, not the event."""


class Outbox:
    """The unacknowledged events of one journal, in order of `seq`.

    At most one batch is under way. It stays under way, unchanged, until it is acknowledged or narrowed. A batch keeps
    within FLUSH_EVENTS_MAX and FLUSH_BYTES_MAX, but for a single larger entry, or glued ones that do not fit together.
    """

    def __init__(self, journal_id: UUID) -> None:
        self._journal_id = journal_id.bytes
        self._queue: deque[Entry] = deque()
        self._batch: Batch | None = None
        self._chain = chain.START
        self._events_max = FLUSH_EVENTS_MAX
        self.last_seq = 0
        self.acknowledged_seq = 0
        self.pending_bytes = 0

    def append(
        self,
        call_id: bytes | None,
        version: int | None,
        type_: bytes,
        facts: bytes,
        body: bytes | None,
        recorded_us: int,
        owner: Owner | None,
    ) -> Entry:
        """Give an event its place; it counts against the bounds until it is acknowledged."""
        self.last_seq += 1
        entry = Entry(self.last_seq, call_id, version, type_, facts, body, recorded_us, owner)
        self._queue.append(entry)
        self.pending_bytes += entry.size
        return entry

    def take(self) -> Batch | None:
        """Return the batch to send: the one under way, else the next; None when all is acknowledged."""
        if self._batch is None and self._queue:
            self._batch = self._gather()
        return self._batch

    def _gather(self) -> Batch:
        # Glued entries part only where a refused flush is being searched for its culprit.
        is_searching = self._events_max < FLUSH_EVENTS_MAX
        entries: list[Entry] = []
        size = 0
        has_end = is_searching
        for entry in self._queue:
            if entries and has_end and (len(entries) >= self._events_max or size + entry.size > FLUSH_BYTES_MAX):
                break
            entries.append(entry)
            size += entry.size
            has_end = has_end or not entry.is_glued
        while has_end and entries[-1].is_glued and not is_searching:
            size -= entries.pop().size
        value = chain.link(self._chain, [leaf(self._journal_id, entry) for entry in entries])
        rows = [row(self._journal_id, entry) for entry in entries]
        return Batch(tuple(entries), entries[0].seq, entries[-1].seq, size, value, copy_data(rows, value))

    def acknowledge(self) -> Batch:
        """Note that the batch under way is durable; return it. The chain advances here and only here."""
        batch = self._batch
        if batch is None:
            raise AssertionError("acknowledged without a batch under way")
        self._batch = None
        self._chain = batch.chain
        self.acknowledged_seq = batch.last_seq
        self.pending_bytes -= batch.size
        self._events_max = min(self._events_max * 2, FLUSH_EVENTS_MAX)
        for entry in batch.entries:
            self._queue.popleft()
            if entry.owner is not None:
                entry.owner.acknowledged(entry.size)
        return batch

    def narrow(self, error: str) -> None:
        """Answer a refusal of the batch's data: halve the next batch; a batch of one becomes `event.unstorable`.

        Raises:
            UnstorableError: the batch of one is such a note already.
        """
        batch, self._batch = self._batch, None
        if batch is None:
            raise AssertionError("narrowed without a batch under way")
        if len(batch.entries) > 1:
            self._events_max = max(1, len(batch.entries) // 2)
            return
        culprit = self._queue[0]
        if culprit.type == EVENT_UNSTORABLE.encode():
            raise UnstorableError(error)
        facts = {
            "type": culprit.type.decode(),
            "error": error,
            "facts_sha256": sha256(culprit.facts).hexdigest(),
            "body_sha256": None if culprit.body is None else sha256(culprit.body).hexdigest(),
            "body_bytes": None if culprit.body is None else len(culprit.body),
        }
        note = Entry(
            culprit.seq, culprit.call_id, culprit.version, EVENT_UNSTORABLE.encode(), encode_facts(facts), None,
            culprit.recorded_us, culprit.owner,
        )  # fmt: skip
        # The owner has been charged for the culprit: the note keeps its size, so that the same is given back.
        note.size = culprit.size
        self._queue[0] = note

    def judge(self, last_seq: int, last_chain: bytes | None) -> Verdict:
        """Compare the last row in the database (seq 0 for an empty journal) with what was sent and acknowledged."""
        if last_seq < self.acknowledged_seq:
            return Verdict.LOST_TAIL
        if last_seq == self.acknowledged_seq:
            # An equal place with another chain is another writer's event: recovery sealed a journal that went back.
            return Verdict.RESEND if last_seq == 0 or last_chain == self._chain else Verdict.FENCED
        if self._batch is not None and last_seq == self._batch.last_seq and last_chain == self._batch.chain:
            return Verdict.ACKNOWLEDGE
        return Verdict.FENCED

    def rest(self) -> list[Entry]:
        """Return what was never acknowledged and never will be, and forget it."""
        rest, self._batch = list(self._queue), None
        self._queue.clear()
        self.pending_bytes = 0
        for entry in rest:
            if entry.owner is not None:
                entry.owner.acknowledged(entry.size)
        return rest
