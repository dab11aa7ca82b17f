"""`llm.responses` straight to a stand-in upstream and through a proxy: same objects, same cost, same errors."""

import asyncio
import threading
from collections.abc import Callable, Iterator
from decimal import Decimal
from functools import partial
from typing import Any
from uuid import UUID

import openai
import pytest
import pytest_asyncio
from openai.types.responses import Response as OpenAIResponse

import llm
from tests.acceptance.conftest import MakeProxy
from tests.acceptance.test_openai_sdk import REFUSED
from tests.support.engine import COMPLETED
from tests.support.proxy import MASTER_KEY, LocalProxy, configuration, deployment
from tests.support.sdk import beside, fresh_sdk, same
from tests.support.upstream import Upstream, expected_text, framing

pytestmark = pytest.mark.asyncio(loop_scope="module")

INPUT = "Tell me about ledgers"
TEXT = expected_text({"input": INPUT})
CALL: dict[str, Any] = {"model": "gpt-4o", "input": INPUT}
WAYS = ["direct", "proxy"]
Configure = Callable[[str], None]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(make_shared_proxy: MakeProxy, shared_upstream: Upstream) -> LocalProxy:
    models = [deployment(name, f"{shared_upstream.url}/v1") for name in ("gpt-4o", "gpt-4o-mini")]
    return await make_shared_proxy(configuration(models, router={"num_retries": 0}))


@pytest.fixture(autouse=True)
def _new() -> Iterator[None]:
    with fresh_sdk():
        yield


@pytest.fixture
def upstream(shared_upstream: Upstream) -> Upstream:
    shared_upstream.log.requests.clear()
    shared_upstream._queue.clear()
    return shared_upstream


@pytest.fixture
def go(proxy: LocalProxy, shared_upstream: Upstream) -> Configure:
    def configure(way: str) -> None:
        if way == "proxy":
            llm.configure(proxy=proxy.url, api_key=MASTER_KEY, api_base=None, num_retries=None)
        else:
            llm.configure(api_base=f"{shared_upstream.url}/v1", api_key="sk-mine", num_retries=0)

    return configure


async def as_usual(upstream: Upstream, **arguments: Any) -> Any:
    """What the openai package itself makes of it."""
    async with openai.AsyncOpenAI(base_url=f"{upstream.url}/v1", api_key="sk-mine", max_retries=0) as client:
        found: Any = await client.responses.create(**arguments)
        return [event async for event in found] if arguments.get("stream") else found


async def test_answers_straight_and_through_a_proxy_are_the_same_objects_at_the_same_cost(
    go: Configure, proxy: LocalProxy
) -> None:
    got: dict[str, Any] = {}
    for way in WAYS:
        go(way)
        plain = await beside(ask)
        aplain = await llm.aresponses(**CALL)
        stream = await beside(read_a_stream)
        astream = await llm.aresponses(**CALL, stream=True)
        aevents = [event async for event in astream]
        for answer in (plain, aplain, stream[0].response, astream.response):
            assert isinstance(answer, llm.Response)
            assert isinstance(answer, OpenAIResponse)
            assert answer.output_text == TEXT
            assert answer.usage is not None
        assert [event.type for event in stream[1]] == [event.type for event in aevents]
        assert plain.cost_usd == aplain.cost_usd == stream[0].cost_usd == astream.cost_usd
        assert {plain.cost_state, aplain.cost_state, stream[0].cost_state, astream.cost_state} == {"billed"}
        assert plain._request_id is not None
        UUID(plain.call_id)
        got[way] = (plain, stream)
    story = await proxy.book.ended(UUID(got["proxy"][0].call_id))
    streamed = await proxy.book.ended(UUID(got["proxy"][1][0].call_id))
    assert got["direct"][0].cost_usd == got["proxy"][0].cost_usd == story.billed_usd == streamed.billed_usd
    assert str(got["direct"][0].cost_usd) == str(got["proxy"][0].cost_usd) == story.cost["billed_usd"]
    assert story.billed_usd > 0


def ask(**more: Any) -> Any:
    return llm.responses(**CALL, **more)


def read_a_stream() -> tuple[llm.ResponseStream, list[Any]]:
    stream = llm.responses(**CALL, stream=True)
    assert stream.cost_usd is None
    assert stream.response is None
    return stream, list(stream)


async def test_request_is_what_the_openai_package_sends_with_ours_left_out_and_unknown_ones_kept(
    go: Configure, upstream: Upstream
) -> None:
    go("direct")
    tools: list[Any] = [{"type": "web_search", "nested": [1.5, None, "\u00e9"]}]
    known: dict[str, Any] = {**CALL, "tools": tools, "temperature": 0.1, "metadata": {"a": "b"}, "instructions": None}
    extra: dict[str, Any] = {"extra_query": {"q": "1"}, "extra_headers": {"x-mine": "yes", "OpenAI-Project": "p"}}
    await llm.aresponses(
        **known,
        **extra,
        new_parameter={"of": "tomorrow"},
        extra_body={"other": [True]},
        timeout=30,
        num_retries=1,
        fallbacks=["gpt-4o-mini"],
    )
    await as_usual(upstream, **known, **extra, extra_body={"new_parameter": {"of": "tomorrow"}, "other": [True]})
    ours, theirs = upstream.requests
    assert ours.json == theirs.json
    assert (ours.method, ours.target) == (theirs.method, theirs.target) == ("POST", "/v1/responses?q=1")
    for name in ("authorization", "content-type", "x-mine", "openai-project", "user-agent"):
        assert ours.header(name) == theirs.header(name), name


async def test_model_may_name_its_provider(go: Configure, upstream: Upstream) -> None:
    go("direct")
    await llm.aresponses(model="openai/gpt-4o", input=INPUT)
    assert upstream.requests[0].json["model"] == "gpt-4o"


async def test_output_of_one_answer_is_input_of_the_next(go: Configure, upstream: Upstream) -> None:
    go("direct")
    first = await llm.aresponses(**CALL)
    turn: list[Any] = [{"role": "user", "content": INPUT}, *first.output, {"role": "user", "content": "More"}]
    await llm.aresponses(model="gpt-4o", input=turn)
    assert [item["role"] for item in upstream.requests[1].json["input"]] == ["user", "assistant", "user"]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(("script", "kind", "status", "code"), REFUSED, ids=[row[0] for row in REFUSED])
async def test_refusal_is_the_openai_packages_error(
    go: Configure, upstream: Upstream, way: str, script: str, kind: type[openai.APIStatusError], status: int, code: str
) -> None:
    go(way)
    upstream.script(script, script)
    with pytest.raises(kind) as caught:
        await llm.aresponses(**CALL)
    with pytest.raises(kind) as usual:
        await as_usual(upstream, **CALL)
    assert (caught.value.status_code, caught.value.code) == (status, code)
    assert caught.value.body == usual.value.body
    assert str(caught.value) == str(usual.value)
    assert caught.value.request_id == f"req_{upstream.requests[0].serial:032x}"
    UUID(caught.value.response.headers["x-llm-call-id"])


async def test_retry_and_fallback_are_the_engines(go: Configure, upstream: Upstream) -> None:
    go("direct")
    upstream.script("error_500", "error_429_ms", "ok")
    retried = await llm.aresponses(**CALL, num_retries=2)
    assert retried.output_text == TEXT
    upstream.script("error_503", "ok")
    fallen = await llm.aresponses(**CALL, num_retries=0, fallbacks=["openai/gpt-4o-mini"])
    assert fallen.model == "gpt-4o-mini-2024-07-18"
    assert [request.json["model"] for request in upstream.requests] == ["gpt-4o"] * 4 + ["gpt-4o-mini"]
    assert fallen.cost_usd is not None
    assert retried.cost_usd is not None
    assert fallen.cost_usd < retried.cost_usd


async def test_fallback_to_the_same_model_elsewhere_gets_its_own_key_and_no_headers_of_the_first(
    go: Configure, upstream: Upstream
) -> None:
    go("direct")
    upstream.script("error_500", "ok")
    elsewhere = {"model": "gpt-4o", "api_base": f"{upstream.url}/openai/v1", "api_key": "sk-other"}
    await llm.aresponses(**CALL, fallbacks=[elsewhere], extra_headers={"api-key": "first"})
    first, second = upstream.requests
    assert (first.header("authorization"), first.header("api-key")) == ("Bearer sk-mine", "first")
    assert (second.header("authorization"), second.header("api-key")) == ("Bearer sk-other", None)


@pytest.mark.parametrize("way", WAYS)
async def test_silence_of_the_upstream_is_a_timeout_error_and_no_line_of_the_programs_log(
    go: Configure, upstream: Upstream, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    go(way)
    upstream.script("never", "never")
    with pytest.raises(openai.APITimeoutError):
        await llm.aresponses(**CALL, timeout=0.2)
    with pytest.raises(openai.APITimeoutError):
        await beside(partial(ask, timeout=0.2))
    assert [record for record in caplog.records if record.name.startswith("llm.")] == []


async def test_connection_that_fails_is_a_connection_error(go: Configure, upstream: Upstream) -> None:
    go("direct")
    upstream.script("close", "not_http")
    for _ in range(2):
        with pytest.raises(openai.APIConnectionError) as caught:
            await llm.aresponses(**CALL)
        assert not isinstance(caught.value, openai.APITimeoutError)
    llm.configure(proxy="http://127.0.0.1:9", api_key="sk-x", api_base=None)
    with pytest.raises(openai.APIConnectionError):
        await llm.aresponses(**CALL)


async def read_into(events: list[Any], stream: llm.AsyncResponseStream) -> None:
    async for event in stream:
        events.append(event)  # noqa: PERF401 - what came before an error is wanted


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("script", ["cut_stream", "reset_stream", "no_terminal", "empty_stream"])
async def test_stream_without_its_terminal_event_is_a_connection_error_after_the_events_that_came(
    go: Configure, upstream: Upstream, way: str, script: str
) -> None:
    go(way)
    upstream.script(script)
    stream = await llm.aresponses(**CALL, stream=True)
    events: list[Any] = []
    with pytest.raises(openai.APIConnectionError, match=r"without its terminal event|Connection error"):
        await read_into(events, stream)
    assert "response.completed" not in [event.type for event in events]
    assert bool(events) == (script != "empty_stream")
    assert stream.response is None
    assert (stream.cost_state, stream.cost_usd is None) == (
        ("unknown", True) if script == "empty_stream" else ("estimated", False)
    )


@pytest.mark.parametrize("told", [b"<html>", b"[]", b"null", b'{"costs": [{"facts": {"final": true}}]}', b"9" * 5_000])
async def test_stream_is_whole_although_what_it_cost_cannot_be_read(upstream: Upstream, told: bytes) -> None:
    llm.configure(proxy=upstream.url, api_key="sk-x", api_base=None)
    events = [f'data: {{"type":"{name}","sequence_number":0}}\n\n'.encode() for name in ("odd.event", "other.event")]
    whole = b"".join(events) + COMPLETED
    upstream.script(framing.stream(whole, headers=(framing.SSE_TYPE, ("x-llm-call-id", "1"))), framing.plain(told))
    stream = await llm.aresponses(**CALL, stream=True)
    assert [event.type async for event in stream] == ["odd.event", "other.event", "response.completed"]
    assert (stream.cost_state, stream.cost_usd) == (None, None)
    assert [request.path for request in upstream.requests] == ["/v1/responses", "/ledger/calls/1"]


@pytest.mark.parametrize("way", WAYS)
async def test_error_in_a_stream_is_the_openai_packages_error(go: Configure, upstream: Upstream, way: str) -> None:
    go(way)
    upstream.script("error_nested", "failed_stream")
    stream = await llm.aresponses(**CALL, stream=True)
    with pytest.raises(openai.APIError, match="The server had an error"):
        _ = [event async for event in stream]
    failed = await llm.aresponses(**CALL, stream=True)
    assert [event.type async for event in failed][-1] == "response.failed"
    assert failed.response is not None
    assert failed.response.status == "failed"


@pytest.mark.parametrize("way", WAYS)
async def test_marker_behind_the_terminal_event_ends_the_stream(go: Configure, upstream: Upstream, way: str) -> None:
    go(way)
    upstream.script("done_marker")
    stream = await llm.aresponses(**CALL, stream=True)
    assert [event.type async for event in stream][-1] == "response.completed"
    assert stream.response is not None


@pytest.mark.parametrize("way", WAYS)
async def test_stored_response_is_read_resumed_listed_and_deleted(go: Configure, way: str) -> None:
    go(way)
    made = await llm.aresponses(**CALL)
    again = await llm.aget_responses(made.id)
    assert same(again, made)
    assert (again.cost_usd, again.cost_state) == (Decimal(0), "billed")
    assert same(await beside(lambda: llm.get_responses(made.id)), made)
    with pytest.raises(openai.BadRequestError, match="Cannot cancel"):
        await llm.acancel_responses(made.id)
    with pytest.raises(openai.NotFoundError):
        await llm.alist_input_items(made.id)
    assert await beside(lambda: llm.delete_responses(made.id)) is None
    with pytest.raises(openai.NotFoundError):
        await llm.aget_responses(made.id)
    stream = await llm.aresponses(**CALL, stream=True)
    whole = [event async for event in stream]
    assert stream.response is not None
    resumed = await llm.aget_responses(stream.response.id, stream=True, starting_after=5)
    assert [event.sequence_number async for event in resumed] == [event.sequence_number for event in whole[6:]]


async def test_proxy_is_told_whom_the_configuration_names_where_the_call_does_not(
    go: Configure, proxy: LocalProxy
) -> None:
    go("proxy")
    llm.configure(end_user="alice", tags=["nightly"])
    calls = [
        await llm.aresponses(**CALL, metadata={"tags": ["own"]}),
        await llm.aresponses(**CALL, safety_identifier="bob"),
    ]
    stories = [await proxy.book.ended(UUID(call.call_id)) for call in calls]
    assert [story.events[0].facts["end_user"] for story in stories] == ["alice", "bob"]
    assert [story.events[0].facts["tags"] for story in stories] == [["nightly", "own"], ["nightly"]]


async def test_proxy_is_told_to_store_no_bodies_where_the_configuration_says_so(
    go: Configure, proxy: LocalProxy
) -> None:
    go("proxy")
    llm.configure(store_bodies="none")
    made = await llm.aresponses(**CALL, extra_headers={"x-llm-store-bodies": "all"})
    again = await llm.aget_responses(made.id)
    for response in (made, again):
        story = await proxy.book.ended(UUID(response.call_id))
        assert story.events[0].facts["store_bodies"] == "none"
        assert all(event.body is None for event in story.events)
    assert (again.output_text, story.cost["state"]) == (TEXT, "billed")


async def test_threads_and_loops_share_the_service(go: Configure, upstream: Upstream) -> None:
    go("direct")
    texts: list[str] = []
    before = upstream.connections

    def many() -> None:
        asked = [f"{threading.get_ident()} {number}" for number in range(5)]
        texts.extend(llm.responses(model="gpt-4o", input=each).output_text for each in asked)
        for event in llm.responses(**CALL, stream=True):
            assert event.type

    async def in_a_loop(number: int) -> str:
        answers = await asyncio.gather(*(llm.aresponses(model="gpt-4o", input=f"{number} {n}") for n in range(5)))
        return answers[-1].output_text

    def loops() -> None:
        texts.extend(asyncio.run(in_a_loop(number)) for number in range(3))

    await asyncio.gather(*(beside(use) for use in (many, many, many, loops, loops)))
    assert len(texts) == 3 * 5 + 2 * 3
    assert len(upstream.requests) == 3 * 6 + 2 * 3 * 5
    assert upstream.connections - before < len(upstream.requests) / 2


async def test_slow_reader_holds_the_upstream_back_and_gets_everything(go: Configure, upstream: Upstream) -> None:
    go("direct")
    upstream.script("big_block")
    stream = await llm.aresponses(**CALL, stream=True)
    events = [event async for event in stream]
    assert events[-1].type == "response.completed"


@pytest.mark.parametrize("script", ["gzip", "br", "deflate", "until_close", "pings", "crlf", "keepalive"])
async def test_every_framing_and_coding_reads_as_the_openai_package_reads_it(
    go: Configure, upstream: Upstream, script: str
) -> None:
    go("direct")
    is_stream = script in {"pings", "crlf", "keepalive"}
    upstream.script(script, script)
    ours: Any = await llm.aresponses(**CALL, stream=is_stream)
    theirs = await as_usual(upstream, **CALL, stream=is_stream)
    if is_stream:
        kept = [(event.type, getattr(event, "sequence_number", None)) async for event in ours]
        assert kept == [(event.type, getattr(event, "sequence_number", None)) for event in theirs]
    else:
        assert ours.output_text == theirs.output_text == TEXT


@pytest.mark.parametrize("way", WAYS)
async def test_header_with_a_control_character_sends_nothing(go: Configure, upstream: Upstream, way: str) -> None:
    go(way)
    for value in ("a\x00b", "a\r\nx-forged: c", "\x7f"):
        with pytest.raises(llm.UsageError, match="'x-note' holds a control character"):
            await llm.aresponses(**CALL, extra_headers={"x-note": value})
    assert upstream.requests == []


async def test_arguments_that_cannot_be_used_send_nothing(go: Configure, upstream: Upstream) -> None:
    go("direct")
    unusable: list[dict[str, Any]] = [{"timeout": -1}, {"num_retries": 99}, {"model": "mistral/large"}, {"model": 3}]
    for each in unusable:
        with pytest.raises(llm.UsageError):
            await llm.aresponses(**{**CALL, **each})
    with pytest.raises(llm.UsageError, match="model="):
        await llm.aresponses(**CALL, extra_body={"model": "o3"}, fallbacks=["gpt-4o-mini"])
    assert upstream.requests == []
