"""A client that leaves: by default the upstream is read to its end and billed; by choice it is cut and estimated."""

import asyncio
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest

from tests.acceptance.conftest import MakeProxy
from tests.support.proxy import LocalProxy, configuration, deployment, read_until
from tests.support.proxy_book import Story
from tests.support.upstream import Upstream, refusal

REQUEST: dict[str, Any] = {"model": "gpt-4o", "input": "hello", "stream": True}


async def start(make_proxy: MakeProxy, upstream: Upstream, **general: Any) -> LocalProxy:
    return await make_proxy(configuration([deployment("gpt-4o", f"{upstream.url}/v1")], general=general))


async def leave_in_the_middle(proxy: LocalProxy, upstream: Upstream, script: str, *, is_stream: bool = True) -> UUID:
    """Ask, leave while the upstream works, and return the call's id once the book has noticed."""
    body = REQUEST | {"stream": is_stream, "metadata": {"script": script}}
    if is_stream:
        async with proxy.client.open(body) as response:
            await read_until(response, b"response.in_progress")
            response.close()
    else:
        asked = asyncio.create_task(proxy.client.send(body))
        await upstream.arrived(1)
        asked.cancel()
        await asyncio.gather(asked, return_exceptions=True)
    call_id = await proxy.book.last_call()
    async with asyncio.timeout(10):
        while "client.disconnected" not in (await proxy.book.story(call_id)).types:  # noqa: ASYNC110 - in a database
            await asyncio.sleep(0.01)
    return call_id


def check_end(story: Story, end: str, state: str, code: str | None) -> None:
    assert (story.end.type, story.cost["state"]) == (end, state), story.cost["reason"]
    assert story.end.facts["delivered"] is False
    assert (story.end.facts["error"] or {}).get("code") == code
    assert story.types.index("client.disconnected") < story.types.index(story.end.type)


@pytest.mark.parametrize("is_stream", [True, False], ids=["stream", "plain"])
async def test_client_that_leaves_has_its_upstream_read_to_the_end_and_is_billed(
    make_proxy: MakeProxy, upstream: Upstream, *, is_stream: bool
) -> None:
    proxy = await start(make_proxy, upstream)
    call_id = await leave_in_the_middle(proxy, upstream, "gated", is_stream=is_stream)
    upstream.gate("gate").set()
    story = await proxy.book.ended(call_id)
    check_end(story, "call.completed", "billed", None)
    assert story.billed_usd > 0
    assert story.one("client.disconnected").facts["phase"] == "answer"
    assert upstream.requests[0].finished
    assert not upstream.requests[0].client_closed


async def test_client_that_leaves_under_cancel_has_its_upstream_cut_and_an_estimate_booked(
    make_proxy: MakeProxy, upstream: Upstream
) -> None:
    proxy = await start(make_proxy, upstream, on_disconnect="cancel")
    call_id = await leave_in_the_middle(proxy, upstream, "stalled_stream")
    story = await proxy.book.ended(call_id)
    check_end(story, "call.cancelled", "estimated", "client_left")
    assert Decimal(story.cost["estimated_usd"]) > 0
    await closed(upstream)


async def test_client_that_leaves_a_plain_call_under_cancel_leaves_an_unknown_cost(
    make_proxy: MakeProxy, upstream: Upstream
) -> None:
    proxy = await start(make_proxy, upstream, on_disconnect="cancel")
    call_id = await leave_in_the_middle(proxy, upstream, "never", is_stream=False)
    story = await proxy.book.ended(call_id)
    check_end(story, "call.cancelled", "unknown", "client_left")
    assert len(story.all("attempt.started")) == 1
    await closed(upstream)


async def test_drain_that_outlasts_its_timeout_is_cut_and_estimated(make_proxy: MakeProxy, upstream: Upstream) -> None:
    proxy = await start(make_proxy, upstream, drain_timeout_s=0.2)
    call_id = await leave_in_the_middle(proxy, upstream, "stalled_stream")
    story = await proxy.book.ended(call_id)
    check_end(story, "call.truncated", "estimated", "drain_timeout")
    await closed(upstream)


async def test_client_that_leaves_before_a_retry_has_none_made(make_proxy: MakeProxy, upstream: Upstream) -> None:
    proxy = await start(make_proxy, upstream)
    # A pause that is long enough to leave in, and that the proxy still makes by itself.
    upstream.script(refusal(503, "Later.", kind="server_error", headers=(("retry-after", "3"),)))
    asked = asyncio.create_task(proxy.client.send(REQUEST | {"stream": False}))
    await upstream.arrived(1)
    call_id = await proxy.book.last_call()
    async with asyncio.timeout(10):
        while "cost.recorded" not in (await proxy.book.story(call_id)).types:  # noqa: ASYNC110 - in a database
            await asyncio.sleep(0.01)
    asked.cancel()
    await asyncio.gather(asked, return_exceptions=True)
    story = await proxy.book.ended(call_id)
    check_end(story, "call.cancelled", "billed", "client_left")
    assert story.billed_usd == 0
    assert [event.facts["sent"] for event in story.all("attempt.failed")] == [True, False]
    assert len(upstream.requests) == 1


async def test_client_that_has_its_whole_answer_is_never_booked_as_gone(
    make_proxy: MakeProxy, upstream: Upstream
) -> None:
    proxy = await start(make_proxy, upstream)
    for is_stream in (True, False):
        answered = await proxy.client.send(REQUEST | {"stream": is_stream})
        story = await proxy.book.ended(answered.call_id)
        assert story.end.facts["delivered"] is True
        assert "client.disconnected" not in story.types


async def closed(upstream: Upstream) -> None:
    """Wait until the upstream has noticed that its client closed the connection."""
    async with asyncio.timeout(10):
        while not upstream.requests[0].client_closed:  # noqa: ASYNC110 - a flag of the stand-in
            await asyncio.sleep(0.01)
