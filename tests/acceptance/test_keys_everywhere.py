"""What is changed of a key on one proxy holds on every other and on each worker; whom calls are booked to."""

import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import MakeProxy
from tests.support.proxy import Answered, Client, configuration, deployment
from tests.support.proxy_process import Proxy
from tests.support.upstream import Upstream

ASK = {"model": "gpt-4o", "input": "hello"}
#: Far beyond the second that is promised: a machine may be busy. That it is a matter of polls is what is tested.
PATIENCE_S = 20.0


async def _until(ask: Callable[[], Awaitable[Answered]], status: int, code: str | None = None) -> None:
    """Ask until the answer is as it must become."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        answer = await ask()
        if answer.status == status and (code is None or answer.error["code"] == code):
            return
        assert time.monotonic() < deadline, (answer.status, answer.body)


async def _agree(client: Client, status: int, code: str | None = None) -> None:
    """Ask for the own key; a new connection for each request reaches either worker: ten in a row must agree."""
    for _ in range(10):
        await _until(lambda: client.send(method="GET", path="/key/info"), status, code)


async def _issue(master: Client, **fields: Any) -> dict[str, Any]:
    issued = await master.send(fields, path="/key/generate")
    assert issued.status == 200, issued.body
    return issued.json


async def test_change_of_a_key_holds_on_another_proxy_and_on_each_of_its_workers(
    make_proxy: MakeProxy, upstream: Upstream, database_url: str, tmp_path: Path
) -> None:
    config = configuration([deployment("gpt-4o", f"{upstream.url}/v1")])
    first = await make_proxy(config)
    other_dir = tmp_path / "other"
    other_dir.mkdir()
    with Proxy(config, database_url, other_dir, num_workers=2) as second:
        key = await _issue(first.client, team="red")
        await first.client.send({"team_id": "red"}, path="/team/new")
        async with Client(second.url, key["key"]) as there:
            await _agree(there, 200)
            changes: list[tuple[str, dict[str, Any], int, str | None]] = [
                ("/key/block", {"key": key["key_id"]}, 403, "key_blocked"),
                ("/key/unblock", {"key": key["key_id"]}, 200, None),
                ("/key/update", {"key": key["key_id"], "allowed_routes": ["/responses"]}, 403, "route_not_allowed"),
                ("/key/update", {"key": key["key_id"], "allowed_routes": None}, 200, None),
                ("/team/update", {"team_id": "red", "blocked": True}, 403, "team_blocked"),
                ("/team/update", {"team_id": "red", "blocked": False}, 200, None),
                ("/key/regenerate", {"key": key["key_id"]}, 401, "key_expired"),
            ]
            new_key = ""
            for path, body, status, code in changes:
                changed = await first.client.send(body, path=path)
                assert changed.status == 200, changed.body
                new_key = changed.json.get("key", "")
                await _agree(there, status, code)
        async with Client(second.url, new_key) as there:
            await _agree(there, 200)
            assert (await first.client.send({"keys": [key["key_id"]]}, path="/key/delete")).status == 200
            await _agree(there, 401)


@pytest.mark.parametrize("fixed", [True, False])
async def test_call_is_booked_to_what_the_key_says_whatever_the_request_claims(
    make_proxy: MakeProxy, upstream: Upstream, *, fixed: bool
) -> None:
    proxy = await make_proxy(configuration([deployment("gpt-4o", f"{upstream.url}/v1")]))
    fields = {"org": "acme", "team": "red", "user": "ann", **({"end_user": "fixed"} if fixed else {})}
    key = await _issue(proxy.client, **fields)
    claims: dict[str, Any] = {
        "x_llm_end_user_id": "header", "x_litellm_end_user_id": "litellm", "x_litellm_customer_id": "customer",
        "x_llm_team_id": "blue", "x_litellm_team_id": "blue", "openai_organization": "evil", "x_llm_org": "evil",
        "x_llm_user": "eve", "x_litellm_user_id": "eve",
    }  # fmt: skip
    names = {"team": "blue", "team_id": "blue", "org": "evil"}
    said: dict[str, Any] = {**names, "safety_identifier": "safety", "user": "user"}
    said["metadata"] = {**names, "user_id": "meta", "user": "eve"}
    async with Client(proxy.url, key["key"]) as client:
        answered = await client.send({**ASK, **said}, **claims)
        story = await proxy.book.ended(answered.call_id)
    facts = story.one("call.received").facts
    assert (facts["org"], facts["team"], facts["user"]) == ("acme", "red", "ann")
    assert facts["end_user"] == ("fixed" if fixed else "header")


async def test_call_outside_of_the_keys_rights_is_refused_and_in_the_book(
    make_proxy: MakeProxy, upstream: Upstream
) -> None:
    proxy = await make_proxy(configuration([deployment("gpt-4o", f"{upstream.url}/v1")]))
    for fields, code in (
        ({"allowed_routes": ["info_routes"]}, "route_not_allowed"),
        ({"permissions": ["view"]}, "permission_denied"),
    ):
        key = await _issue(proxy.client, **fields)
        async with Client(proxy.url, key["key"]) as client:
            refused = await client.send(ASK)
        assert (refused.status, refused.error["code"]) == (403, code)
        story = await proxy.book.ended(refused.call_id)
        assert story.types == ["call.received", "call.rejected"]
        assert story.one("call.rejected").facts["reason"] == code
    assert upstream.requests == []
