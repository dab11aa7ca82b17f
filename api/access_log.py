"""One line for each call that has ended: who, which model, how it went, how long it took, what it cost; no content.

Outcomes are gathered; their lines are spelt and written together a few times a second, past the machinery of `logging`:
one after the other they cost less, and calls need not wait for them. A process that is killed loses the last of them;
the book does not. `logs.py` writes all other lines.
"""

import asyncio
import json
import sys
import time
from collections.abc import Callable
from functools import lru_cache
from typing import Final

from api.logs import GUARD, moment
from ledger.money.exact import plain
from llm.outcome import Outcome

_GATHER_S: Final = 0.25
_LINES_MAX: Final = 1_000
_CHARS_MAX: Final = 128
#: In the order of `values_of`. Times are in microseconds, sizes in bytes, money is a decimal string in USD.
FIELDS: Final = (
    "call_id", "key_id", "model", "deployment", "stream", "status", "terminal", "cost_state", "cost_usd", "attempts",
    "chunks", "request_bytes", "answer_bytes", "first_chunk_us", "upstream_us", "duration_us",
)  # fmt: skip
#: Words that the book itself chooses from, and ids: quoted in JSON, and as they are in a text.
_BARE: Final = frozenset({"call_id", "terminal", "cost_state"})
_TEXT: Final = "%s INFO api.access: call " + " ".join(f"{name}=%s" for name in FIELDS)
_JSON: Final = (
    '{"time": "%s", "level": "INFO", "logger": "api.access", "message": "call", '
    + ", ".join(f'"{name}": "%s"' if name in _BARE else f'"{name}": %s' for name in FIELDS)
    + "}"
)

Write = Callable[[str], object]


class AccessLog:
    """Writes lines, in the same format as the log."""

    def __init__(self, log_format: str, write: Write | None = None) -> None:
        self._template = _JSON if log_format == "json" else _TEXT
        self._write = write or _to_stderr
        #: When each ended, in seconds since 1970, and how.
        self._outcomes: list[tuple[float, Outcome]] = []
        self._timer: asyncio.TimerHandle | None = None

    def ended(self, outcome: Outcome) -> None:
        """Take note of a call that has ended; its line is spelt with others, when nobody waits."""
        self._outcomes.append((time.time(), outcome))
        if len(self._outcomes) >= _LINES_MAX:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_GATHER_S, self.flush)

    def flush(self) -> None:
        """Write what was gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        outcomes, self._outcomes = self._outcomes, []
        if outcomes:
            lines = [self._template % (moment(ended_s), *values_of(outcome)) for ended_s, outcome in outcomes]
            self._write(GUARD.clean("\n".join(lines) + "\n"))


def values_of(outcome: Outcome) -> tuple[object, ...]:
    """Return the values of FIELDS as JSON spells them: texts quoted, so that a line break in a name begins no line."""
    charge = outcome.charge
    return (
        outcome.call_id,
        _quoted(outcome.key_id),
        _quoted(outcome.model),
        _quoted(outcome.deployment_id),
        "true" if outcome.is_stream else "false",
        _number(outcome.status),
        outcome.terminal[5:],
        "none" if charge is None else charge.state,
        "null" if charge is None else f'"{plain(charge.billed_usd + charge.estimated_usd)}"',
        outcome.attempts,
        outcome.chunks,
        outcome.request_bytes,
        outcome.answer_bytes,
        _number(outcome.first_chunk_us),
        outcome.upstream_us,
        outcome.duration_us,
    )


@lru_cache(1_024)
def _quoted(text: str) -> str:
    return json.dumps(text[:_CHARS_MAX])


def _number(value: int | None) -> str | int:
    return "null" if value is None else value


def _to_stderr(text: str) -> None:
    sys.stderr.write(text)
    sys.stderr.flush()
