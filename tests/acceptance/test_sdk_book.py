"""The SDK's calls in a book: the same events and costs as a proxy's, durable in time, closed when the program dies."""

import asyncio
import json
import signal
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any
from uuid import UUID

import asyncpg
import openai
import pytest

import llm
from ledger.postgres.url import parse
from tests.acceptance.conftest import MakeProxy
from tests.support.canary import tables_with
from tests.support.postgres import PrivateServer
from tests.support.proxy import configuration, deployment
from tests.support.proxy_book import Book, Story
from tests.support.sdk import beside, ended, fresh_sdk, program
from tests.support.upstream import Answer, Received, Upstream

CALL: dict[str, Any] = {"model": "gpt-4o", "input": "Tell me about ledgers"}
#: What is told of one call and no other.
OWN = frozenset({"latency_us", "duration_us", "first_chunk_us", "response_id", "upstream_request_id", "headers"})
OF_THE_WAY = frozenset({"key_id", "key_alias", "client_address", "dims", "client_retry", "body_bytes"})


@pytest.fixture(autouse=True)
def _new() -> Iterator[None]:
    with fresh_sdk():
        yield


@pytest.fixture
def go(database_url: str, upstream: Upstream) -> Iterator[str]:
    llm.configure(ledger=database_url, api_base=f"{upstream.url}/v1", api_key="sk-mine", num_retries=0)
    yield database_url
    # Before the database goes.
    llm.close()


def told(story: Story) -> list[tuple[str, dict[str, Any]]]:
    """What the events of a call say, without what only this call or this way of calling can say."""
    return [
        (event.type, {name: value for name, value in event.facts.items() if name not in OWN | OF_THE_WAY})
        for event in story.events
    ]


@pytest.mark.usefixtures("go")
@pytest.mark.parametrize(
    ("script", "is_stream"),
    [("ok", False), ("html_502", False), ("ok", True), ("cut_stream", True), ("error_nested", True)],
)
async def test_call_of_the_sdk_is_recorded_as_a_proxy_records_it(
    upstream: Upstream, make_proxy: MakeProxy, script: str, is_stream: bool
) -> None:
    base = f"{upstream.url}/v1"
    proxy = await make_proxy(configuration([deployment("gpt-4o", base)], router={"num_retries": 0}))
    upstream.script(script, script)
    call_id = ""
    try:
        answer: Any = await llm.aresponses(**CALL, stream=is_stream, user="alice", metadata={"tags": ["a", "b"]})
        call_id = answer.call_id
        if is_stream:
            _ = [event async for event in answer]
    except openai.APIError:
        call_id = call_id or str(await proxy.book.last_call())
    ours = await proxy.book.ended(UUID(call_id))
    await proxy.client.send(ours.request)
    theirs = await proxy.book.ended(await proxy.book.last_call())
    assert ours.events[0].facts["key_id"] == "sdk"
    assert theirs.events[0].facts["key_id"] == "master"
    assert told(ours) == told(theirs)
    asked = {"stream": is_stream, "user": "alice", "metadata": {"tags": ["a", "b"]}}
    assert json.loads(ours.request) == {**CALL, **asked}
    assert ours.all("attempt.started")[0].facts["deployment"] == theirs.all("attempt.started")[0].facts["deployment"]


async def test_cost_of_the_answer_is_the_cost_in_the_book_and_in_the_reports(go: str) -> None:
    llm.configure(key="batch", user="u-1", end_user="nobody-else", tags=["nightly"])
    plain = await llm.aresponses(**CALL)
    stream = await beside(lambda: llm.responses(**CALL, stream=True, safety_identifier="bob"))
    assert await beside(lambda: len(list(stream))) > 5
    # Sealed, folded: no proxy runs.
    await beside(llm.close)
    async with Book(go) as book:
        stories = [await book.ended(UUID(call_id)) for call_id in (plain.call_id, stream.call_id)]
        spent = await book.fetch(
            "SELECT key_id, end_user, user_id, tags, sum(billed_usd) AS usd "
            "FROM reporting.spend_hourly GROUP BY 1, 2, 3, 4 ORDER BY 2"
        )
        sealed = await book.fetch("SELECT sealed_at FROM ledger.journals")
    assert [story.billed_usd for story in stories] == [plain.cost_usd, stream.cost_usd]
    assert [(row["key_id"], row["user_id"], row["end_user"], row["usd"]) for row in spent] == [
        ("batch", "u-1", "bob", stream.cost_usd),
        ("batch", "u-1", "nobody-else", plain.cost_usd),
    ]
    assert all(list(row["tags"]) == ["nightly"] for row in spent)
    assert [row["sealed_at"] is not None for row in sealed] == [True]


async def test_attempt_is_durable_before_the_upstream_sees_a_byte(go: str, upstream: Upstream) -> None:
    seen: list[list[str]] = []
    choose = upstream._choose
    async with Book(go) as book:

        async def look_first(received: Received) -> Answer:
            rows = await book.fetch("SELECT type FROM ledger.events WHERE call_id IS NOT NULL ORDER BY version")
            seen.append([row["type"] for row in rows])
            return await choose(received)

        upstream._choose = look_first
        await llm.aresponses(**CALL)
    assert seen == [["call.received", "attempt.started"]]


async def test_secrets_of_tools_and_keys_are_not_in_the_book(go: str) -> None:
    tool = {"type": "mcp", "server_label": "s", "server_url": "https://s.example", "authorization": "secret-token"}
    await llm.aresponses(**CALL, tools=[tool], api_key="sk-very-secret", extra_headers={"api-key": "secret-header"})
    async with Book(go) as book:
        rows = await book.fetch("SELECT facts::text AS facts, encode(body, 'escape') AS body FROM ledger.events")
    whole = " ".join(f"{row['facts']} {row['body']}" for row in rows)
    assert "[masked]" in whole
    assert "secret" not in whole


@pytest.mark.parametrize("way", ["configured", "header"])
async def test_call_without_bodies_leaves_no_trace_of_what_was_said(go: str, upstream: Upstream, way: str) -> None:
    canary = "canary-90d1"
    headers = {"x-llm-note": canary}
    if way == "configured":
        llm.configure(store_bodies="none")
        headers["x-llm-store-bodies"] = "all"
    else:
        headers["x-llm-store-bodies"] = "none"
    says: dict[str, Any] = {"model": "gpt-4o", "input": canary, "instructions": canary, "metadata": {canary: canary}}
    says |= {"extra_headers": headers, "extra_query": {"note": canary}, "unknown": canary}
    plain = await llm.aresponses(**says)
    stream = await llm.aresponses(**says, stream=True)
    text = "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])
    read = await llm.aget_responses(plain.id, extra_headers=headers)
    upstream.script("cut_stream")
    cut = await llm.aresponses(**says, stream=True)
    with pytest.raises(openai.APIConnectionError):
        _ = [event async for event in cut]
    upstream.script("error_400")
    with pytest.raises(openai.BadRequestError):
        await llm.aresponses(**says)
    assert canary in text
    assert canary in read.output_text
    async with Book(go) as book:
        stories = [await book.ended(UUID(made.call_id)) for made in (plain, stream, read, cut)]
        assert await tables_with(book, canary) == {}
    assert all(event.body is None for story in stories for event in story.events)
    assert [story.events[0].facts["store_bodies"] for story in stories] == ["none"] * 4
    assert [story.cost["state"] for story in stories] == ["billed", "billed", "billed", "estimated"]
    assert stories[0].billed_usd == plain.cost_usd


@pytest.mark.usefixtures("go")
async def test_wish_for_bodies_that_cannot_be_read_sends_nothing(upstream: Upstream) -> None:
    with pytest.raises(llm.UsageError, match="x-llm-store-bodies takes all or none"):
        await llm.aresponses(**CALL, extra_headers={"x-llm-store-bodies": "nein"})
    assert upstream.requests == []


async def test_cancelled_task_is_a_cancelled_call(go: str, upstream: Upstream) -> None:
    upstream.script("never")
    task = asyncio.create_task(llm.aresponses(**CALL))
    await upstream.arrived(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    async with Book(go) as book:
        story = await book.ended(await book.last_call())
    assert "client.disconnected" in story.types
    assert (story.end.type, story.cost["state"]) == ("call.cancelled", "unknown")
    assert upstream.requests[0].client_closed or not upstream.requests[0].finished


@pytest.mark.parametrize("how", ["close", "forget", "leave"])
async def test_stream_that_nobody_reads_on_is_a_cancelled_call_with_an_estimate(
    go: str, upstream: Upstream, how: str
) -> None:
    upstream.script("stalled_stream")

    def begin() -> UUID:
        stream = llm.responses(**CALL, stream=True)
        assert len([next(stream) for _ in range(6)]) == 6
        if how == "close":
            stream.close()
            assert list(stream) == []
        elif how == "leave":
            with stream:
                pass
        return UUID(stream.call_id)

    call_id = await beside(begin)
    async with Book(go) as book:
        story = await book.ended(call_id)
    assert (story.end.type, story.cost["state"]) == ("call.cancelled", "estimated")
    assert Decimal(story.cost["estimated_usd"]) > 0


REPEAT = """
import llm, os, sys
llm.configure(ledger=os.environ["BOOK"], api_base=os.environ["UPSTREAM"], api_key="k", num_retries=0)
stream = llm.responses(model="gpt-4o", input="Tell me", stream=True)
for _ in range(3):
    next(stream)
print(stream.call_id, flush=True)
"""
FORKED = (
    REPEAT
    + """
child = os.fork()
answer = llm.responses(model="gpt-4o", input="Again")
print(answer.call_id, flush=True)
if child == 0:
    llm.close()
    os._exit(0)
assert os.waitpid(child, 0)[1] == 0
print(*[event.type for event in stream][-1:], stream.cost_usd)
"""
)


async def test_program_that_ends_with_an_open_stream_books_it_and_does_not_hang(go: str, upstream: Upstream) -> None:
    upstream.script("stalled_stream")
    printed = await beside(lambda: ended(program(REPEAT, BOOK=go, UPSTREAM=f"{upstream.url}/v1")))
    async with Book(go) as book:
        story = await book.story(UUID(printed))
        assert story.check().end.type == "call.cancelled"
        assert story.cost["state"] == "estimated"
        assert (await book.fetch("SELECT sealed_at FROM ledger.journals"))[0]["sealed_at"] is not None


async def test_program_that_is_killed_is_closed_by_the_next_one_to_open_the_book(go: str, upstream: Upstream) -> None:
    upstream.script("stalled_stream")
    process = await beside(
        lambda: program(
            REPEAT + "next(stream); next(stream); next(stream); next(stream)", BOOK=go, UPSTREAM=f"{upstream.url}/v1"
        )
    )
    assert process.stdout is not None
    call_id = UUID((await beside(process.stdout.readline)).strip())
    async with Book(go) as book:
        # A chunk is relayed before it is durable; without any in the book there would be nothing to estimate.
        async with asyncio.timeout(30):
            while "chunk.received" not in (await book.story(call_id)).types:  # noqa: ASYNC110 - nobody tells
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        await beside(process.wait)
        await beside(process.communicate)
        await llm.aresponses(**CALL)
        story = await book.ended(call_id)
    assert (story.end.type, story.cost["state"]) == ("call.abandoned", "estimated")


async def test_forked_program_opens_a_journal_of_its_own_and_leaves_its_parents_alone(
    go: str, upstream: Upstream
) -> None:
    upstream.script("ok")
    printed = await beside(lambda: ended(program(FORKED, BOOK=go, UPSTREAM=f"{upstream.url}/v1"), 60))
    lines = printed.splitlines()
    assert lines[-1].startswith("response.completed 0.00")
    async with Book(go) as book:
        stories = [await book.ended(UUID(line)) for line in lines[:3]]
    assert {story.end.type for story in stories} == {"call.completed"}
    assert len({story.events[0].journal_id for story in stories}) == 2


async def test_book_that_is_not_there_is_said_and_nothing_is_sent(empty_database_url: str, upstream: Upstream) -> None:
    given: dict[str, Any] = {"api_base": f"{upstream.url}/v1", "api_key": "k"}
    faults = {
        empty_database_url: "run `llm ledger migrate`",
        "postgresql://nobody:pw@127.0.0.1:9/none": "cannot be used",
        "mysql://x/y": "URL cannot be used",
    }
    for url, said in faults.items():
        llm.configure(ledger=url)
        with pytest.raises(llm.RecordingError, match=said) as caught:
            await llm.aresponses(**CALL, **given)
        assert "pw" not in str(caught.value)
    assert upstream.requests == []
    llm.configure(ledger="")
    assert (await llm.aresponses(**CALL, **given)).cost_usd is not None


async def test_book_of_another_version_is_refused(go: str, upstream: Upstream) -> None:
    connection = await asyncpg.connect(**parse(go).asyncpg_kwargs())
    await connection.execute("UPDATE ledger.alembic_version SET version_num = '9999'")
    await connection.close()
    with pytest.raises(llm.RecordingError, match="9999"):
        await llm.aresponses(**CALL)
    assert upstream.requests == []


async def test_database_url_alone_records_nothing(
    database_url: str, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.delenv("LLM_LEDGER_URL", raising=False)
    await llm.aresponses(**CALL, api_base=f"{upstream.url}/v1", api_key="k")
    async with Book(database_url) as book:
        assert await book.fetch("SELECT 1 FROM ledger.events") == []
        monkeypatch.setenv("LLM_LEDGER_URL", database_url)
        await llm.aresponses(**CALL, api_base=f"{upstream.url}/v1", api_key="k")
        assert await book.fetch("SELECT 1 FROM ledger.events WHERE type = 'call.completed'")
    await beside(llm.close)


async def test_tags_beyond_the_bound_are_refused_before_anything_is_sent(go: str, upstream: Upstream) -> None:
    with pytest.raises(llm.UsageError, match="at most 8 tags"):
        await llm.aresponses(**CALL, metadata={"tags": [str(number) for number in range(9)]})
    assert upstream.requests == []
    await llm.aresponses(**CALL)
    async with Book(go) as book:
        assert len(await book.fetch("SELECT 1 FROM ledger.events WHERE type = 'call.received'")) == 1


async def test_database_that_goes_away_refuses_calls_and_comes_back(
    postgres_server: Callable[..., PrivateServer], upstream: Upstream
) -> None:
    from ledger.postgres.migrate import upgrade  # noqa: PLC0415 - this test has a server of its own

    server = postgres_server()
    upgrade(server.url)
    llm.configure(ledger=server.url, api_base=f"{upstream.url}/v1", api_key="k", num_retries=0)
    await llm.aresponses(**CALL)
    server.stop()
    before = len(upstream.requests)
    with pytest.raises(llm.RecordingError):
        await llm.aresponses(**CALL)
    assert len(upstream.requests) == before
    server.start()

    async def again() -> Any:
        while True:
            try:
                return await llm.aresponses(**CALL)
            except llm.RecordingError:
                await asyncio.sleep(0.1)

    async with asyncio.timeout(30):
        assert (await again()).cost_usd is not None
    await beside(llm.close)
