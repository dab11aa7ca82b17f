"""How events look in answers. Facts are shown as recorded: money in them is text. Pure."""

import base64
from datetime import timedelta
from typing import Any

from ledger.events import Event
from ledger.reports.pages import PagedEvent
from ledger.reports.timeline import Step

_MICROSECOND = timedelta(microseconds=1)


def shown_event(event: PagedEvent, bodies: str) -> dict[str, Any]:
    """Return an event with its body as `bodies` says: text, base64 or none; null where there is none."""
    body, encoding = _shown_body(event.body, bodies)
    return {
        "journal_id": event.journal_id,
        "seq": event.seq,
        "call_id": event.call_id,
        "version": event.version,
        "type": event.type,
        "schema": event.schema,
        "recorded_at": event.recorded_at,
        "facts": event.facts,
        "body_bytes": event.body_bytes,
        "body_encoding": encoding,
        "body": body,
        "chain": None if event.chain is None else event.chain.hex(),
    }


def _shown_body(body: bytes | None, bodies: str) -> tuple[str | None, str | None]:
    if body is None or bodies == "none":
        return None, None
    if bodies == "text":
        try:
            return body.decode(), "text"
        except UnicodeDecodeError:
            pass  # a compressed body, or a chunk that a character was cut by
    return base64.b64encode(body).decode(), "base64"


def shown_step(step: Step, first: Step) -> dict[str, Any]:
    """Return an event of a call's timeline; `after_us`: microseconds since its first event."""
    return {
        "version": step.version,
        "type": step.type,
        "at": step.recorded_at,
        "after_us": (step.recorded_at - first.recorded_at) // _MICROSECOND,
        "facts": step.facts,
    }


def shown_correction(event: Event) -> dict[str, Any]:
    """Return a correction that lies in another journal than its call."""
    return {
        "journal_id": event.journal_id,
        "seq": event.seq,
        "version": event.version,
        "type": event.type,
        "at": event.recorded_at,
        "facts": event.facts,
    }
