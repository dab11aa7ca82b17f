"""Which deployment serves a call: weights, retries, fallbacks, mocks; and what the events tell of it."""

from collections import Counter
from decimal import Decimal
from typing import Any

import pytest

from tests.acceptance.conftest import MakeProxy
from tests.support.proxy import Config, configuration, deployment
from tests.support.upstream import Upstream, sse_blocks

REQUEST: dict[str, Any] = {"model": "gpt-4o", "input": "hello"}


def scripted(name: str, upstream: Upstream, script: str, deployment_id: str, **params: Any) -> Config:
    """A deployment whose upstream gives the same answer to everything."""
    return deployment(
        name, f"{upstream.url}/script/{script}/v1", model="gpt-4o-mini", deployment_id=deployment_id, **params
    )


async def test_group_whose_upstream_fails_falls_back_to_the_next_and_books_each_attempt(
    make_proxy: MakeProxy, upstream: Upstream
) -> None:
    models = [
        scripted("gpt-4o", upstream, "error_500", "bad"),
        scripted("second", upstream, "html_503", "worse"),
        scripted("third", upstream, "ok", "good"),
    ]
    router = {"num_retries": 1, "fallbacks": [{"gpt-4o": ["second", "third"]}]}
    proxy = await make_proxy(configuration(models, router=router))
    answered = await proxy.client.send(REQUEST)
    story = await proxy.book.ended(answered.call_id)
    started = [event.facts for event in story.all("attempt.started")]
    assert [(facts["deployment"], facts["kind"], facts["model"]) for facts in started] == [
        ("bad", "first", "gpt-4o"),
        ("bad", "retry", "gpt-4o"),
        ("worse", "fallback", "second"),
        ("good", "fallback", "third"),
    ]
    assert [event.facts["status"] for event in story.all("attempt.answered")] == [500, 500, 503, 200]
    assert [event.facts["state"] for event in story.all("cost.recorded")] == ["billed", "billed", "unknown", "billed"]
    assert (answered.status, answered.headers["x-llm-model-id"]) == (200, "good")
    assert answered.headers["x-llm-attempted-retries"] == "1"
    assert answered.headers["x-llm-attempted-fallbacks"] == "2"
    assert (story.end.facts["attempt"], story.end.facts["attempts"]) == (4, 4)
    assert story.answer == answered.body


@pytest.mark.parametrize("script", ["error_401", "error_403", "error_429_quota", "error_429_long"])
async def test_answer_that_no_retry_mends_goes_straight_to_the_fallback(
    make_proxy: MakeProxy, upstream: Upstream, script: str
) -> None:
    models = [scripted("gpt-4o", upstream, script, "bad"), scripted("other", upstream, "ok", "good")]
    proxy = await make_proxy(configuration(models, router={"num_retries": 3, "fallbacks": [{"gpt-4o": ["other"]}]}))
    answered = await proxy.client.send(REQUEST)
    story = await proxy.book.ended(answered.call_id)
    assert answered.status == 200
    assert [event.facts["kind"] for event in story.all("attempt.started")] == ["first", "fallback"]


async def test_refusal_of_the_request_itself_is_tried_nowhere_else(make_proxy: MakeProxy, upstream: Upstream) -> None:
    models = [scripted("gpt-4o", upstream, "error_400", "bad"), scripted("other", upstream, "ok", "good")]
    proxy = await make_proxy(configuration(models, router={"num_retries": 3, "fallbacks": [{"gpt-4o": ["other"]}]}))
    answered = await proxy.client.send(REQUEST)
    assert (answered.status, answered.error["code"]) == (400, "invalid_value")
    assert len(upstream.requests) == 1


async def test_retry_goes_to_another_deployment_of_the_group_by_order(
    make_proxy: MakeProxy, upstream: Upstream
) -> None:
    models = [
        scripted("gpt-4o", upstream, "ok", "spare", order=2),
        scripted("gpt-4o", upstream, "error_401", "main", order=1),
    ]
    proxy = await make_proxy(configuration(models))
    answered = await proxy.client.send(REQUEST)
    story = await proxy.book.ended(answered.call_id)
    assert [event.facts["deployment"] for event in story.all("attempt.started")] == ["main", "spare"]
    assert answered.status == 200


async def test_stream_that_is_refused_falls_back_and_streams(make_proxy: MakeProxy, upstream: Upstream) -> None:
    models = [scripted("gpt-4o", upstream, "error_503", "bad"), scripted("other", upstream, "ok", "good")]
    proxy = await make_proxy(configuration(models, router={"num_retries": 0, "default_fallbacks": ["other"]}))
    answered = await proxy.client.send(REQUEST | {"stream": True})
    story = await proxy.book.ended(answered.call_id)
    assert story.answer == answered.body
    assert story.end.facts["chunks"] == len(sse_blocks(answered.body)) == 13


async def test_stream_that_has_begun_is_never_tried_again(make_proxy: MakeProxy, upstream: Upstream) -> None:
    models = [scripted("gpt-4o", upstream, "cut_stream", "bad"), scripted("other", upstream, "ok", "good")]
    proxy = await make_proxy(configuration(models, router={"num_retries": 3, "default_fallbacks": ["other"]}))
    answered = await proxy.client.send(REQUEST | {"stream": True})
    story = await proxy.book.ended(answered.call_id)
    assert len(upstream.requests) == 1
    assert story.end.type == "call.truncated"


async def test_weights_spread_the_calls_of_a_group(make_proxy: MakeProxy, upstream: Upstream) -> None:
    models = [
        scripted("gpt-4o", upstream, "ok", "often", weight=3),
        scripted("gpt-4o", upstream, "ok", "seldom", weight=1),
        scripted("gpt-4o", upstream, "ok", "never", weight=0),
    ]
    proxy = await make_proxy(configuration(models))
    served: Counter[str] = Counter()
    for _ in range(120):
        served[(await proxy.client.send(REQUEST)).headers["x-llm-model-id"]] += 1
    assert set(served) == {"often", "seldom"}
    # Outside of this once in ten million runs.
    assert 60 <= served["often"] <= 115


async def test_mock_deployment_is_recorded_and_billed_without_an_upstream(
    make_proxy: MakeProxy, upstream: Upstream
) -> None:
    mock = deployment("gpt-4o", f"{upstream.url}/v1", mock_response="one two three")
    proxy = await make_proxy(configuration([mock]))
    plain = await proxy.client.send(REQUEST)
    streamed = await proxy.client.send(REQUEST | {"stream": True})
    for answered in (plain, streamed):
        story = await proxy.book.ended(answered.call_id)
        assert story.one("attempt.started").facts["url"] == "mock"
        assert story.answer == answered.body
        assert (story.end.type, story.cost["state"]) == ("call.completed", "billed")
        assert story.billed_usd > 0
    assert Decimal(plain.headers["x-llm-response-cost"]) > 0
    assert len(sse_blocks(streamed.body)) == 11
    assert plain.json["usage"]["output_tokens"] == 4
    assert upstream.requests == []


async def test_models_are_listed_under_each_prefix(make_proxy: MakeProxy) -> None:
    models = [deployment("one", "http://x.invalid/v1"), deployment("two", "http://x.invalid/v1")]
    proxy = await make_proxy(configuration([*models, models[0]]))
    for prefix in ("", "/v1", "/openai/v1"):
        answered = await proxy.client.send(method="GET", path=f"{prefix}/models")
        assert [model["id"] for model in answered.json["data"]] == ["one", "two"]
        assert (await proxy.client.send(method="GET", path=f"{prefix}/models/two")).json["id"] == "two"
