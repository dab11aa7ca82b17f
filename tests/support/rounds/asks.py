"""What the clients of a round ask for: a mix of plain answers, streams, hasty clients and upstreams that fail.

Drawn from a seed. Each request carries a marker of its own in its body, by which it is found again in the book
(`call.received`) and at the upstream (its wish `call`); the other wishes in its metadata shape the upstream's answer.
"""

import json
import random
from dataclasses import dataclass

MODEL = "gpt-4o"

#: kind, weight, whether it streams, the script that the upstream follows ("" for the echo)
_KINDS: tuple[tuple[str, int, bool, str], ...] = (
    ("plain", 22, False, ""),
    ("stream", 40, True, ""),
    ("hasty_stream", 10, True, ""),
    ("hasty_plain", 4, False, "drip"),
    ("retried", 3, False, "error_429_ms,ok"),
    ("error_500", 2, False, "error_500"),
    ("closed", 1, False, "close"),
    ("reset", 1, True, "reset"),
    ("cut_plain", 2, False, "cut_plain"),
    ("cut_stream", 3, True, "cut_stream"),
    ("reset_stream", 2, True, "reset_stream"),
    ("no_terminal", 2, True, "no_terminal"),
    ("error_nested", 2, True, "error_nested"),
    ("failed_stream", 2, True, "failed_stream"),
    ("no_usage", 2, False, "no_usage"),
    ("incomplete", 2, True, "incomplete"),
)


@dataclass(frozen=True, slots=True)
class Ask:
    """One request; `leave_after_s` is when its client hangs up, None for one that stays."""

    marker: str
    kind: str
    body: bytes
    is_stream: bool
    leave_after_s: float | None = None


def make_ask(marker: str, kind: str = "plain", *, leave_after_s: float | None = None, **wishes: str) -> Ask:
    """Make a request; `wishes` are the upstream's (`blocks`, `delay_ms`, `script`, `gate`); `stream="1"`: a stream."""
    is_stream = bool(wishes.pop("stream", ""))
    request = {
        "model": MODEL,
        "input": f"What became of {marker}?",
        "stream": is_stream,
        "user": f"client-{marker.partition('-')[0]}",
        "metadata": {"call": marker, **wishes},
    }
    return Ask(marker, kind, json.dumps(request).encode(), is_stream, leave_after_s)


def draw_ask(rng: random.Random, marker: str) -> Ask:
    """Draw a request of the mix: streams of 5 to 60 deltas, 2 to 12 ms apart."""
    kind, _, is_stream, script = rng.choices(_KINDS, [weight for _, weight, _, _ in _KINDS])[0]
    wishes = {"script": script} if script else {}
    if is_stream:
        wishes |= {"stream": "1", "blocks": str(rng.randint(5, 60)), "delay_ms": str(rng.randint(2, 12))}
    leave_after_s = rng.uniform(0.01, 0.3) if kind.startswith("hasty") else None
    return make_ask(marker, kind, leave_after_s=leave_after_s, **wishes)
