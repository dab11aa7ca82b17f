"""The database is lost: nothing is forwarded unrecorded, streams are held, then told; it recovers by itself."""

import asyncio
import time
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from ledger.postgres.migrate import upgrade
from tests.support.postgres import PrivateServer
from tests.support.proxy import LocalProxy, configuration, deployment, read, read_until
from tests.support.upstream import Upstream

LEDGER_WAIT_S = 2.0
#: Longer than any machine takes to start a server again.
LONG_WAIT_S = 60.0
STREAM: dict[str, Any] = {"model": "gpt-4o", "input": "hello", "stream": True, "metadata": {"script": "gated"}}


@pytest.fixture
def server(postgres_server: Callable[..., PrivateServer]) -> PrivateServer:
    """A durable server of the test's own, with the ledger's schema."""
    server = postgres_server()
    upgrade(server.url)
    return server


@pytest.fixture
def ledger_wait_s() -> float:
    """How long a client is kept waiting for the book."""
    return LEDGER_WAIT_S


@pytest.fixture
async def proxy(
    server: PrivateServer, upstream: Upstream, tmp_path: Path, ledger_wait_s: float
) -> AsyncGenerator[LocalProxy]:
    config = configuration(
        [deployment("gpt-4o", f"{upstream.url}/v1")],
        general={"ledger_wait_s": ledger_wait_s, "lease_s": 5},
        router={"num_retries": 0},
    )
    async with LocalProxy(config, server.url, tmp_path) as local:
        yield local


async def refused(proxy: LocalProxy) -> None:
    """Ask until the loss has been noticed; then a call is refused as the API refuses, and at once."""
    async with asyncio.timeout(20):
        while True:
            began_s = time.monotonic()
            answered = await proxy.client.send({"model": "gpt-4o", "input": "hello"})
            assert answered.status == 503
            assert (answered.error["code"], answered.error["type"]) == ("ledger_unavailable", "server_error")
            assert int(answered.headers["retry-after"]) >= 1
            if time.monotonic() - began_s < 0.5:
                return


async def served(proxy: LocalProxy) -> UUID:
    """Ask until a call is served again; returns its id."""
    async with asyncio.timeout(30):
        while True:
            answered = await proxy.client.send({"model": "gpt-4o", "input": "hello"})
            if answered.status == 200:
                return answered.call_id
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("how", ["stop", "kill"])
async def test_stream_under_way_in_an_outage_is_told_read_on_and_complete_in_the_book(
    proxy: LocalProxy, server: PrivateServer, upstream: Upstream, how: str
) -> None:
    async with proxy.client.open(STREAM) as response:
        begun = await read_until(response, b"response.in_progress")
        await asyncio.to_thread(server.stop if how == "stop" else server.kill)
        await refused(proxy)
        forwarded = len(upstream.requests)
        lost_at_s = time.monotonic()
        upstream.gate("gate").set()
        answered = await asyncio.wait_for(read(response), LEDGER_WAIT_S + 20)
        stalled_s = time.monotonic() - lost_at_s
    assert stalled_s > LEDGER_WAIT_S - 0.5
    assert answered.is_complete
    assert answered.body.startswith(b"event: error\n")
    assert b'"code":"ledger_unavailable"' in answered.body
    assert forwarded == 1
    async with asyncio.timeout(20):
        while not upstream.requests[0].finished:  # noqa: ASYNC110 - a flag of the stand-in
            await asyncio.sleep(0.01)
    await asyncio.to_thread(server.start)
    await served(proxy)
    story = await proxy.book.ended(UUID(response.headers["x-llm-call-id"]))
    assert story.answer.startswith(begun)
    assert b"event: response.completed" in story.answer
    assert (story.end.type, story.cost["state"]) == ("call.completed", "billed")
    assert story.end.facts["delivered"] is False
    assert len({row["journal_id"] for row in await proxy.book.fetch("SELECT journal_id FROM ledger.events")}) == 1


@pytest.mark.parametrize("ledger_wait_s", [LONG_WAIT_S])
async def test_stream_in_a_short_outage_goes_on_without_an_error(
    proxy: LocalProxy, server: PrivateServer, upstream: Upstream
) -> None:
    async with proxy.client.open(STREAM) as response:
        begun = await read_until(response, b"response.in_progress")
        await asyncio.to_thread(server.stop)
        upstream.gate("gate").set()
        await asyncio.to_thread(server.start)
        answered = await asyncio.wait_for(read(response), LONG_WAIT_S + 5)
    story = await proxy.book.ended(UUID(response.headers["x-llm-call-id"]))
    assert story.answer == begun + answered.body
    assert b"event: error" not in answered.body
    assert (story.end.type, story.end.facts["delivered"]) == ("call.completed", True)


async def test_plain_answer_that_cannot_be_recorded_is_withheld_and_not_offered_for_a_retry(
    proxy: LocalProxy, server: PrivateServer, upstream: Upstream
) -> None:
    asked = asyncio.create_task(proxy.client.send(STREAM | {"stream": False}))
    await upstream.arrived(1)
    await asyncio.to_thread(server.stop)
    upstream.gate("gate").set()
    answered = await asyncio.wait_for(asked, LEDGER_WAIT_S + 20)
    assert (answered.status, answered.error["code"]) == (503, "ledger_unavailable")
    assert answered.headers["x-should-retry"] == "false"
    await asyncio.to_thread(server.start)
    await served(proxy)
    story = await proxy.book.ended(answered.call_id)
    assert (story.end.type, story.cost["state"]) == ("call.completed", "billed")
    assert b"echo: hello" in story.answer
