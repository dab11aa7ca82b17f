"""The OpenAI SDK as the client: sync and async, plain and streaming, raw, with and without /v1 in its base URL."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from typing import Any
from uuid import UUID

import openai
import pytest
import pytest_asyncio
from openai import AsyncOpenAI, OpenAI

from tests.acceptance.conftest import MakeProxy
from tests.support.proxy import MASTER_KEY, LocalProxy, configuration, deployment
from tests.support.upstream import Upstream, expected_text, expected_usage

pytestmark = pytest.mark.asyncio(loop_scope="module")

PREFIXES = ["", "/v1", "/openai/v1"]
INPUT = "Tell me about ledgers"
TEXT = expected_text({"input": INPUT})


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(make_shared_proxy: MakeProxy, shared_upstream: Upstream) -> LocalProxy:
    return await make_shared_proxy(
        configuration(
            [
                deployment("gpt-4o", f"{shared_upstream.url}/v1"),
                deployment("mock", "http://unused.invalid/v1", model="gpt-4o", mock_response="Once upon a time"),
            ],
            router={"num_retries": 0},
        )
    )


@pytest.fixture
def upstream(shared_upstream: Upstream) -> Upstream:
    shared_upstream.log.requests.clear()
    return shared_upstream


@pytest_asyncio.fixture(loop_scope="module")
async def client(proxy: LocalProxy) -> AsyncGenerator[AsyncOpenAI]:
    async with AsyncOpenAI(base_url=f"{proxy.url}/v1", api_key=MASTER_KEY, max_retries=0) as sdk:
        yield sdk


async def synchronously(proxy: LocalProxy, prefix: str, use: Callable[[OpenAI], Any]) -> Any:
    """Use the synchronous SDK, in a thread beside the loop that the proxy runs in."""

    def run() -> Any:
        with OpenAI(base_url=f"{proxy.url}{prefix}", api_key=MASTER_KEY, max_retries=0) as sdk:
            return use(sdk)

    return await asyncio.to_thread(run)


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_sync_sdk_under_each_prefix_gets_answers_and_streams(proxy: LocalProxy, prefix: str) -> None:
    def use(sdk: OpenAI) -> tuple[Any, list[Any]]:
        plain = sdk.responses.create(model="gpt-4o", input=INPUT)
        return plain, list(sdk.responses.create(model="gpt-4o", input=INPUT, stream=True))

    plain, events = await synchronously(proxy, prefix, use)
    assert plain.output_text == TEXT
    assert plain.usage.model_dump(exclude_unset=True) == expected_usage({"input": INPUT}, TEXT)
    assert plain._request_id.startswith("req_")
    assert "".join(event.delta for event in events if event.type == "response.output_text.delta") == TEXT
    assert events[-1].type == "response.completed"
    assert [event.sequence_number for event in events] == list(range(13))


@pytest.mark.parametrize("prefix", PREFIXES)
async def test_async_sdk_under_each_prefix_gets_answers_and_streams(proxy: LocalProxy, prefix: str) -> None:
    async with AsyncOpenAI(base_url=f"{proxy.url}{prefix}", api_key=MASTER_KEY, max_retries=0) as sdk:
        plain = await sdk.responses.create(model="gpt-4o", input=INPUT)
        events = [event async for event in await sdk.responses.create(model="gpt-4o", input=INPUT, stream=True)]
        models = [model.id async for model in sdk.models.list()]
    assert plain.output_text == TEXT
    assert plain.model == "gpt-4o-2024-08-06"
    assert events[-1].type == "response.completed"
    assert models == ["gpt-4o", "mock"]


async def test_raw_answers_of_the_sdk_are_the_upstreams_bytes(
    client: AsyncOpenAI, proxy: LocalProxy, upstream: Upstream
) -> None:
    raw = await client.responses.with_raw_response.create(model="gpt-4o", input=INPUT)
    assert raw.parse().output_text == TEXT
    assert raw.headers["x-request-id"] == raw.parse()._request_id
    assert raw.headers["openai-version"] == "2020-10-01"
    assert raw.headers["x-ratelimit-remaining-requests"] == "9999"
    assert "set-cookie" not in raw.headers
    assert raw.headers["x-llm-response-cost"] != "0"
    story = await proxy.book.ended(UUID(raw.headers["x-llm-call-id"]))
    assert story.answer == raw.content
    assert story.one("attempt.answered").facts["upstream_request_id"] == raw.headers["x-request-id"]
    assert upstream.requests[0].header("authorization") == "Bearer sk-upstream"

    streaming = client.responses.with_streaming_response.create(model="gpt-4o", input=INPUT, stream=True)
    async with streaming as response:
        lines = [line async for line in response.iter_lines()]
    story = await proxy.book.ended(UUID(response.headers["x-llm-call-id"]))
    assert "\n".join([*lines, ""]) == story.answer.decode()


async def test_stream_helper_of_the_sdk_gives_the_final_response(client: AsyncOpenAI) -> None:
    async with client.responses.stream(model="gpt-4o", input=INPUT) as stream:
        kinds = [event.type async for event in stream]
        final = await stream.get_final_response()
    assert kinds[-1] == "response.completed"
    assert final.output_text == TEXT


async def test_mock_deployment_answers_the_sdk_plainly_and_as_a_stream(client: AsyncOpenAI, upstream: Upstream) -> None:
    plain = await client.responses.create(model="mock", input=INPUT, metadata={"purpose": "test"})
    async with client.responses.stream(model="mock", input=INPUT) as stream:
        streamed = await stream.get_final_response()
    assert plain.output_text == streamed.output_text == "Once upon a time"
    assert plain.metadata == {"purpose": "test"}
    assert plain.usage is not None
    assert plain.usage.output_tokens == 4
    assert upstream.requests == []


REFUSED: list[tuple[str, type[openai.APIStatusError], int, str | None]] = [
    ("error_400", openai.BadRequestError, 400, "invalid_value"),
    ("error_401", openai.AuthenticationError, 401, "invalid_api_key"),
    ("error_403", openai.PermissionDeniedError, 403, "unsupported_country_region_territory"),
    ("error_404", openai.NotFoundError, 404, None),
    ("error_409", openai.ConflictError, 409, None),
    ("error_422", openai.UnprocessableEntityError, 422, None),
    ("error_429", openai.RateLimitError, 429, "rate_limit_exceeded"),
    ("error_429_quota", openai.RateLimitError, 429, "insufficient_quota"),
    ("error_500", openai.InternalServerError, 500, "server_error"),
    ("error_503", openai.InternalServerError, 503, "server_is_overloaded"),
]


@pytest.mark.parametrize(("script", "kind", "status", "code"), REFUSED, ids=[row[0] for row in REFUSED])
async def test_refusal_of_the_upstream_is_the_sdks_own_error(
    client: AsyncOpenAI,
    upstream: Upstream,
    script: str,
    kind: type[openai.APIStatusError],
    status: int,
    code: str | None,
) -> None:
    upstream.script(script)
    with pytest.raises(kind) as caught:
        await client.responses.create(model="gpt-4o", input=INPUT)
    error = caught.value
    assert (error.status_code, error.code) == (status, code)
    assert error.request_id == f"req_{upstream.requests[0].serial:032x}"


async def test_refusals_of_the_proxy_are_the_sdks_own_errors(client: AsyncOpenAI, upstream: Upstream) -> None:
    with pytest.raises(openai.BadRequestError) as unknown:
        await client.responses.create(model="gpt-none", input=INPUT)
    assert (unknown.value.code, unknown.value.param) == ("model_not_found", "model")
    with pytest.raises(openai.AuthenticationError) as wrong:
        await client.with_options(api_key="sk-wrong").responses.create(model="gpt-4o", input=INPUT)
    assert wrong.value.code == "invalid_api_key"
    with pytest.raises(openai.NotFoundError) as path:
        await client.chat.completions.create(model="gpt-4o", messages=[{"role": "user", "content": INPUT}])
    assert path.value.code == "unknown_url"
    assert upstream.requests == []


@pytest.mark.parametrize("script", ["error_nested", "error_flat"])
async def test_error_event_in_a_stream_reaches_the_sdk(client: AsyncOpenAI, upstream: Upstream, script: str) -> None:
    upstream.script(script)
    stream = await client.responses.create(model="gpt-4o", input=INPUT, stream=True)
    if script == "error_flat":
        events = [event async for event in stream]
        assert events[-1].type == "error"
        return
    with pytest.raises(openai.APIError, match="The server had an error"):
        async for _ in stream:
            pass


@pytest.mark.parametrize("script", ["cut_stream", "reset_stream"])
async def test_stream_that_the_upstream_cuts_ends_without_a_completed_event(
    client: AsyncOpenAI, upstream: Upstream, proxy: LocalProxy, script: str
) -> None:
    upstream.script(script)
    stream = await client.responses.create(model="gpt-4o", input=INPUT, stream=True)
    kinds = [event.type async for event in stream]
    assert kinds
    assert "response.completed" not in kinds
    story = await proxy.book.ended(UUID(stream.response.headers["x-llm-call-id"]))
    assert story.end.type == "call.truncated"
    assert story.cost["state"] == "estimated"


async def test_retries_of_the_sdk_are_calls_of_their_own_with_their_count(
    proxy: LocalProxy, upstream: Upstream
) -> None:
    upstream.script("error_429_ms", "error_500", "ok")
    async with AsyncOpenAI(base_url=proxy.url, api_key=MASTER_KEY, max_retries=2) as sdk:
        answer = await sdk.responses.create(model="gpt-4o", input=INPUT)
    assert answer.output_text == TEXT
    rows = await proxy.book.fetch("SELECT facts FROM ledger.events WHERE type = 'call.received' ORDER BY seq")
    assert [json.loads(row["facts"])["client_retry"] for row in rows][-3:] == [0, 1, 2]


async def test_what_lies_below_responses_is_passed_on(
    client: AsyncOpenAI, proxy: LocalProxy, upstream: Upstream
) -> None:
    made_raw = await client.responses.with_raw_response.create(model="gpt-4o", input=INPUT)
    made = made_raw.parse()
    again = await client.responses.retrieve(made.id, include=["message.output_text.logprobs"])
    assert again.output_text == TEXT
    assert upstream.requests[-1].target == f"/v1/responses/{made.id}?include%5B%5D=message.output_text.logprobs"
    counted = await client.responses.input_tokens.count(model="gpt-4o", input=INPUT)
    assert counted.input_tokens == len(INPUT)
    compacted = await client.responses.compact(model="gpt-4o", input=INPUT)
    assert compacted.object == "response.compaction"
    with pytest.raises(openai.BadRequestError, match="Cannot cancel"):
        await client.responses.cancel(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.input_items.list(made.id)
    await client.responses.delete(made.id)
    with pytest.raises(openai.NotFoundError):
        await client.responses.retrieve(made.id)
    costs = await proxy.book.fetch(
        "SELECT r.facts->>'path' AS path, c.facts->>'billed_usd' AS usd FROM ledger.events r JOIN ledger.events c "
        "USING (call_id) WHERE r.type = 'call.received' AND c.type = 'cost.recorded' AND r.seq > $1 ORDER BY r.seq",
        (await proxy.book.story(UUID(str(made_raw.headers["x-llm-call-id"])))).events[0].seq - 1,
    )
    charged = {row["path"] for row in costs if row["usd"] != "0"}
    assert charged == {"/responses", "/responses/compact"}
    assert len(costs) == 8


async def test_stream_of_a_stored_response_is_resumed_without_a_charge(
    client: AsyncOpenAI, proxy: LocalProxy, upstream: Upstream
) -> None:
    whole = [event async for event in await client.responses.create(model="gpt-4o", input=INPUT, stream=True)]
    response_id = whole[0].response.id  # pyright: ignore[reportAttributeAccessIssue] - response.created has it
    resumed = await client.responses.retrieve(response_id, stream=True, starting_after=5)
    rest = [event async for event in resumed]
    assert [event.sequence_number for event in rest] == list(range(6, 13))
    story = await proxy.book.ended(UUID(resumed.response.headers["x-llm-call-id"]))
    assert story.types.count("chunk.received") == 7
    assert (story.end.type, story.cost["billed_usd"], story.cost["state"]) == ("call.completed", "0", "billed")
    assert "stream=true" in upstream.requests[-1].target
