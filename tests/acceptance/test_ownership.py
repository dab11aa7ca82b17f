"""One key never sees, continues or changes what belongs to another; what it may call is its own list of models."""

import json
from typing import Any

import pytest
import pytest_asyncio

from tests.acceptance.conftest import MakeProxy
from tests.support.proxy import Client, LocalProxy, configuration, deployment
from tests.support.upstream import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

REQUEST: dict[str, Any] = {"model": "gpt-4o", "input": "hello"}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(make_shared_proxy: MakeProxy, shared_upstream: Upstream) -> LocalProxy:
    base = f"{shared_upstream.url}/v1"
    return await make_shared_proxy(configuration([deployment("gpt-4o", base), deployment("gpt-5", base)]))


@pytest.fixture
def upstream(shared_upstream: Upstream) -> Upstream:
    shared_upstream.log.requests.clear()
    return shared_upstream


async def client_of(proxy: LocalProxy, **fields: Any) -> Client:
    """A client with a key of its own."""
    issued = await proxy.client.send(fields, path="/key/generate")
    assert issued.status == 200, issued.body
    return Client(proxy.url, issued.json["key"])


async def test_response_of_another_key_is_not_found_by_any_method(proxy: LocalProxy, upstream: Upstream) -> None:
    async with await client_of(proxy) as alice, await client_of(proxy) as bob:
        response_id = (await alice.send(REQUEST)).json["id"]
        path = f"/v1/responses/{response_id}"
        for method, below in (("GET", ""), ("DELETE", ""), ("POST", "/cancel"), ("GET", "/input_items")):
            refused = await bob.send(method=method, path=path + below)
            assert (refused.status, refused.error["code"]) == (404, "not_found")
            assert refused.error["message"] == f"Response with id '{response_id}' not found."
        unknown = await bob.send(method="GET", path="/v1/responses/resp_unknown")
        assert unknown.status == 404
        assert len(upstream.requests) == 1
        assert (await alice.send(method="GET", path=path)).json["id"] == response_id
        assert (await proxy.client.send(method="GET", path=path)).json["id"] == response_id
        story = await proxy.book.ended(refused.call_id)
    assert story.types == ["call.received", "call.rejected"]


async def test_response_of_another_key_cannot_be_continued(proxy: LocalProxy, upstream: Upstream) -> None:
    async with await client_of(proxy) as alice, await client_of(proxy) as bob:
        response_id = (await alice.send(REQUEST)).json["id"]
        following = REQUEST | {"previous_response_id": response_id}
        refused = await bob.send(following)
        assert (refused.status, refused.error["code"]) == (400, "previous_response_not_found")
        assert refused.error["param"] == "previous_response_id"
        guessed = await bob.send(REQUEST | {"previous_response_id": "resp_of_nobody"})
        assert (guessed.status, guessed.error["code"]) == (400, "previous_response_not_found")
        # An upstream may read the first of two.
        named = json.dumps(following)[:-1].encode()
        for second in (b"null", b'"resp_of_nobody"'):
            hidden = await bob.send(named + b', "previous_response_id": ' + second + b"}")
            assert (hidden.status, hidden.error["param"]) == (400, "previous_response_id")
        assert len(upstream.requests) == 1
        assert (await alice.send(following)).status == 200
        compacted = await bob.send(following, path="/v1/responses/compact")
        assert compacted.status == 400


async def test_call_of_another_key_is_not_shown_or_replayed(proxy: LocalProxy) -> None:
    async with await client_of(proxy) as alice, await client_of(proxy) as bob:
        answered = await alice.send(REQUEST)
        for below in ("", "/events", "/replay"):
            path = f"/ledger/calls/{answered.call_id}{below}"
            assert (await bob.send(method="GET", path=path)).status == 404
            assert (await alice.send(method="GET", path=path)).status == 200


async def test_key_limited_to_models_gets_no_other(proxy: LocalProxy, upstream: Upstream) -> None:
    async with await client_of(proxy, models=["gpt-5"]) as limited:
        refused = await limited.send(REQUEST)
        assert (refused.status, refused.error["code"]) == (400, "model_not_found")
        assert "gpt-4o" not in refused.error["message"].partition("Served here")[2]
        assert (await limited.send(REQUEST | {"model": "gpt-5"})).status == 200
        listed = await limited.send(method="GET", path="/v1/models")
    assert [model["id"] for model in listed.json["data"]] == ["gpt-5"]
    assert len(upstream.requests) == 1


async def test_identity_of_a_key_is_on_its_calls_and_wins_over_the_client(proxy: LocalProxy) -> None:
    fields = {"key_alias": "k-1", "team_id": "red", "user_id": "u-1", "tags": ["fixed"]}
    async with await client_of(proxy, **fields) as client:
        answered = await client.send(REQUEST | {"user": "dave", "metadata": {"tags": ["mine"]}}, x_llm_tags="fixed")
    received = (await proxy.book.ended(answered.call_id)).one("call.received").facts
    assert (received["key_alias"], received["team"], received["user"]) == ("k-1", "red", "u-1")
    assert (received["end_user"], received["tags"]) == ("dave", ["fixed", "mine"])


async def test_key_that_is_missing_wrong_blocked_or_deleted_makes_no_call(
    proxy: LocalProxy, upstream: Upstream
) -> None:
    issued = (await proxy.client.send({}, path="/key/generate")).json["key"]
    async with Client(proxy.url, issued) as client, Client(proxy.url, "sk-never-issued") as stranger:
        assert (await client.send(REQUEST)).status == 200
        assert (await stranger.send(REQUEST)).error["code"] == "invalid_api_key"
        assert (await proxy.client.send({"key": issued}, path="/key/block")).status == 200
        blocked = await client.send(REQUEST)
        assert (blocked.status, blocked.error["code"]) == (403, "key_blocked")
        assert (await proxy.client.send({"key": issued}, path="/key/unblock")).status == 200
        assert (await client.send(REQUEST)).status == 200
        assert (await proxy.client.send({"keys": [issued]}, path="/key/delete")).status == 200
        assert (await client.send(REQUEST)).status == 401
    async with Client(proxy.url, "") as nobody:
        missing = await nobody.send(REQUEST)
    assert (missing.status, missing.error["code"]) == (401, "missing_api_key")
    assert len(upstream.requests) == 2
