"""SIGTERM with calls in flight: they end within the grace period, or are ended and booked; nothing stays open."""

import asyncio
import signal
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from tests.acceptance.conftest import MakeProxy
from tests.support.proxy import Config, configuration, deployment, read, read_until
from tests.support.proxy_process import Proxy
from tests.support.upstream import Upstream

REQUEST: dict[str, Any] = {"model": "gpt-4o", "input": "hello", "stream": True}
#: Whoever waits this out has not ended by the time `Proxy.wait` gives up.
LONG_S = 300.0
_OPEN = "SELECT count(*) AS n FROM ledger.journals WHERE sealed_at IS NULL"


def config(upstream: Upstream, grace_s: float) -> Config:
    return configuration([deployment("gpt-4o", f"{upstream.url}/v1")], general={"shutdown_grace_s": grace_s})


async def exit_status(proxy: Proxy) -> int:
    return await asyncio.to_thread(proxy.wait)


async def no_longer_listening(proxy: Proxy) -> None:
    """Wait until the proxy takes no new connections."""
    host, port = proxy.url.removeprefix("http://").split(":")
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection(host, int(port))
            except ConnectionError:
                return
            writer.close()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize("num_workers", [1, 2])
async def test_sigterm_without_calls_seals_the_journals_and_exits_with_0(
    upstream: Upstream, database_url: str, tmp_path: Path, num_workers: int
) -> None:
    with Proxy(config(upstream, LONG_S), database_url, tmp_path, num_workers=num_workers) as proxy:
        proxy.terminate()
        assert await exit_status(proxy) == 0
        async with proxy.book() as book:
            assert (await book.fetch(_OPEN))[0]["n"] == 0
        assert "Traceback" not in proxy.log


async def test_sigterm_lets_a_stream_and_a_plain_call_end_within_the_grace_period(
    upstream: Upstream, database_url: str, tmp_path: Path
) -> None:
    with Proxy(config(upstream, 20), database_url, tmp_path) as proxy:
        async with proxy.client() as client:
            plain = asyncio.create_task(
                client.send(REQUEST | {"stream": False, "metadata": {"script": "gated", "gate": "end"}})
            )
            async with client.open(REQUEST | {"metadata": {"script": "gated", "gate": "end"}}) as response:
                await read_until(response, b"response.in_progress")
                await upstream.arrived(2)
                proxy.terminate()
                await no_longer_listening(proxy)
                upstream.gate("end").set()
                answered = await read(response)
            whole = await plain
        assert await exit_status(proxy) == 0
        assert answered.is_complete
        assert whole.status == 200
        async with proxy.book() as book:
            for call_id in (UUID(response.headers["x-llm-call-id"]), whole.call_id):
                story = await book.ended(call_id)
                assert (story.end.type, story.cost["state"]) == ("call.completed", "billed")
            assert (await book.fetch(_OPEN))[0]["n"] == 0


async def test_sigterm_ends_what_outlasts_the_grace_period_and_books_an_estimate(
    upstream: Upstream, database_url: str, tmp_path: Path
) -> None:
    with Proxy(config(upstream, 1), database_url, tmp_path) as proxy:
        async with proxy.client() as client:
            plain = asyncio.create_task(client.send(REQUEST | {"stream": False, "metadata": {"script": "never"}}))
            async with client.open(REQUEST | {"metadata": {"script": "stalled_stream"}}) as response:
                begun = await read_until(response, b"output_text.delta")
                await upstream.arrived(2)
                proxy.terminate()
                answered = await read(response)
            whole = await plain
        assert await exit_status(proxy) == 0
        assert answered.is_complete
        assert b"event: error\n" in answered.body
        assert b'"code":"shutting_down"' in answered.body
        assert (whole.status, whole.error["code"]) == (503, "shutting_down")
        async with proxy.book() as book:
            streamed = await book.ended(UUID(response.headers["x-llm-call-id"]))
            unanswered = await book.ended(whole.call_id)
            assert (await book.fetch(_OPEN))[0]["n"] == 0
        assert (begun + answered.body).startswith(streamed.answer)
        assert (streamed.end.type, streamed.cost["state"]) == ("call.truncated", "estimated")
        assert Decimal(streamed.cost["estimated_usd"]) > 0
        assert (unanswered.end.type, unanswered.cost["state"]) == ("call.truncated", "unknown")
        assert "Traceback" not in proxy.log


async def test_proxy_that_has_ended_leaves_the_signals_of_its_process_as_they_were(
    make_proxy: MakeProxy, upstream: Upstream
) -> None:
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    proxy = await make_proxy(config(upstream, 1))
    assert signal.getsignal(signal.SIGTERM) is not before[signal.SIGTERM]
    await proxy.application.stop()
    assert {number: signal.getsignal(number) for number in before} == before
