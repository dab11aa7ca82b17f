"""The five promises of DESIGN.md section 3, held against what the clients were told and what the upstream saw.

Pure: stories out of the book (`reader.py`), records of clients (`clients.py`) and of the upstream in, violations out.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from tests.support.hand_prices import expected_cost
from tests.support.rounds.clients import Told
from tests.support.rounds.stories import TERMINALS, AttemptStory, CallStory, Violation

Seen = Sequence[Mapping[str, Any]]
_REFUSAL = 400


class Checker:
    """Compares one call after the other; `counts` says how much was compared, so that an empty check is seen."""

    def __init__(self) -> None:
        self.violations: list[Violation] = []
        self.counts: Counter[str] = Counter()

    def check(self, told: Told, stories: Sequence[CallStory], seen: Seen, *, every_chunk: bool = False) -> None:
        """Check one request: its client's record, the calls of the book with its marker, the upstream's sightings."""
        marker = told.ask.marker
        self.counts["requests"] += 1
        self.counts[f"requests {told.outcome}"] += 1
        self.counts["requests at the upstream"] += len(seen)
        if told.outcome == "stuck":
            self._break(2, marker, "its client got neither an answer nor an end")
        if len(stories) > 1:
            self._break(5, marker, f"one request, {len(stories)} calls in the book")
        if not stories:
            if seen:
                self._break(1, marker, "the upstream saw it, the book does not know it")
            if told.is_answer:
                self._break(2, marker, f"its client has an answer ({told.status}), the book does not know it")
            return
        story = stories[0]
        self.counts["calls"] += 1
        if told.call_id and told.call_id != str(story.call_id):
            self._break(2, marker, f"its client was told of call {told.call_id}, the book says {story.call_id}")
        self._check_sent(marker, story, seen)
        self._check_closed(marker, story, seen)
        self._check_bytes(told, story, every_chunk=every_chunk)
        if told.is_answer:
            self._check_answered(told, story)

    def _break(self, promise: int, marker: str, text: str) -> None:
        self.violations.append(Violation(promise, f"{marker}: {text}"))

    def _check_sent(self, marker: str, story: CallStory, seen: Seen) -> None:
        recorded = Counter(attempt.sent_sha256 for attempt in story.attempts)
        missing = Counter(str(request["sha256"]) for request in seen) - recorded
        if missing:
            self._break(
                1, marker, f"the upstream saw {len(seen)} requests, {missing.total()} of them without an attempt"
            )

    def _check_closed(self, marker: str, story: CallStory, seen: Seen) -> None:
        if story.ending is None:
            self._break(4, marker, f"call {story.call_id} is open")
            return
        self.counts[f"calls {story.kind_of_end.removeprefix('call.')}"] += 1
        for number, attempt in enumerate(story.attempts, 1):
            self._check_charge(marker, number, attempt)
        ended = sum(int(cost["calls"]) for attempt in story.attempts for cost in attempt.costs)
        is_ended = story.kind_of_end in TERMINALS - {"call.abandoned"}
        if ended > 1 or (is_ended and story.attempts and ended != 1):
            self._break(5, marker, f"{ended} of its charges say that they ended the call")
        worked = sum(int(request["status"]) < _REFUSAL for request in seen if request["status"])
        charged = sum(attempt.usd > 0 or attempt.unknown > 0 for attempt in story.attempts)
        if charged < worked:
            self._break(
                4, marker, f"the upstream worked {worked} times, {charged} attempts have a cost that is not zero"
            )

    def _check_charge(self, marker: str, number: int, attempt: AttemptStory) -> None:
        self.counts["charges"] += 1
        revisions = [int(cost["revision"]) for cost in attempt.costs]
        if revisions != list(range(1, len(revisions) + 1)) or not revisions:
            self._break(5, marker, f"attempt {number} has the revisions {revisions} of its cost")
            return
        self.counts[f"charges {attempt.costs[0]['state']}"] += 1
        self.counts["charges corrected"] += len(revisions) - 1
        for cost in attempt.costs:
            items = sum((Decimal(item["amount_usd"]) for item in cost["items"]), Decimal(0))
            if items != Decimal(cost["billed_usd"]) + Decimal(cost["estimated_usd"]):
                self._break(5, marker, f"attempt {number}: the items sum up to {items}")

    def _check_bytes(self, told: Told, story: CallStory, *, every_chunk: bool) -> None:
        """Hold the bytes: whole answers are equal, of broken ones the shorter is the beginning of the longer."""
        told_bytes, book_bytes = told.upstream_bytes, story.answer()
        self.counts["chunks"] += sum(len(attempt.chunks) for attempt in story.attempts)
        if told.is_answer:
            self.counts["answers compared"] += 1
            if told_bytes != book_bytes:
                self._break(2, told.ask.marker, f"{len(told_bytes)} bytes at the client, {len(book_bytes)} in the book")
        elif told.ask.is_stream and told.status < _REFUSAL:
            is_due = every_chunk or len(told_bytes) <= len(book_bytes)
            if not (book_bytes.startswith(told_bytes) if is_due else told_bytes.startswith(book_bytes)):
                self._break(3, told.ask.marker, f"{len(told_bytes)} bytes at the client are not those of the book")

    def _check_answered(self, told: Told, story: CallStory) -> None:
        """Hold a whole answer: it has an end and a cost, and the cost is what the answer's usage says."""
        if story.kind_of_end not in TERMINALS - {"call.abandoned"}:
            self._break(2, told.ask.marker, f"its client has the whole answer; its call ended as {story.kind_of_end!r}")
            return
        if not story.attempts or not story.attempts[-1].costs:
            self._break(2, told.ask.marker, "its client has the whole answer; there is no cost")
            return
        expected = expected_cost(told.response, {}) if told.response.get("usage") else None
        if expected is not None:
            self.counts["prices compared"] += 1
            if story.attempts[-1].billed_usd != expected:
                self._break(5, told.ask.marker, f"{story.attempts[-1].billed_usd} USD booked, {expected} by hand")
