"""Which deployments are tried, in which order."""

import random
from collections import Counter

from llm.deployment import Deployment
from llm.router import Choice, Router, Routing
from tests.support.engine import deployed


def router(*deployments: Deployment, seed: int = 1, **routing: object) -> Router:
    return Router(deployments, Routing(**routing), random.Random(seed))  # pyright: ignore[reportArgumentType] - settings by name


def with_(deployment: Deployment, **fields: object) -> Deployment:
    values = {name: getattr(deployment, name) for name in Deployment.__dataclass_fields__} | fields
    return Deployment(**values)  # pyright: ignore[reportArgumentType] - its own fields


def told(plan: list[Choice]) -> list[tuple[str, str]]:
    return [(choice.deployment.deployment_id, choice.kind) for choice in plan]


def test_plan_of_a_single_deployment_is_itself_with_its_retries() -> None:
    plan = list(router(deployed("m", "a"), num_retries=2).plan("m"))
    assert told(plan) == [("a", "first"), ("a", "retry"), ("a", "retry")]


def test_plan_of_a_group_tries_each_before_any_twice() -> None:
    for seed in range(20):
        group = [deployed("m", name) for name in "abc"]
        plan = list(router(*group, seed=seed, num_retries=3).plan("m"))
        assert {choice.deployment.deployment_id for choice in plan[:3]} == {"a", "b", "c"}


def test_plan_takes_the_lowest_order_first() -> None:
    group = [with_(deployed("m", "late"), order=2), with_(deployed("m", "early"), order=1)]
    assert told(list(router(*group, num_retries=1).plan("m"))) == [("early", "first"), ("late", "retry")]


def test_plan_falls_back_to_each_group_once_and_never_to_itself_or_the_unknown() -> None:
    fallbacks = {"m": ("m", "n", "gone", "n", "o", "p")}
    groups = [deployed(name, name) for name in "mnop"]
    plan = list(router(*groups, num_retries=0, fallbacks=fallbacks, max_fallbacks=5).plan("m"))
    assert told(plan) == [("m", "first"), ("n", "fallback"), ("o", "fallback")]


def test_plan_without_fallbacks_of_its_own_takes_the_default_ones() -> None:
    groups = [deployed("m", "m"), deployed("n", "n")]
    plan = list(router(*groups, num_retries=0, fallbacks={"n": ("m",)}, default_fallbacks=("n",)).plan("m"))
    assert told(plan) == [("m", "first"), ("n", "fallback")]


def test_plan_of_a_pinned_call_stays_with_its_deployment() -> None:
    groups = [deployed("m", "a"), deployed("m", "b")]
    plan = list(router(*groups, num_retries=1, default_fallbacks=("m",)).plan("m", pinned=groups[1]))
    assert told(plan) == [("b", "first"), ("b", "retry")]


def test_choice_follows_the_weights_and_never_takes_a_weight_of_nothing() -> None:
    group = [with_(deployed("m", name), weight=weight) for name, weight in (("a", 3.0), ("b", 1.0), ("c", None))]
    chosen: Counter[str] = Counter()
    fixed = router(*group, num_retries=0)
    for _ in range(2_000):
        chosen[next(fixed.plan("m")).deployment.deployment_id] += 1
    assert chosen["c"] == 0
    assert 1_400 < chosen["a"] < 1_600
