"""Which kill falls when: drawn from a seed, so that a round that went wrong can be drawn again."""

import random
from dataclasses import dataclass
from typing import Literal

Kill = Literal["worker", "proxy", "parent", "postmaster"]
PROXIES = 2
#: Of so many kills of a proxy one spares its workers: the parent dies alone.
PARENT_ALONE_EVERY = 3


@dataclass(frozen=True, slots=True)
class Round:
    """One round: what is killed, and when, in seconds from its beginning; the last two count from the kill."""

    number: int
    kill: Kill
    proxy: int
    worker: int
    kill_after_s: float
    back_after_s: float
    load_s: float


def draw_plan(seed: int, rounds: int) -> list[Round]:
    """Draw a plan: of each three rounds one kills a worker, one a proxy, one the postmaster, in any order."""
    rng = random.Random(f"plan {seed}")
    kinds: list[Kill] = []
    proxies = 0
    while len(kinds) < rounds:
        three: list[Kill] = ["worker", "proxy", "postmaster"]
        rng.shuffle(three)
        for kind in three:
            proxies += kind == "proxy"
            kinds.append("parent" if kind == "proxy" and proxies % PARENT_ALONE_EVERY == 0 else kind)
    return [_draw(rng, number, kind) for number, kind in enumerate(kinds[:rounds], 1)]


def _draw(rng: random.Random, number: int, kill: Kill) -> Round:
    back_after_s = rng.uniform(0.0, 1.0)
    return Round(
        number=number,
        kill=kill,
        proxy=rng.randrange(PROXIES),
        worker=rng.randrange(2),
        kill_after_s=rng.uniform(0.3, 1.0),
        back_after_s=back_after_s,
        load_s=(back_after_s if kill == "postmaster" else 0.0) + 0.8,
    )
