"""Large bodies, slow clients and streams without end: memory stays flat, and the upstream is held back."""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.acceptance.conftest import MakeProxy
from tests.support.proxy import Client, configuration, deployment, read
from tests.support.proxy_process import Proxy
from tests.support.upstream import Answer, Log, Received, Upstream, plain, stream
from tests.support.upstream.generated import sse

MIB = 1024 * 1024
LIMIT_BYTES = 64 * MIB
BLOCK_BYTES = 64 * 1024


def body_of(size: int, *, model: str = "alias") -> bytes:
    """A request of exactly so many bytes."""
    head = json.dumps({"model": model, "input": ""}).encode()[:-2]
    return head + b"x" * (size - len(head) - 2) + b'"}'


def flood(blocks: int) -> Any:
    """A script: a stream of so many blocks of 64 KiB, then its terminal event."""
    delta = sse("response.output_text.delta", 1, delta="x" * BLOCK_BYTES)
    end = sse("response.completed", 2, response={"id": "resp_flood", "status": "completed", "usage": None})

    def script(received: Received, response_id: str) -> Answer:
        del received, response_id
        return stream(delta * blocks + end, pause_s=0)

    return script


async def settled_bytes(proxy: Proxy) -> int:
    """Resident memory once it no longer falls."""
    least = proxy.resident_bytes
    for _ in range(20):
        await asyncio.sleep(0.05)
        least = min(least, proxy.resident_bytes)
    return least


def digest(received: Received, response_id: str) -> Answer:
    """A script: an answer that tells the hash of the request."""
    del response_id
    return plain(json.dumps({"id": received.sha256, "status": "completed", "usage": None}).encode())


@pytest.mark.slow
async def test_largest_bodies_pass_and_leave_no_memory_behind(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = body_of(LIMIT_BYTES)
    sizes: list[int] = []
    call_id = UUID(int=0)
    async with Upstream(default=digest, log=Log(keep_bytes_of=1)) as upstream:
        config = configuration([deployment("alias", f"{upstream.url}/v1", model="gpt-4o")])
        with Proxy(config, database_url, tmp_path) as proxy:
            async with proxy.client() as client:
                for _ in range(3):
                    answered = await client.send(given)
                    assert answered.status == 200, answered.body[:300]
                    assert answered.json["id"] == hashlib.sha256(given.replace(b'"alias"', b'"gpt-4o"', 1)).hexdigest()
                    sizes.append(await settled_bytes(proxy))
                    call_id = answered.call_id
                assert (await client.send(body_of(LIMIT_BYTES + 1))).error["code"] == "request_too_large"
            async with proxy.book() as book:
                assert (await book.ended(call_id)).request == given
            with capsys.disabled():
                print(f"\n{[size // MIB for size in sizes]} MiB after 64 MiB calls, peak {proxy.peak_bytes // MIB}")  # noqa: T201 - measured
    assert sizes[-1] - sizes[0] < 32 * MIB, sizes


async def test_body_over_the_limit_is_refused_whether_its_length_is_told_or_not(
    make_proxy: MakeProxy, upstream: Upstream
) -> None:
    config = configuration([deployment("gpt-4o", f"{upstream.url}/v1")], general={"max_request_bytes": 100_000})
    proxy = await make_proxy(config)
    for chunked in (False, True):
        passed = await proxy.client.send(body_of(100_000, model="gpt-4o"), chunked=chunked)
        assert passed.status == 200, passed.body
        refused = await proxy.client.send(body_of(100_001, model="gpt-4o"), chunked=chunked)
        assert (refused.status, refused.error["code"]) == (413, "request_too_large")
    assert len(upstream.requests) == 2


@pytest.mark.slow
async def test_slow_client_holds_the_upstream_back_and_costs_no_memory(
    database_url: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = 1_000
    async with Upstream() as upstream:
        config = configuration([deployment("gpt-4o", f"{upstream.url}/v1")])
        with Proxy(config, database_url, tmp_path) as proxy:
            async with Client(proxy.url) as client:
                request = {"model": "gpt-4o", "input": "flood", "stream": True}
                upstream.script(flood(8))
                await client.send(request)
                before = await settled_bytes(proxy)
                proxy.forget_peak()
                upstream.script(flood(blocks))
                async with client.open(request) as response:
                    received = upstream.requests[-1]
                    written = await unmoved(received)
                    assert 0 < written < 24 * MIB, "the upstream was not held back"
                    assert not received.finished
                    answered = await read(response)
                peak = proxy.peak_bytes
            async with proxy.book() as book:
                story = await book.ended(UUID(response.headers["x-llm-call-id"]))
                assert story.end.facts["chunks"] == blocks + 1
                assert story.end.facts["answer_bytes"] == len(answered.body) > blocks * BLOCK_BYTES
            with capsys.disabled():
                told = f"{written // MIB} MiB written to a slow client; {before // MIB} MiB before, peak {peak // MIB}"
                print(f"\n{told}")  # noqa: T201 - measured
    assert peak - before < 64 * MIB


async def unmoved(received: Received) -> int:
    """Wait until the upstream has written nothing for half a second; returns what it has written."""
    written = -1
    async with asyncio.timeout(20):
        while written != received.written:
            written = received.written
            await asyncio.sleep(0.5)
    return written
