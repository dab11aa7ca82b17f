"""Promises 1 to 3, seen from outside: what SQL shows of a running stream, what a client gets while nothing commits."""

import asyncio
import os
import signal
import statistics
import time
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID

import pytest

from tests.acceptance.conftest import MakeProxy
from tests.support.proxy import LocalProxy, configuration, deployment, read
from tests.support.upstream import SCRIPTS, Answer, AwaitGate, Received, Upstream, sse_blocks, stream

ARRIVAL_S_MAX = 0.25
#: Within this time each chunk must be there; that it usually is there at once is a matter of the median.
PATIENCE_S = 10.0
SILENCE_S = 2.5


def gated_stream(received: Received, response_id: str) -> Answer:
    """A stream whose every block waits for a gate of its own: `block 0`, `block 1`, ..."""
    whole = SCRIPTS["ok"](received, response_id)
    answer = stream(whole.body, headers=whole.headers[:-1], pause_s=0)
    writes = list(answer.steps)
    gated = [step for number, step in enumerate(writes[1:-1]) for step in (AwaitGate(f"block {number}"), step)]
    return Answer("gated", (writes[0], *gated, writes[-1]), 200, answer.headers, whole.body)


async def chunks_in_sql(proxy: LocalProxy, call_id: UUID) -> list[bytes]:
    """The bodies of the call's chunks as SQL sees them now."""
    query = "SELECT body FROM ledger.events WHERE call_id = $1 AND type = 'chunk.received' ORDER BY version"
    return [row["body"] for row in await proxy.book.fetch(query, call_id)]


async def test_chunk_of_a_running_stream_is_readable_in_sql_within_250_ms_of_its_arrival(make_proxy: MakeProxy) -> None:
    async with Upstream(scripts={"gated_stream": gated_stream}) as upstream:
        proxy = await make_proxy(configuration([deployment("gpt-4o", f"{upstream.url}/v1")]))
        request = {"model": "gpt-4o", "input": "count", "stream": True, "metadata": {"script": "gated_stream"}}
        waits: list[float] = []
        async with proxy.client.open(request) as response:
            call_id = UUID(response.headers["x-llm-call-id"])
            blocks = sse_blocks(SCRIPTS["ok"](upstream.requests[0], "").body)
            for number in range(len(blocks)):
                before = proxy.pieces.counts[""]
                upstream.gate(f"block {number}").set()
                await proxy.pieces.more_than(before)
                arrived_at = time.monotonic()
                while len(await chunks_in_sql(proxy, call_id)) <= number:
                    # The next block waits for its gate: nothing but this chunk can bring it into the book.
                    assert time.monotonic() - arrived_at < PATIENCE_S, f"chunk {number} is not in the book"
                    await asyncio.sleep(0.002)
                waits.append(time.monotonic() - arrived_at)
            answered = await read(response)
        assert answered.is_complete
        assert await chunks_in_sql(proxy, call_id) == sse_blocks(answered.body)
        assert len(waits) == len(blocks) == 13
        assert statistics.median(waits) < ARRIVAL_S_MAX


async def test_attempt_is_in_the_book_before_the_upstream_sees_a_byte(make_proxy: MakeProxy) -> None:
    seen: list[list[Any]] = []
    async with Upstream() as upstream:
        proxy = await make_proxy(configuration([deployment("gpt-4o", f"{upstream.url}/v1")]))
        choose = upstream._choose

        async def look_first(received: Received) -> Answer:
            rows = await proxy.book.fetch(
                "SELECT type, body FROM ledger.events WHERE call_id IS NOT NULL ORDER BY version"
            )
            seen.append([row["type"] for row in rows])
            return await choose(received)

        upstream._choose = look_first
        answered = await proxy.client.send({"model": "gpt-4o", "input": "hello"})
    assert answered.status == 200
    assert seen == [["call.received", "attempt.started"]]


@asynccontextmanager
async def frozen_journal(proxy: LocalProxy) -> AsyncGenerator[None]:
    """Freeze the server process that writes the proxy's journal."""
    rows = await proxy.book.fetch("SELECT backend_pid FROM ledger.journals WHERE sealed_at IS NULL")
    (pid,) = [row["backend_pid"] for row in rows]
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


@pytest.mark.parametrize("is_stream", [False, True], ids=["plain", "stream"])
async def test_last_byte_with_the_journals_backend_frozen_is_withheld_until_it_runs_again(
    make_proxy: MakeProxy, upstream: Upstream, *, is_stream: bool
) -> None:
    proxy = await make_proxy(configuration([deployment("gpt-4o", f"{upstream.url}/v1")]))
    request = {"model": "gpt-4o", "input": "hello", "stream": is_stream, "metadata": {"script": "gated"}}

    async def ask() -> Any:
        async with proxy.client.open(request) as response:
            first = await response.content.readany() if is_stream else b""
            begun.set_result(None)
            return first, await read(response)

    begun: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    asked = asyncio.create_task(ask())
    await upstream.arrived(1)
    if is_stream:
        await begun
    async with frozen_journal(proxy):
        upstream.gate("gate").set()
        await asyncio.wait([asked], timeout=SILENCE_S)
        assert not asked.done()
        assert upstream.requests[0].finished
    first, answered = await asyncio.wait_for(asked, 10)
    assert answered.is_complete
    story = await proxy.book.ended(answered.call_id)
    assert story.answer == first + answered.body
    assert story.end.type == "call.completed"


async def test_call_with_the_journals_backend_frozen_is_not_forwarded(
    make_proxy: MakeProxy, upstream: Upstream
) -> None:
    proxy = await make_proxy(configuration([deployment("gpt-4o", f"{upstream.url}/v1")]))
    async with frozen_journal(proxy):
        answered = await proxy.client.send({"model": "gpt-4o", "input": "hello"})
    assert answered.status == 503
    assert answered.error["code"] == "ledger_unavailable"
    assert int(answered.headers["retry-after"]) >= 1
    assert upstream.requests == []
    story = await proxy.book.ended(answered.call_id)
    assert story.types[-1] == "call.rejected"


async def test_chunk_under_every_chunk_is_durable_before_a_client_sees_it(
    make_proxy: MakeProxy, upstream: Upstream
) -> None:
    proxy = await make_proxy(
        configuration([deployment("gpt-4o", f"{upstream.url}/v1")], general={"durability": "every_chunk"})
    )
    request = {"model": "gpt-4o", "input": "hello", "stream": True, "metadata": {"blocks": "30", "delay_ms": "1"}}
    async with proxy.client.open(request) as response:
        call_id = UUID(response.headers["x-llm-call-id"])
        got = b""
        looks = 0
        while piece := await response.content.readany():
            got += piece
            stored = b"".join(await chunks_in_sql(proxy, call_id))
            assert stored.startswith(got), "a client saw what is not in the book"
            looks += 1
    assert looks >= 3
    assert got.endswith(b"\n\n")
