"""Which deployment serves an attempt: a weighted choice within a group, then the fallback groups in order.

Pure but for the random numbers, which are handed in. What an attempt does is `engine.py`.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from random import Random
from typing import Literal, NamedTuple

from llm.deployment import Deployment

Kind = Literal["first", "retry", "fallback"]


@dataclass(frozen=True, slots=True)
class Routing:
    """How many attempts a call gets, and of which groups."""

    num_retries: int = 2
    retry_after_s: float = 0.0
    fallbacks: Mapping[str, tuple[str, ...]] | None = None
    default_fallbacks: tuple[str, ...] = ()
    max_fallbacks: int = 5


class Choice(NamedTuple):
    """A deployment to try, and as what."""

    deployment: Deployment
    kind: Kind


class Router:
    """The groups of a configuration."""

    def __init__(self, deployments: Iterable[Deployment], routing: Routing, random: Random) -> None:
        groups: dict[str, list[Deployment]] = defaultdict(list)
        for deployment in deployments:
            groups[deployment.model_name].append(deployment)
        self._groups = {name: tuple(members) for name, members in groups.items()}
        self._by_id = {member.deployment_id: member for members in self._groups.values() for member in members}
        self._random = random
        self.routing = routing

    @property
    def model_names(self) -> list[str]:
        """The models that clients may ask for, in the order of the configuration."""
        return list(self._groups)

    def has(self, model_name: str) -> bool:
        """Whether a model of that name is served."""
        return model_name in self._groups

    def deployment(self, deployment_id: str) -> Deployment | None:
        """Return the deployment of that id, if it is still configured."""
        return self._by_id.get(deployment_id)

    def first_of_all(self) -> Deployment:
        """Return the deployment that takes calls which name no model."""
        return next(iter(self._by_id.values()))

    def plan(self, model_name: str, pinned: Deployment | None = None) -> Iterator[Choice]:
        """Yield what to try, until the caller is served: the group with its retries, then each fallback group once.

        A retry goes to another deployment of the group where there is one that has not been tried. A pinned call (it
        continues what only one deployment knows) is retried there and falls back to nobody.
        """
        if pinned is not None:
            yield Choice(pinned, "first")
            for _ in range(self.routing.num_retries):
                yield Choice(pinned, "retry")
            return
        yield from self._within(model_name)
        names = (self.routing.fallbacks or {}).get(model_name, ()) or self.routing.default_fallbacks
        tried = {model_name}
        for name in names[: self.routing.max_fallbacks]:
            if name in self._groups and name not in tried:
                tried.add(name)
                yield Choice(self._pick(self._groups[name], set()), "fallback")

    def _within(self, model_name: str) -> Iterator[Choice]:
        group = self._groups[model_name]
        tried: set[str] = set()
        for number in range(1 + self.routing.num_retries):
            deployment = group[0] if len(group) == 1 else self._pick(group, tried)
            tried.add(deployment.deployment_id)
            yield Choice(deployment, "retry" if number else "first")

    def _pick(self, group: tuple[Deployment, ...], tried: set[str]) -> Deployment:
        """Choose by the lowest order, among those not tried yet where there are any, by weight."""
        fresh = [member for member in group if member.deployment_id not in tried] or list(group)
        lowest = min(member.order or 0 for member in fresh)
        candidates = [member for member in fresh if (member.order or 0) == lowest]
        return self._random.choices(candidates, [_weight(candidates, member) for member in candidates])[0]


def _weight(group: list[Deployment], member: Deployment) -> float:
    """The first of weight, rpm and tpm that any member names decides; a member that lacks it gets nothing."""
    for name in ("weight", "rpm", "tpm"):
        values = [getattr(other, name) for other in group]
        if any(value for value in values):
            return float(getattr(member, name) or 0)
    return 1.0
