"""What an answer does on its connection, step by step, and how bytes are cut into pieces.

An `Answer` is data: the connection in `connection` carries it out. `plain` and `stream` in `framing` build answers from
bodies; `faults` builds those that go wrong.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise

Header = tuple[str, str]
SHORTEST_PAUSE_S = 0.0015  # below this, two pieces may reach the reader as one


@dataclass(frozen=True)
class Write:
    """Send these bytes as one piece."""

    data: bytes


@dataclass(frozen=True)
class Pause:
    """Wait that long."""

    seconds: float


@dataclass(frozen=True)
class AwaitGate:
    """Wait until the test opens the gate of that name (`Upstream.open_gate`, `POST /__open/NAME`)."""

    name: str


@dataclass(frozen=True)
class Close:
    """Close the connection in order (FIN)."""


@dataclass(frozen=True)
class Reset:
    """Break the connection off (RST)."""


@dataclass(frozen=True)
class StayOpen:
    """Send nothing more, until the client closes or the upstream stops."""


Step = Write | Pause | AwaitGate | Close | Reset | StayOpen


@dataclass(frozen=True)
class Answer:
    """One scripted answer.

    `body` is what a client that follows HTTP gets to see of the body before the answer ends or breaks off, still
    compressed where it is; it is for comparisons, the steps alone decide what is sent.
    """

    name: str
    steps: tuple[Step, ...]
    status: int = 0
    headers: tuple[Header, ...] = ()
    body: bytes = b""
    keep_alive: bool = True
    note: dict[str, str] = field(default_factory=dict[str, str])

    def named(self, name: str) -> "Answer":
        """The same answer under another name."""
        return replace(self, name=name)


def cut(data: bytes, positions: Sequence[int]) -> list[bytes]:
    """The pieces of `data` between the positions; empty pieces are left out."""
    edges = [0, *sorted(p for p in positions if 0 < p < len(data)), len(data)]
    return [data[a:b] for a, b in pairwise(edges) if b > a]


def random_cuts(data: bytes, rng: random.Random, pieces: int) -> list[bytes]:
    """`data` in that many pieces (fewer where it is shorter), cut at places that `rng` chooses."""
    if len(data) <= pieces:
        return cut(data, range(len(data)))
    return cut(data, rng.sample(range(1, len(data)), max(pieces - 1, 0)))


def paced(pieces: Sequence[bytes], pause_s: float) -> tuple[Step, ...]:
    """Each piece a write of its own, with a pause between one and the next (none when `pause_s` is 0)."""
    steps: list[Step] = []
    for piece in pieces:
        if steps and pause_s:
            steps.append(Pause(max(pause_s, SHORTEST_PAUSE_S)))
        steps.append(Write(piece))
    return tuple(steps)
