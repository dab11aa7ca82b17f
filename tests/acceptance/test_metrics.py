"""/metrics of a proxy with several workers: whichever is asked tells the same, and what the book says; and its log."""

import asyncio
import json
import os
import signal
from contextlib import suppress
from decimal import Decimal
from pathlib import Path
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.support.proxy import MASTER_KEY, Client, configuration, deployment
from tests.support.proxy_book import Book
from tests.support.proxy_process import Proxy
from tests.support.upstream import Upstream

CANARY = "canary"
Samples = dict[tuple[str, frozenset[tuple[str, str]]], float]

_ENDS = """
SELECT r.facts->>'model' AS model, e.type, (r.facts->>'stream')::bool::text AS stream, count(*) AS n
FROM ledger.events e JOIN ledger.events r ON r.call_id = e.call_id AND r.version = 0
WHERE e.type IN (
    'call.completed', 'call.incomplete', 'call.failed', 'call.truncated', 'call.cancelled', 'call.rejected'
)
GROUP BY 1, 2, 3
"""
_COSTS = """
SELECT facts->'dims'->>'model' AS model, sum((facts->>'billed_usd')::numeric) AS billed,
    sum((facts->>'estimated_usd')::numeric) AS estimated, sum((facts->>'unknown')::int) AS unknown,
    sum((facts->'usage'->>'input_tokens')::int) AS input, sum((facts->'usage'->>'cached_tokens')::int) AS input_cached,
    sum((facts->'usage'->>'output_tokens')::int) AS output,
    sum((facts->'usage'->>'reasoning_tokens')::int) AS output_reasoning
FROM ledger.events WHERE type = 'cost.recorded' GROUP BY 1
"""


_ENDED = """
SELECT call_id, type FROM ledger.events
WHERE type LIKE 'call.%' AND type <> 'call.received'
"""


async def scraped(client: Client) -> Samples:
    answer = await client.send(method="GET", path="/metrics")
    assert answer.status == 200
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    return {
        (sample.name.removeprefix("responses_ledger_"), frozenset(sample.labels.items())): sample.value
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
    }


def of(samples: Samples, name: str, **labels: str) -> float:
    """The sum of a metric's samples that have these labels."""
    return sum(value for (each, given), value in samples.items() if each == name and frozenset(labels.items()) <= given)


async def make_calls(client: Client) -> None:
    """Make calls of every kind that a client can bring about; each over a connection of its own."""
    asked: list[dict[str, Any]] = [{"model": "gpt-4o", "input": CANARY * n, "stream": n % 2 == 0} for n in range(24)]
    asked += [{"model": "gpt-4o", "input": "hello", "stream": True, "metadata": {"script": "cut_stream"}}] * 3
    asked += [{"model": "unpriced", "input": "hello"}] * 3
    asked += [{"model": "gpt-4o", "input": "hello", "metadata": {"script": "close"}}] * 2
    asked += [{"model": "unheard-of", "input": "hello"}] * 2
    await asyncio.gather(*(client.send(body) for body in asked))
    async with Client(client.url, "sk-wrong-wrong-wrong") as stranger:
        assert [(await stranger.send({"model": "gpt-4o"})).status for _ in range(2)] == [401, 401]
        assert (await stranger.send(method="GET", path="/metrics")).status == 401


async def check_against_the_book(samples: Samples, book: Book) -> None:
    ends = await book.fetch(_ENDS)
    assert {row["type"] for row in ends} >= {"call.completed", "call.truncated", "call.failed", "call.rejected"}
    for row in ends:
        model = row["model"] if row["model"] != "unheard-of" else "other"
        labels = {"model": model, "terminal": row["type"].removeprefix("call."), "stream": row["stream"]}
        assert of(samples, "calls_total", **labels) == row["n"], labels
    assert of(samples, "calls_total") == sum(row["n"] for row in ends)
    costs = {row["model"]: row for row in await book.fetch(_COSTS)}
    assert set(costs) == {"gpt-4o", "unpriced"}
    for model, row in costs.items():
        for kind in ("input", "input_cached", "output", "output_reasoning"):
            assert of(samples, "tokens_total", model=model, kind=kind) == (row[kind] or 0), (model, kind)
        for state in ("billed", "estimated"):
            assert Decimal(str(of(samples, "spend_usd_total", model=model, state=state))) == row[state], (model, state)
        assert of(samples, "unknown_costs_total", model=model) == row["unknown"]
    assert costs["gpt-4o"]["estimated"] > 0
    assert costs["unpriced"]["unknown"] > 0


def workers(proxy: Proxy) -> list[int]:
    """The process ids of the workers: the children that serve calls, not Python's own tracker of resources."""
    children = Path(f"/proc/{proxy.pid}/task/{proxy.pid}/children").read_text().split()
    found: list[int] = []
    for pid in children:
        with suppress(OSError):  # it may end while it is looked at
            found += [int(pid)] if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes() else []
    return found


def check_the_log(log: str, ended: list[Any]) -> None:
    """Every call has its line, and nothing of what was asked, answered or kept secret is in any line."""
    lines = [json.loads(line) for line in log.splitlines()]
    told = {line["call_id"]: line["terminal"] for line in lines if line["logger"] == "api.access"}
    # The worker that was killed may have taken its last lines with it.
    assert told.items() <= {(str(row["call_id"]), row["type"].removeprefix("call.")) for row in ended}
    assert len(told) > len(ended) / 2
    for secret in (CANARY, "echo:", MASTER_KEY, "sk-"):
        assert secret not in log


async def replaced(proxy: Proxy, dead: int) -> None:
    """Wait until another worker has come for the one that died."""
    async with asyncio.timeout(60):
        while dead in (now := workers(proxy)) or len(now) < 2:  # noqa: ASYNC110 - in another process
            await asyncio.sleep(0.05)


async def test_metrics_are_those_of_all_workers_and_equal_the_book_also_after_one_was_killed(
    upstream: Upstream, database_url: str, tmp_path: Path
) -> None:
    models = [deployment(name, f"{upstream.url}/v1") for name in ("gpt-4o", "unpriced")]
    config = configuration(models, general={"log_level": "debug", "log_format": "json"})
    with Proxy(config, database_url, tmp_path, num_workers=2) as proxy:
        async with proxy.client() as client, proxy.book() as book:
            await make_calls(client)
            samples = await scraped(client)
            await check_against_the_book(samples, book)
            assert of(samples, "refused_requests_total", status="401") == 2
            assert of(samples, "admin_requests_total", status="4xx") == 1
            assert of(samples, "call_duration_seconds_count", model="gpt-4o") == of(
                samples, "calls_total", model="gpt-4o"
            )
            assert samples["workers", frozenset()] == 2
            assert of(samples, "resident_bytes", worker="0") > 10_000_000
            assert {name for name, _ in samples} >= {"projection_lag_seconds", "flush_seconds_bucket", "database_up"}
            victim = workers(proxy)[0]
            os.kill(victim, signal.SIGKILL)
            await replaced(proxy, victim)
            await make_calls(client)
            while of(samples := await scraped(client), "workers") < 2:
                pass
            await check_against_the_book(samples, book)
            assert proxy.process is not None
            proxy.terminate()
            await asyncio.to_thread(proxy.wait)
            check_the_log(proxy.log, await book.fetch(_ENDED))
