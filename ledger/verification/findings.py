"""What a verification found, counted, and what it does not look at."""

from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Final
from uuid import UUID

#: Findings beyond these are counted and not kept.
FINDINGS_MAX: Final = 100
OPEN_CALLS_MAX: Final = 100


@dataclass(frozen=True, slots=True)
class Finding:
    """Something that must not be. `check` names the rule; the rest says where, as far as there is a where."""

    check: str
    message: str
    journal_id: UUID | None = None
    seq: int | None = None
    call_id: UUID | None = None


@dataclass(frozen=True, slots=True)
class OpenCall:
    """A call that has not ended, in a journal that is still open."""

    call_id: UUID
    journal_id: UUID
    received_at: datetime


@dataclass(slots=True)
class Report:
    """The result: `counts` of what was looked at, findings (a bounded list and how many in all), calls under way.

    `notes` are no faults, but good to know; `skipped` are checks that this run left out.
    """

    counts: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    findings_total: int = 0
    open_calls: list[OpenCall] = field(default_factory=list)
    open_calls_total: int = 0
    notes: list[str] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether nothing was found."""
        return self.findings_total == 0

    def find(
        self,
        check: str,
        message: str,
        *,
        journal_id: UUID | None = None,
        seq: int | None = None,
        call_id: UUID | None = None,
    ) -> None:
        """Note a fault."""
        self.findings_total += 1
        if len(self.findings) < FINDINGS_MAX:
            self.findings.append(Finding(check, message, journal_id, seq, call_id))

    def note_open(self, call: OpenCall) -> None:
        """Note a call under way."""
        self.open_calls_total += 1
        if len(self.open_calls) < OPEN_CALLS_MAX:
            self.open_calls.append(call)


#: What no check of this program can tell; said with every result.
NOT_CHECKED: Final = (
    "whether the upstream really sent these bytes: the book holds what arrived here",
    "whether the client really received its answer: the book holds what was handed to its connection",
    "whether the newest journal, or an end that no later journal links to, was removed: only a copy elsewhere tells",
    "whether a superuser rewrote everything, chain and links included: only a copy elsewhere tells",
    "whether the prices are those of the upstream's invoice: only that each charge names a published price",
    "calls that never reached a proxy of this book",
)
