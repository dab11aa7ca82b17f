"""The vocabulary of the book: the types of events, in the past tense, and an event as it is read back.

Pure: no clock, no randomness, no I/O. What the facts of each type hold is described in docs/EVENTS.md; `encoding.py`
makes facts storable, `chain.py` hashes events, `journal/` appends them.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

# A call
CALL_RECEIVED: Final = "call.received"
CALL_REJECTED: Final = "call.rejected"
ATTEMPT_STARTED: Final = "attempt.started"
ATTEMPT_ANSWERED: Final = "attempt.answered"
ATTEMPT_FAILED: Final = "attempt.failed"
CHUNK_RECEIVED: Final = "chunk.received"
BODY_RECEIVED: Final = "body.received"
BODY_PART: Final = "body.part"
CLIENT_DISCONNECTED: Final = "client.disconnected"
CALL_COMPLETED: Final = "call.completed"
CALL_INCOMPLETE: Final = "call.incomplete"
CALL_FAILED: Final = "call.failed"
CALL_CANCELLED: Final = "call.cancelled"
CALL_TRUNCATED: Final = "call.truncated"
CALL_ABANDONED: Final = "call.abandoned"

# Money
COST_RECORDED: Final = "cost.recorded"
COST_CORRECTED: Final = "cost.corrected"

# Administration
KEY_ISSUED: Final = "key.issued"
KEY_UPDATED: Final = "key.updated"
KEY_REGENERATED: Final = "key.regenerated"
KEY_BLOCKED: Final = "key.blocked"
KEY_UNBLOCKED: Final = "key.unblocked"
KEY_REVOKED: Final = "key.revoked"
TEAM_CREATED: Final = "team.created"
TEAM_UPDATED: Final = "team.updated"
TEAM_DELETED: Final = "team.deleted"
PRICE_PUBLISHED: Final = "price.published"
CONFIG_LOADED: Final = "config.loaded"
AUDIT_READ: Final = "audit.read"

# The journal itself
JOURNAL_OPENED: Final = "journal.opened"
JOURNAL_SEALED: Final = "journal.sealed"
EVENT_UNSTORABLE: Final = "event.unstorable"

#: The events that end a call which reached an upstream; exactly one of them stands at its end, a cost beside it.
TERMINALS: Final = frozenset(
    {CALL_COMPLETED, CALL_INCOMPLETE, CALL_FAILED, CALL_CANCELLED, CALL_TRUNCATED, CALL_ABANDONED}
)
#: The events after which nothing more of a call is appended to its journal, but for its cost.
ENDINGS: Final = TERMINALS | {CALL_REJECTED}

#: Version of each type's facts; raised when their meaning changes, with an upcaster for the older ones.
SCHEMA: Final = 1

#: Facts are small: what is large belongs into the body.
FACTS_BYTES_MAX: Final = 16 * 1024
#: A larger body continues in `body.part` events of at most this size each.
PART_BYTES_MAX: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Event:
    """One row of `ledger.events` as it is read back.

    Ordered by `seq` within a journal, by `version` within a call, and not at all between journals.
    """

    journal_id: UUID
    seq: int
    call_id: UUID | None
    version: int | None
    type: str
    schema: int
    recorded_at: datetime
    facts: dict[str, Any]
    body: bytes | None
    chain: bytes | None


@dataclass(frozen=True, slots=True)
class Position:
    """A place in the book: everything up to `seq` of one journal."""

    journal_id: UUID
    seq: int
