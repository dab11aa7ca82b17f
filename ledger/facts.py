"""Facts that more than one writer of the book makes: the engine when a call ends, recovery when its writer has died.

Pure. The shapes are described in docs/EVENTS.md; what only one place makes stands in that place.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from ledger.encoding import rfc3339
from ledger.events import CALL_CANCELLED, CALL_COMPLETED, CALL_FAILED, CALL_INCOMPLETE
from ledger.money.cost import Charge

#: Who pays and for what: the dimensions of `spend`, as they were when the call was received.
_PAYERS: Final = ("org", "team", "user", "end_user")

_TERMINAL_OF_STATUS: Final = {
    "completed": CALL_COMPLETED,
    "incomplete": CALL_INCOMPLETE,
    "failed": CALL_FAILED,
    "cancelled": CALL_CANCELLED,
    # A background response that was accepted: the call is answered, the response's own end is another call's to see.
    "queued": CALL_COMPLETED,
    "in_progress": CALL_COMPLETED,
}


def dimensions(
    received: Mapping[str, Any], *, journal_id: UUID, received_at: datetime, deployment: str
) -> dict[str, Any]:
    """Return `dims` of a cost from the facts of its call's `call.received`."""
    return {
        "journal_id": str(journal_id),
        "received_at": rfc3339(received_at),
        "key": received["key_id"],
        "model": received["model"],
        "deployment": deployment,
        "tags": received["tags"],
        **{name: received[name] for name in _PAYERS},
    }


def cost_recorded(charge: Charge, *, attempt: int, final: bool, dims: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts of `cost.recorded`, revision 1; `final` marks the attempt that ended the call."""
    return {
        **charge.to_facts(),
        "attempt": attempt,
        "revision": 1,
        "final": final,
        # Counted by its first attempt: that one exists whatever becomes of the call, the last one may never be known.
        "calls": 1 if attempt == 1 else 0,
        "dims": dict(dims),
    }


def cost_corrected(
    money: Mapping[str, Any], *, attempt: int, revision: int, dims: Mapping[str, Any], actor: str
) -> dict[str, Any]:
    """Return the facts of `cost.corrected` around the deltas of `ledger.money.correction`."""
    return {
        **money,
        "attempt": attempt,
        "revision": revision,
        "final": False,
        "calls": 0,
        "dims": dict(dims),
        "actor": actor,
    }


def terminal_of(response_status: str | None) -> str:
    """Return the type of event that ends a call whose answer says `status`; an answer without one is complete."""
    return CALL_COMPLETED if response_status is None else _TERMINAL_OF_STATUS.get(response_status, CALL_COMPLETED)


def abandoned(
    *,
    attempt: int | None,
    attempts: int,
    http_status: int | None,
    chunks: int,
    model: str | None,
    message: str,
    response_id: str | None = None,
) -> dict[str, Any]:
    """Return the facts of `call.abandoned`; what nobody was left to measure is null, not zero."""
    return {
        "attempt": attempt,
        "attempts": attempts,
        "http_status": http_status,
        "response_id": response_id,
        "response_status": None,
        "model": model,
        "tier": None,
        "chunks": chunks,
        "answer_bytes": None,
        "first_chunk_us": None,
        "duration_us": None,
        "delivered": None,
        "error": {"code": "abandoned", "message": message},
    }


def tags_of(values: Sequence[str]) -> list[str]:
    """Return tags as the book holds them: stripped, unique, sorted."""
    return sorted({value.strip() for value in values if value.strip()})
