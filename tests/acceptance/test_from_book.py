"""`GET /responses/{id}` from the book, when the upstream cannot answer; and when it must not be given."""

import gzip
import json
from typing import Any

import asyncpg
import pytest
import pytest_asyncio

from tests.acceptance.conftest import MakeProxy
from tests.support.proxy import Answered, Client, LocalProxy, configuration, deployment
from tests.support.upstream import Upstream
from tests.support.upstream.framing import plain, sse_blocks

pytestmark = pytest.mark.asyncio(loop_scope="module")

REQUEST: dict[str, Any] = {"model": "gpt-4o", "input": "hello"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(make_shared_proxy: MakeProxy, shared_upstream: Upstream) -> LocalProxy:
    base = f"{shared_upstream.url}/v1"
    models = [deployment("gpt-4o", base, timeout=2), deployment("mock", "http://127.0.0.1:1", mock_response="made up")]
    return await make_shared_proxy(configuration(models, router={"num_retries": 0}))


@pytest.fixture
def upstream(shared_upstream: Upstream) -> Upstream:
    shared_upstream.log.requests.clear()
    return shared_upstream


async def get(client: Client, response_id: str, query: str = "", **headers: Any) -> Answered:
    return await client.send(method="GET", path=f"/v1/responses/{response_id}{query}", **headers)


def is_from_book(answer: Answered) -> bool:
    assert (answer.headers.get("x-llm-served-from") == "book") <= (answer.status == 200)
    return answer.headers.get("x-llm-served-from") == "book"


async def client_of(proxy: LocalProxy, **fields: Any) -> Client:
    return Client(proxy.url, (await proxy.client.send(fields, path="/key/generate")).json["key"])


@pytest.mark.parametrize("failure", ["error_500", "reset", "never", "cut_plain"])
async def test_response_comes_from_the_book_when_the_upstream_fails(
    proxy: LocalProxy, upstream: Upstream, failure: str
) -> None:
    made = await proxy.client.send(REQUEST)
    # Twice: a connection that was lost on a GET is tried again beneath the proxy.
    upstream.script(*[failure] * (2 if failure == "reset" else 1))
    answer = await get(proxy.client, made.json["id"])
    assert is_from_book(answer)
    assert (answer.body, answer.headers["content-type"]) == (made.body, "application/json")
    assert answer.headers["x-llm-response-cost"] == "0"
    story = await proxy.book.ended(answer.call_id)
    assert story.types[-3:] == ["attempt.failed", "call.completed", "cost.recorded"]
    assert (story.end.facts["served_from"], story.end.facts["source_call_id"]) == ("book", str(made.call_id))
    assert (story.end.facts["http_status"], story.billed_usd, story.cost["unknown"]) == (200, 0, 0)
    replayed = await proxy.client.send(method="GET", path=f"/ledger/calls/{answer.call_id}/replay")
    assert (replayed.status, replayed.error["code"]) == (404, "served_from_book")
    assert str(made.call_id) in replayed.error["message"]


async def test_response_comes_from_the_book_when_the_connection_is_refused(make_shared_proxy: MakeProxy) -> None:
    async with Upstream() as gone:
        models = [deployment("gpt-4o", f"{gone.url}/v1")]
        proxy = await make_shared_proxy(configuration(models, router={"num_retries": 0}))
        made = await proxy.client.send(REQUEST)
    answer = await get(proxy.client, made.json["id"])
    assert (is_from_book(answer), answer.body) == (True, made.body)
    (failed,) = (await proxy.book.ended(answer.call_id)).all("attempt.failed")
    assert (failed.facts["reason"], failed.facts["sent"]) == ("connect", False)


async def test_response_of_a_stream_is_the_terminal_events_object_byte_for_byte(
    proxy: LocalProxy, upstream: Upstream
) -> None:
    made = await proxy.client.send(REQUEST | {"stream": True})
    last = sse_blocks(made.body)[-1].partition(b"data: ")[2]
    response_id = json.loads(last)["response"]["id"]
    upstream.script(*["error_500"] * 5)
    answer = await get(proxy.client, response_id)
    assert is_from_book(answer)
    assert answer.body in last
    assert json.loads(answer.body) == json.loads(last)["response"]
    blocks = sse_blocks(made.body)
    for query, first in (("?stream=true", 0), ("?stream=true&starting_after=4", 5)):
        resumed = await get(proxy.client, response_id, query)
        assert is_from_book(resumed)
        assert resumed.body == b"".join(blocks[first:])
        assert resumed.headers["content-type"].startswith("text/event-stream")
    for number in ("x", "9" * 5_000):
        refused = await get(proxy.client, response_id, f"?stream=true&starting_after={number}")
        assert (refused.status, refused.error["code"]) == (500, "server_error")


async def test_response_that_came_compressed_is_given_decoded(proxy: LocalProxy, upstream: Upstream) -> None:
    body = json.dumps({"id": "resp_zipped", "object": "response", "status": "completed", "model": "gpt-4o"}).encode()
    headers = (("content-type", "application/json"), ("content-encoding", "gzip"))
    upstream.script(plain(gzip.compress(body), headers=headers))
    made = await proxy.client.send(REQUEST, accept_encoding="gzip")
    assert made.headers["content-encoding"] == "gzip"
    upstream.script("error_500")
    answer = await get(proxy.client, "resp_zipped")
    assert (is_from_book(answer), answer.body, "content-encoding" in answer.headers) == (True, body, False)


async def test_missing_response_is_given_unless_it_was_not_to_be_stored(proxy: LocalProxy, upstream: Upstream) -> None:
    for body, status in ((REQUEST, 200), (REQUEST | {"store": True}, 200), (REQUEST | {"store": False}, 404)):
        made = await proxy.client.send(body)
        upstream._stored._answers.clear()
        answer = await get(proxy.client, made.json["id"])
        assert (answer.status, is_from_book(answer)) == (status, status == 200)
    upstream.script("error_500")
    assert is_from_book(await get(proxy.client, made.json["id"]))


@pytest.mark.parametrize("outcome", ["", "error_500", "never"])
async def test_response_whose_deletion_was_asked_is_not_given(
    proxy: LocalProxy, upstream: Upstream, outcome: str
) -> None:
    made = await proxy.client.send(REQUEST)
    path = f"/v1/responses/{made.json['id']}"
    if outcome:
        upstream.script(outcome)
    await proxy.client.send(method="DELETE", path=path)
    upstream.script("error_500")
    assert (await proxy.client.send(method="GET", path=path)).status == 500


async def test_response_of_a_mock_is_given_until_it_is_deleted(proxy: LocalProxy) -> None:
    made = await proxy.client.send(REQUEST | {"model": "mock"})
    answer = await get(proxy.client, made.json["id"])
    assert (is_from_book(answer), answer.body) == (True, made.body)
    path = f"/v1/responses/{made.json['id']}"
    deleted = await proxy.client.send(method="DELETE", path=path)
    assert (deleted.status, deleted.json["deleted"]) == (200, True)
    gone = await proxy.client.send(method="GET", path=path)
    assert (gone.status, gone.error["message"]) == (404, f"Response with id '{made.json['id']}' not found.")


async def test_response_is_given_to_its_own_key_and_to_the_master_who_is_recorded(
    proxy: LocalProxy, upstream: Upstream
) -> None:
    query = "SELECT actor, shown, through FROM reporting.audit_reads WHERE call_id = $1"
    async with await client_of(proxy) as alice, await client_of(proxy) as bob:
        made = await alice.send(REQUEST)
        upstream.script(*["error_500"] * 2)
        assert (await get(bob, made.json["id"])).error["code"] == "not_found"
        assert (await get(alice, made.json["id"])).body == made.body
        assert await proxy.book.fetch(query, made.call_id) == []
        assert is_from_book(await get(proxy.client, made.json["id"]))
        (read,) = await proxy.book.fetch(query, made.call_id)
    assert dict(read) == {"actor": "master", "shown": "response", "through": f"/responses/{made.json['id']}"}


async def test_response_of_another_key_from_the_upstream_is_recorded_as_read(proxy: LocalProxy) -> None:
    query = "SELECT actor, through FROM reporting.audit_reads WHERE call_id = $1 ORDER BY recorded_at"
    viewer = (await proxy.client.send({"permissions": ["view"]}, path="/key/generate")).json
    async with await client_of(proxy) as alice, Client(proxy.url, viewer["key"]) as auditor:
        made = await alice.send(REQUEST)
        path = f"/v1/responses/{made.json['id']}"
        assert (await alice.send(method="GET", path=path)).status == 200
        assert await proxy.book.fetch(query, made.call_id) == []
        read = await auditor.send(method="GET", path=path)
        assert (read.status, is_from_book(read)) == (200, False)
        await proxy.client.send(method="GET", path=f"{path}/input_items")
        assert (await proxy.client.send(method="DELETE", path=path)).status == 200
        reads = [tuple(row) for row in await proxy.book.fetch(query, made.call_id)]
    assert reads == [(viewer["key_id"], path[3:]), ("master", f"{path[3:]}/input_items")]


async def test_upstreams_failure_is_passed_on_where_the_book_has_no_answer(
    proxy: LocalProxy, upstream: Upstream
) -> None:
    unstored = await proxy.client.send(REQUEST, x_llm_store_bodies="none")
    queued = plain(b'{"id": "resp_queued", "object": "response", "status": "queued"}')
    upstream.script(queued)
    await proxy.client.send(REQUEST | {"background": True})
    plainly = await proxy.client.send(REQUEST)
    cases = [(unstored.json["id"], ""), ("resp_queued", ""), (plainly.json["id"], "?stream=true")]
    for response_id, asked in cases:
        upstream.script("error_500")
        assert (await get(proxy.client, response_id, asked)).status == 500, response_id
    # Once a poll has seen the end, that answer is there to be given.
    done = b'{"id":"resp_queued","object":"response","status":"completed","usage":null}'
    upstream.script(plain(done), "error_500")
    assert not is_from_book(await get(proxy.client, "resp_queued"))
    assert (await get(proxy.client, "resp_queued")).body == done


async def test_upstreams_failure_is_passed_on_where_the_book_loses_its_connection(
    proxy: LocalProxy, upstream: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def cut(*_: Any, **__: Any) -> None:
        raise asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation")

    made = await proxy.client.send(REQUEST)
    projector = proxy.application._context.book.projector  # pyright: ignore[reportOptionalMemberAccess] - it runs
    monkeypatch.setattr(projector, "passed", cut)
    upstream.script("error_500")
    answer = await get(proxy.client, made.json["id"])
    assert (answer.status, answer.error["code"]) == (500, "server_error")


async def test_switch_turns_it_off(make_shared_proxy: MakeProxy, shared_upstream: Upstream) -> None:
    models = [deployment("gpt-4o", f"{shared_upstream.url}/v1")]
    switched = configuration(models, general={"serve_from_book": False}, router={"num_retries": 0})
    off = await make_shared_proxy(switched)
    made = await off.client.send(REQUEST)
    shared_upstream.script("error_500")
    assert (await get(off.client, made.json["id"])).status == 500
