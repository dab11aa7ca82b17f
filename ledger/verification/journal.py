"""One journal's order and chain: seq from 1 without a gap, nothing behind the seal, every flush as it was hashed.

Pure: `book.py` feeds it the events in order. The calls in it are `calls.py`'s matter.
"""

import struct
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from typing import Any, Final
from uuid import UUID

from ledger import chain
from ledger.encoding import canonical
from ledger.events import JOURNAL_OPENED, JOURNAL_SEALED
from ledger.verification.findings import Report
from ledger.verification.stream import Stored

_EMPTY_SHA256: Final = sha256(b"{}").digest()
_NO_LEAF: Final = bytes(32)
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND: Final = timedelta(microseconds=1)


class JournalCheck:
    """Takes a journal's events in order, then `close`."""

    def __init__(self, journal_id: UUID, report: Report) -> None:
        self.journal_id = journal_id
        self.last_seq = 0
        #: What the last event says, if that is the seal.
        self.seal: Stored | None = None
        #: Where the latest flush began.
        self.flush_from = 1
        self._report = report
        self._identity = journal_id.bytes
        self._hash = sha256(chain.START)
        self._has_open_flush = False

    def take(self, event: Stored) -> None:
        """Check the next event."""
        if self.seal is not None:
            self._find("nothing after the seal", f"{event.type} stands after journal.sealed", event.seq)
        self._check_seq(event)
        if event.facts is None:
            self._find("chain", "the facts are not what any writer records: they cannot be read", event.seq)
        self._check_chain(event)
        self.seal = event if event.type == JOURNAL_SEALED else self.seal
        self.last_seq = event.seq

    def _check_seq(self, event: Stored) -> None:
        if event.seq != self.last_seq + 1:
            missing = f"event {self.last_seq + 1} is missing"
            if event.seq > self.last_seq + 2:
                missing = f"events {self.last_seq + 1} to {event.seq - 1} are missing"
            self._find("no gap", missing, self.last_seq + 1)
        if event.seq == 1 and event.type not in {JOURNAL_OPENED, JOURNAL_SEALED}:
            self._find("no gap", f"the journal begins with {event.type} instead of journal.opened", 1)
        if event.type == JOURNAL_SEALED and event.number("last_seq") != event.seq:
            self._find("seal", f"journal.sealed says that it is event {event.number('last_seq')}", event.seq)

    def _check_chain(self, event: Stored) -> None:
        if not self._has_open_flush:
            self.flush_from = event.seq
            self._has_open_flush = True
        self._hash.update(leaf_of(self._identity, event))
        if event.chain is None:
            return
        if event.chain != self._hash.digest():
            where = f"events {self.flush_from} to {event.seq}" if event.seq > self.flush_from else f"event {event.seq}"
            self._find("chain", f"the chain does not fit {where}: altered, added or removed", event.seq)
        self._report.counts["flushes"] += 1
        # Going on from what is stored: so the next finding is another alteration, not the same one again.
        self._hash = sha256(event.chain)
        self._has_open_flush = False

    def close(self, row: Any | None) -> None:
        """Check the end, and the journal's row in `ledger.journals` (None: there is none)."""
        if self._has_open_flush:
            message = f"events {self.flush_from} to {self.last_seq} have no chain value behind them"
            self._find("chain", message, self.last_seq)
        if row is None:
            self._find("journals agree", "the journal has events but no row in ledger.journals", None)
            return
        if row["sealed_at"] is None:
            if self.seal is not None:
                note = f"journal {self.journal_id} is sealed at {self.seal.seq}, which its row does not say yet"
                self._report.notes.append(f"{note}: a proxy that runs will mark it")
            return
        sealed_seq = row["sealed_seq"]
        if self.last_seq < (sealed_seq or 0):
            message = f"sealed at event {sealed_seq}, but the last one there is {self.last_seq}: its end is missing"
            self._find("journals agree", message, self.last_seq)
        elif self.seal is None or self.seal.seq != sealed_seq:
            there = "no journal.sealed is there" if self.seal is None else f"journal.sealed is event {self.seal.seq}"
            self._find("journals agree", f"ledger.journals says sealed at event {sealed_seq}, but {there}", sealed_seq)

    def _find(self, check: str, message: str, seq: int | None) -> None:
        self._report.find(check, message, journal_id=self.journal_id, seq=seq)


def leaf_of(identity: bytes, event: Stored) -> bytes:
    """Return the event's leaf in the chain, from what is stored; `identity` is the journal's id in bytes."""
    try:
        return chain.leaf_of_hashes(
            identity,
            event.seq,
            None if event.call_id is None else event.call_id.bytes,
            event.version,
            event.type.encode(),
            event.schema,
            (event.recorded_at - _EPOCH) // _MICROSECOND,
            sha256(canonical(event.facts)).digest() if event.facts else _EMPTY_SHA256,
            event.body_sha256,
        )
    except (struct.error, TypeError, ValueError, OverflowError, RecursionError):
        # No writer recorded this: a time without end, a type of 70,000 letters. No chain value fits it.
        return _NO_LEAF
