"""A cost that was not known at the end of its call is settled by whoever reads the response later: once."""

import asyncio
import json
from decimal import Decimal
from typing import Any
from uuid import UUID

from tests.acceptance.conftest import MakeProxy
from tests.support.proxy import LocalProxy, configuration, deployment
from tests.support.proxy_book import Row
from tests.support.upstream import Upstream
from tests.support.upstream.framing import JSON_TYPE, SSE_TYPE, plain, stream
from tests.support.upstream.steps import Answer

MODEL = "gpt-5-2025-08-07"
USAGE = {
    "input_tokens": 1000,
    "input_tokens_details": {"cached_tokens": 0},
    "output_tokens": 100,
    "output_tokens_details": {"reasoning_tokens": 0},
    "total_tokens": 1100,
}
BACKGROUND = {"model": "gpt-5", "input": "hello", "background": True, "background_options": {"completion_window": "2h"}}
#: 1000 * 1.25 + 100 * 10 USD a million, less 30 % in the window.
SETTLED_USD = Decimal("0.001575")


def response(status: str, usage: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "id": "resp_settled",
        "object": "response",
        "created_at": 0,
        "status": status,
        "background": True,
        "model": MODEL,
        "service_tier": "default" if usage else "auto",
        "output": [],
        "usage": usage,
    }


def answer(value: dict[str, Any]) -> Answer:
    return plain(json.dumps(value).encode(), headers=(JSON_TYPE,), name="scripted")


def event(kind: str, number: int, value: dict[str, Any]) -> bytes:
    return f"event: {kind}\ndata: {json.dumps({'type': kind, 'sequence_number': number, **value})}\n\n".encode()


async def corrections(proxy: LocalProxy, call_id: UUID) -> list[Row]:
    return (await proxy.book.story(call_id)).all("cost.corrected")


async def get(proxy: LocalProxy, query: str = "") -> Any:
    return await proxy.client.send(method="GET", path=f"/v1/responses/resp_settled{query}")


async def test_settling_background_response_is_charged_once_by_many_polls_at_two_proxies(
    make_proxy: MakeProxy, upstream: Upstream
) -> None:
    config = configuration([deployment("gpt-5", f"{upstream.url}/v1")])
    one, other = await make_proxy(config), await make_proxy(config)
    upstream.script(answer(response("queued")), answer(response("in_progress")))
    accepted = await one.client.send(BACKGROUND)
    story = await one.book.ended(accepted.call_id)
    assert (story.cost["state"], story.cost["unknown"]) == ("unknown", 1)
    assert (await get(one)).json["status"] == "in_progress"
    assert not await corrections(one, accepted.call_id)
    upstream.script(*[answer(response("completed", USAGE))] * 13)
    polls = await asyncio.gather(*(get(proxy) for proxy in (one, other) * 6))
    assert {poll.status for poll in polls} == {200}
    (corrected,) = await corrections(one, accepted.call_id)
    assert (corrected.facts["revision"], corrected.facts["state"], corrected.facts["unknown"]) == (2, "billed", -1)
    assert Decimal(corrected.facts["billed_usd"]) == SETTLED_USD
    for poll in polls:
        assert (await one.book.ended(poll.call_id)).billed_usd == 0
    third = await make_proxy(config)
    await get(third)
    assert len(await corrections(one, accepted.call_id)) == 1


async def test_settling_by_a_resumed_stream_and_not_again_by_a_cancellation(
    make_proxy: MakeProxy, upstream: Upstream
) -> None:
    proxy = await make_proxy(configuration([deployment("gpt-5", f"{upstream.url}/v1")]))
    completed = response("completed", USAGE)
    blocks = event("response.completed", 9, {"response": completed})
    upstream.script(
        answer(response("queued")),
        stream(blocks, headers=(SSE_TYPE,), name="scripted"),
        answer(completed),
    )
    # Without bodies: what the price depends on is in the facts.
    accepted = await proxy.client.send(BACKGROUND, x_llm_store_bodies="none")
    await proxy.book.ended(accepted.call_id)
    assert (await get(proxy, "?stream=true&starting_after=8")).body == blocks
    (corrected,) = await corrections(proxy, accepted.call_id)
    assert Decimal(corrected.facts["billed_usd"]) == SETTLED_USD
    cancelled = await proxy.client.send({}, path="/v1/responses/resp_settled/cancel")
    assert cancelled.status == 200
    assert len(await corrections(proxy, accepted.call_id)) == 1


async def test_settling_a_broken_stream_turns_its_estimate_into_the_real_cost(
    make_proxy: MakeProxy, upstream: Upstream
) -> None:
    proxy = await make_proxy(configuration([deployment("gpt-5", f"{upstream.url}/v1")]))
    created = event("response.created", 0, {"response": response("in_progress")})
    delta = event("response.output_text.delta", 1, {"delta": "some words", "item_id": "m", "output_index": 0})
    upstream.script(stream(created + delta, headers=(SSE_TYPE,), name="scripted"), answer(response("completed", USAGE)))
    cut = await proxy.client.send({"model": "gpt-5", "input": "hello", "stream": True})
    story = await proxy.book.ended(cut.call_id)
    assert (story.end.type, story.end.facts["response_id"]) == ("call.truncated", "resp_settled")
    assert story.cost["state"] == "estimated"
    estimated = Decimal(story.cost["estimated_usd"])
    assert (await get(proxy)).status == 200
    (corrected,) = await corrections(proxy, cut.call_id)
    assert Decimal(corrected.facts["estimated_usd"]) == -estimated
    assert Decimal(corrected.facts["billed_usd"]) == Decimal("0.00225")
    assert corrected.facts["state"] == "billed"
