"""Kills under load, twenty rounds of them, and what the promises say about each call that was under way.

The rounds are drawn from a seed; `scripts/soak --seed N` runs the same ones, and more. What is checked is told in
tests/support/rounds/checks.py.
"""

import asyncio
import os
import signal
from collections.abc import Callable

import pytest

from tests.support.postgres import PrivateServer, reachable_directory, remove
from tests.support.rounds.course import CLOSED_S, SLACK_S, Course, Result, report
from tests.support.rounds.plan import draw_plan
from tests.support.rounds.processes import LEASE_S, ProxyProcess, UpstreamProcess, until

SEED = 20
ROUNDS = 20


async def run(server: PrivateServer, seed: int, rounds: int, mutation: str = "") -> tuple[Course, list[Result]]:
    """Run the first rounds of a plan; print what was done."""
    directory = reachable_directory()
    try:
        async with Course(directory, server, seed, mutation=mutation) as course:
            results = [await course.run(planned) for planned in draw_plan(seed, rounds)]
    finally:
        remove(directory)
    print(report(course, results))  # noqa: T201 - pytest shows it with a failure
    return course, results


@pytest.mark.slow
async def test_kill_rounds_under_mixed_load_keep_every_promise(postgres_server: Callable[..., PrivateServer]) -> None:
    server = postgres_server(max_connections="200", recovery_init_sync_method="syncfs")
    course, results = await run(server, SEED, ROUNDS)
    assert [str(violation) for result in results for violation in result.violations] == []
    counts = course.checker.counts
    assert min(course.kills["worker"], course.kills["postmaster"], course.kills["proxy"] + course.kills["parent"]) >= 6
    # A round in which nothing was under way would show nothing.
    assert counts["calls abandoned"] >= ROUNDS
    assert counts["prices compared"] >= 10 * ROUNDS
    assert counts["chunks"] >= 100 * ROUNDS
    assert counts["charges estimated"] > 0
    assert counts["charges unknown"] > 0


@pytest.mark.slow
async def test_worker_killed_on_another_machine_is_closed_when_its_lease_has_run_out(
    postgres_server: Callable[..., PrivateServer],
) -> None:
    server = postgres_server(max_connections="200", recovery_init_sync_method="syncfs")
    _, results = await run(server, 3, 1, mutation="elsewhere")
    assert [str(violation) for result in results for violation in result.violations] == []
    # The last heartbeat may lie two seconds before the kill, and the lease counts from there.
    assert LEASE_S - 2.5 < results[0].closed_after_s < CLOSED_S + SLACK_S


def test_plan_of_one_seed_is_drawn_again_the_same() -> None:
    assert draw_plan(7, 60) == draw_plan(7, 60)
    assert draw_plan(7, 60) != draw_plan(8, 60)
    kinds = [planned.kill for planned in draw_plan(7, 60)]
    assert [kinds.count(kind) for kind in ("worker", "postmaster")] == [20, 20]
    assert kinds.count("proxy") > kinds.count("parent") > 0


@pytest.mark.slow
async def test_worker_replaced_while_the_database_is_away_serves_when_it_is_back(
    postgres_server: Callable[..., PrivateServer],
) -> None:
    server = postgres_server(recovery_init_sync_method="syncfs")
    directory = reachable_directory()
    upstream = UpstreamProcess()
    proxy = ProxyProcess(directory, "proxy", upstream=upstream.url, database_url=server.url)
    try:
        await proxy.start()
        server.kill()
        former = proxy.serving_pids()
        proxy.kill(former)
        await until(lambda: len(set(proxy.serving_pids()) - set(former)) == len(former), "other workers")
        # They have met the absence of the database when they say so.
        await until(lambda: proxy.log_tail().count("waiting for the database") >= len(former), "their complaint")
        server.start()
        await proxy.serves()
    finally:
        await proxy.close()
        upstream.close()
        remove(directory)


@pytest.mark.slow
async def test_worker_killed_while_its_parent_awaits_a_sign_of_life_is_replaced_at_once(
    postgres_server: Callable[..., PrivateServer],
) -> None:
    server = postgres_server()
    directory = reachable_directory()
    upstream = UpstreamProcess()
    proxy = ProxyProcess(directory, "proxy", upstream=upstream.url, database_url=server.url)
    try:
        await proxy.start()
        former = proxy.serving_pids()
        os.kill(former[0], signal.SIGSTOP)
        # Twice as long as between two of the parent's questions; the stopped worker leaves the last one unanswered.
        await asyncio.sleep(1.0)
        proxy.kill(former[:1])
        await until(lambda: len(set(proxy.serving_pids()) - set(former)) == 1, "another worker", timeout_s=10.0)
    finally:
        await proxy.close()
        upstream.close()
        remove(directory)
