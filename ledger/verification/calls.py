"""The calls of one journal: each begins, counts its events, ends once, and each attempt is charged once.

Pure: fed with the journal's events in order, it holds only the calls that are under way at that point. Corrections of
costs may lie in another journal than their call; `money.py` looks at them.
"""

from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

from ledger.events import (
    ATTEMPT_FAILED,
    ATTEMPT_STARTED,
    BODY_PART,
    BODY_RECEIVED,
    CALL_ABANDONED,
    CALL_COMPLETED,
    CALL_INCOMPLETE,
    CALL_RECEIVED,
    CHUNK_RECEIVED,
    COST_CORRECTED,
    COST_RECORDED,
    ENDINGS,
    EVENT_UNSTORABLE,
    TERMINALS,
)
from ledger.verification.findings import OpenCall, Report
from ledger.verification.stream import Stored

#: Of a call that is wrong from its first event on, only that is said; so many of them are remembered.
_STRAY_MAX: Final = 10_000
#: Recovery closes a few calls at most whose end became durable without its cost; more than these are a fault.
_APART_MAX: Final = 1_000
_HEADS: Final = frozenset({CALL_RECEIVED, BODY_RECEIVED, CHUNK_RECEIVED})
#: Whoever ended the call so had the whole answer before.
_WHOLE: Final = frozenset({CALL_COMPLETED, CALL_INCOMPLETE})
_BY_RECOVERY: Final = frozenset({"dead", "lost_tail"})


@dataclass(slots=True)
class _Body:
    """A body in parts: how many were announced, and how far they came."""

    kind: str
    attempt: int
    parts: int
    bytes_announced: int | None
    part: int = 1
    bytes_so_far: int = 0


@dataclass(slots=True)
class _Call:
    received_at: datetime
    received_seq: int
    next_version: int = 1
    attempts: int = 0
    paid: set[int] = field(default_factory=set)
    failed: set[int] = field(default_factory=set)
    bodies: dict[int, _Body] = field(default_factory=dict)
    ending: Stored | None = None

    @property
    def is_settled(self) -> bool:
        return self.ending is not None and len(self.paid) >= self.attempts


class CallsCheck:
    """Takes the events of one journal in order, then `close`."""

    def __init__(self, journal_id: UUID, report: Report) -> None:
        self._journal_id = journal_id
        self._report = report
        self._calls: dict[UUID, _Call] = {}
        self._stray: set[UUID] = set()
        #: Costs that do not stand right behind the end of their call: recovery may book them so, nobody else.
        self._apart: list[tuple[UUID, int, int]] = []
        self._corrected: set[UUID] = set()

    def take_corrected(self) -> set[UUID]:
        """Return, once, the calls whose cost was corrected in this journal, wherever the calls lie."""
        taken, self._corrected = self._corrected, set()
        return taken

    def take(self, event: Stored) -> None:
        """Check the next event of a call."""
        call_id = event.call_id
        if call_id is None or call_id in self._stray:
            return
        call = self._calls.get(call_id)
        kind = _kind(event)
        if kind == COST_CORRECTED:
            self._corrected.add(call_id)
            if call is not None and event.version == call.next_version:
                call.next_version += 1
        elif call is None:
            self._begin(call_id, event, kind)
        else:
            self._go_on(call_id, call, event, kind)

    def _begin(self, call_id: UUID, event: Stored, kind: str) -> None:
        if kind != CALL_RECEIVED or event.version != 0:
            message = (
                f"{kind} (version {event.version}) of a call that has not begun in this journal, or has ended in it"
            )
            self._find("calls begin and end once", message, event)
            if len(self._stray) < _STRAY_MAX:
                self._stray.add(call_id)
            return
        self._report.counts["calls"] += 1
        call = self._calls[call_id] = _Call(event.recorded_at, event.seq)
        self._note_body(call, event, kind)

    def _go_on(self, call_id: UUID, call: _Call, event: Stored, kind: str) -> None:
        if event.version != call.next_version:
            message = f"version {event.version} of {kind} where version {call.next_version} is due"
            self._find("versions", message, event)
        call.next_version = (event.version or 0) + 1
        if call.ending is not None and kind != COST_RECORDED:
            message = f"{kind} behind {call.ending.type}, the end of the call (event {call.ending.seq})"
            self._find("calls begin and end once", message, event)
        if kind == ATTEMPT_STARTED:
            self._start_attempt(call, event)
        elif kind == ATTEMPT_FAILED:
            call.failed.add(event.number("attempt") or call.attempts)
        elif kind == COST_RECORDED:
            self._pay(call_id, call, event)
        elif kind == BODY_PART:
            self._add_part(call, event)
        elif kind in _HEADS:
            self._note_body(call, event, kind)
        elif kind in ENDINGS and call.ending is None:
            self._end(call, event)
        if call.is_settled:
            del self._calls[call_id]

    def _start_attempt(self, call: _Call, event: Stored) -> None:
        call.attempts += 1
        self._report.counts["attempts"] += 1
        if event.number("attempt") not in {None, call.attempts}:
            message = f"attempt.started says attempt {event.number('attempt')} where {call.attempts} is due"
            self._find("one cost an attempt", message, event)

    def _pay(self, call_id: UUID, call: _Call, event: Stored) -> None:
        attempt = event.number("attempt")
        self._report.counts["costs"] += 1
        if event.number("revision") != 1:
            message = f"cost.recorded with revision {event.number('revision')}; only corrections have one other than 1"
            self._find("one cost an attempt", message, event)
        if attempt is None or not 1 <= attempt <= call.attempts:
            self._find("one cost an attempt", f"a cost of attempt {attempt}, which was not started", event)
            return
        if attempt in call.paid:
            self._find("one cost an attempt", f"a second cost of attempt {attempt}", event)
        call.paid.add(attempt)
        end = call.ending
        if end is not None and end.number("attempt") == attempt and event.seq != end.seq + 1:
            self._apart.append((call_id, end.seq, event.seq))
            if len(self._apart) > _APART_MAX:
                self._report_apart(self._apart.pop())

    def _note_body(self, call: _Call, event: Stored, kind: str) -> None:
        parts, announced, there = event.number("parts"), event.number("body_bytes"), event.body_bytes
        if there is None or parts is None:
            return
        if parts > 1 and event.version is not None:
            call.bodies[event.version] = _Body(kind, call.attempts, parts, announced, bytes_so_far=there)
        elif announced not in {None, there}:
            self._find("bodies", f"the body has {there} bytes, recorded were {announced}", event)

    def _add_part(self, call: _Call, event: Stored) -> None:
        of, part = event.number("of"), event.number("part")
        body = None if of is None else call.bodies.get(of)
        if of is None or body is None or part != body.part + 1:
            due = "none is due" if body is None else f"part {body.part + 1} is due"
            self._find("bodies", f"part {part} of the body in version {of}, where {due}", event)
            return
        body.part += 1
        body.bytes_so_far += event.body_bytes or 0
        if body.part == body.parts:
            if body.bytes_announced not in {None, body.bytes_so_far}:
                message = f"the body has {body.bytes_so_far} bytes in all, recorded were {body.bytes_announced}"
                self._find("bodies", message, event)
            del call.bodies[of]

    def _end(self, call: _Call, event: Stored) -> None:
        call.ending = event
        self._report.counts["endings"] += 1
        attempt = event.number("attempt")
        if event.type in TERMINALS and attempt is not None and attempt != call.attempts:
            message = f"{event.type} of attempt {attempt}, but {call.attempts} were started"
            self._find("calls begin and end once", message, event)
        for version, body in call.bodies.items():
            if _must_be_whole(body, call, event):
                message = (
                    f"{event.type}, but of the body in version {version} only {body.part} of {body.parts} parts came"
                )
                self._find("bodies", message, event)

    def close(self, seal: Stored | None, closing_from: int) -> None:
        """Judge what has not ended; `closing_from` is where the journal's last flush began, recovery's if it sealed."""
        by_recovery = seal is not None and seal.text("reason") in _BY_RECOVERY
        for call_id, ended_seq, cost_seq in self._apart:
            if not (by_recovery and cost_seq >= closing_from):
                self._report_apart((call_id, ended_seq, cost_seq))
        for call_id, call in self._calls.items():
            if seal is None:
                self._report.note_open(OpenCall(call_id, self._journal_id, call.received_at))
            else:
                self._judge_left_open(call_id, call)

    def _report_apart(self, apart: tuple[UUID, int, int]) -> None:
        call_id, ended_seq, cost_seq = apart
        message = f"the call ends at event {ended_seq}, its cost is event {cost_seq}"
        self._report.find("an end beside its cost", message, journal_id=self._journal_id, seq=cost_seq, call_id=call_id)

    def _judge_left_open(self, call_id: UUID, call: _Call) -> None:
        if call.ending is None:
            check, message = "calls begin and end once", "the call never ended, although its journal is sealed"
        else:
            unpaid = sorted(set(range(1, call.attempts + 1)) - call.paid)
            check, message = "one cost an attempt", f"attempts without a cost: {', '.join(map(str, unpaid))}"
        self._report.find(check, message, journal_id=self._journal_id, seq=call.received_seq, call_id=call_id)

    def _find(self, check: str, message: str, event: Stored) -> None:
        self._report.find(check, message, journal_id=self._journal_id, seq=event.seq, call_id=event.call_id)


def _kind(event: Stored) -> str:
    """Return the event's type; of one that could not be stored, the type that it would have had.

    But for a cost: what it said is not in the book, so it counts as none.
    """
    if event.type == EVENT_UNSTORABLE:
        was = event.text("type")
        return event.type if was is None or was == COST_RECORDED else was
    return event.type


def _must_be_whole(body: _Body, call: _Call, end: Stored) -> bool:
    """Tell whether a body that came in part only contradicts the end of its call."""
    if body.kind == CALL_RECEIVED:
        return end.type != CALL_ABANDONED
    return end.type in _WHOLE and body.attempt not in call.failed
