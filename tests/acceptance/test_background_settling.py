"""With `settle_background_s` a background response's cost gets known although no client ever reads it."""

import asyncio
from decimal import Decimal
from uuid import UUID

from tests.acceptance.conftest import MakeProxy
from tests.acceptance.test_settling import BACKGROUND, SETTLED_USD, USAGE, answer, corrections, response
from tests.support.proxy import LocalProxy, configuration, deployment
from tests.support.proxy_book import Row
from tests.support.upstream import Upstream

_OWN = "SELECT call_id FROM ledger.events WHERE type = 'call.received' AND facts->>'key_id' = 'proxy' ORDER BY call_id"

_LOCKS = """
SELECT count(*) FROM pg_locks JOIN pg_stat_activity USING (pid)
WHERE locktype = 'advisory' AND granted AND application_name = 'responses-ledger background'
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""
_CUT = """
SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity
WHERE application_name = 'responses-ledger background' AND datname = current_database()
"""


async def _corrected(proxy: LocalProxy, call_id: UUID) -> list[Row]:
    async with asyncio.timeout(20):
        while not (found := await corrections(proxy, call_id)):  # noqa: ASYNC110 - nobody tells when it is in the book
            await asyncio.sleep(0.05)
    return found


async def test_background_response_that_nobody_reads_is_asked_for_by_one_proxy_until_it_has_ended(
    make_proxy: MakeProxy, upstream: Upstream
) -> None:
    models = [deployment("gpt-5", f"{upstream.url}/v1")]
    config = configuration(models, general={"settle_background_s": 0.1})
    one, other = await make_proxy(config), await make_proxy(config)
    upstream.script(answer(response("queued")), answer(response("in_progress")), answer(response("completed", USAGE)))
    accepted = await one.client.send(BACKGROUND)
    (corrected,) = await _corrected(one, accepted.call_id)
    assert Decimal(corrected.facts["billed_usd"]) == SETTLED_USD
    assert (corrected.facts["state"], corrected.facts["dims"]["key"]) == ("billed", "master")
    # A further call has an upstream of its own script: whatever else the proxies asked would have met it first.
    await other.client.send({"model": "gpt-5", "input": "hello"})
    asked = [(received.method, received.path) for received in upstream.requests]
    get = ("GET", "/v1/responses/resp_settled")
    assert asked == [("POST", "/v1/responses"), get, get, ("POST", "/v1/responses")]
    assert await one.book.fetch(_LOCKS) == [(1,)]
    # Whoever loses its connection loses the turn; one of the two takes it again.
    await one.book.fetch(_CUT)
    async with asyncio.timeout(20):
        while await one.book.fetch(_LOCKS) != [(1,)]:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
    own = [row["call_id"] for row in await one.book.fetch(_OWN)]
    assert len(own) == 2
    for call_id in own:
        story = (await one.book.ended(call_id)).check()
        assert (story.end.type, story.billed_usd, story.cost["unknown"]) == ("call.completed", 0, 0)
        assert story.answer


async def test_background_response_without_stored_bodies_is_settled_without_storing_its_answer(
    make_proxy: MakeProxy, upstream: Upstream
) -> None:
    models = [deployment("gpt-5", f"{upstream.url}/v1")]
    proxy = await make_proxy(configuration(models, general={"settle_background_s": 0.1}))
    upstream.script(answer(response("queued")), answer(response("completed", USAGE)))
    accepted = await proxy.client.send(BACKGROUND, x_llm_store_bodies="none")
    await _corrected(proxy, accepted.call_id)
    (row,) = await proxy.book.fetch(_OWN)
    story = await proxy.book.ended(row["call_id"])
    assert [event.body for event in story.events] == [None] * len(story.events)
