"""The authorisation matrix: every route x every kind of key, against the table in tests/support/authorisation.py."""

import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pytest
from fastapi.routing import APIRoute

from api.allowed_routes import GROUPS, is_allowed
from api.web import _routers
from tests.acceptance.conftest import MakeProxy
from tests.support.authorisation import CALLS, Row, rows
from tests.support.proxy import Answered, Client, LocalProxy, configuration, deployment
from tests.support.upstream import Upstream

REFUSED = {"": 401, "sk-wrong-wrong-wrong": 401}
ASK = {"model": "gpt-4o", "input": "hello", "user": "eve"}


def _routes() -> list[str]:
    routes = [route for router in _routers() for route in router.routes if isinstance(route, APIRoute)]
    return [f"{method} {route.path}" for route in routes for method in route.methods or () if method != "HEAD"]


def test_table_has_a_line_for_each_route_and_no_other() -> None:
    counted = Counter(row.route for row in rows())
    assert set(counted) == {*_routes(), *CALLS}, "add a line to TABLE in tests/support/authorisation.py"
    assert max(counted.values()) == 1


def test_route_that_needs_a_key_is_in_a_group_of_routes() -> None:
    named = ["info_routes", "llm_api_routes", "management_routes", "spend_tracking_routes"]
    assert named == sorted(GROUPS)
    missing = [row.route for row in rows() if row.expected and not is_allowed(named, row.path.partition("?")[0])]
    assert missing == ["GET /metrics"], "add the path to a group in api/allowed_routes.py"


@dataclass
class Keys:
    """A proxy with keys of each kind, and a call of the key `own`."""

    proxy: LocalProxy
    secrets: dict[str, str] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)
    call_id: str = ""

    async def issue(self, kind: str, **fields: Any) -> None:
        """Issue a key."""
        issued = await self.proxy.client.send(fields, path="/key/generate")
        assert issued.status == 200, issued.body
        self.secrets[kind], self.ids[kind] = issued.json["key"], issued.json["key_id"]

    async def send(self, row: Row, secret: str, *, with_response: bool = True) -> Answered:
        """Ask for a route; `spare` and the response are made anew, because they may be used up."""
        path, body = row.path, row.body
        if "{spare}" in body:
            await self.issue("spare")
        if "{response_id}" in path and with_response:
            async with Client(self.proxy.url, self.secrets["own"]) as own:
                path = path.replace("{response_id}", (await own.send(ASK)).json["id"])
        for name, value in (
            ("{call_id}", self.call_id),
            ("{key}", self.ids["own"]),
            ("{spare}", self.ids.get("spare", "")),
            ("{response_id}", "resp_of_somebody"),
            ("{model:path}", "gpt-4o"),
        ):
            path, body = path.replace(name, value), body.replace(name, value)
        if row.path == "/global/spend/report":
            path += "?start_date=2026-01-01&end_date=2026-12-31"
        sent = json.loads(body) if body else None
        async with Client(self.proxy.url, secret) as client:
            return await client.send(sent, method=row.method, path=path)


async def _keys(proxy: LocalProxy) -> Keys:
    keys = Keys(proxy)
    for kind, fields in {
        "own": {"team": "red"},
        "other": {},
        "view": {"permissions": ["view"]},
        "admin": {"permissions": ["admin"]},
        "blocked": {"blocked": True},
        "expired": {"duration": "1s"},
    }.items():
        await keys.issue(kind, **fields)
    assert (await proxy.client.send({"team_id": "red"}, path="/team/new")).status == 200
    async with Client(proxy.url, keys.secrets["own"]) as own:
        keys.call_id = str((await own.send(ASK)).call_id)
        # The end user is known once the call is folded.
        while (await own.send(method="GET", path="/customer/info?end_user_id=eve")).status != 200:
            pass
    async with Client(proxy.url, keys.secrets["expired"]) as expired:
        while (await expired.send(method="GET", path="/key/info")).status == 200:
            pass
    return keys


async def test_route_gives_each_kind_of_key_what_the_table_says(make_proxy: MakeProxy, upstream: Upstream) -> None:
    proxy = await make_proxy(configuration([deployment("gpt-4o", f"{upstream.url}/v1")]))
    keys = await _keys(proxy)
    refused = REFUSED | {keys.secrets["expired"]: 401, keys.secrets["blocked"]: 403}
    keys.secrets["master"] = proxy.client._key
    wrong: list[tuple[str, str, int, str]] = []
    for row in rows():
        for secret, status in refused.items():
            answer = await keys.send(row, secret, with_response=False)
            if answer.status != (status if row.expected else 200):
                wrong.append((row.route, f"refused {status}", answer.status, answer.body.decode()[:200]))
        for kind, expected in row.expected.items():
            answer = await keys.send(row, keys.secrets[kind])
            if not _is(answer, expected):
                wrong.append((row.route, f"{kind} {expected}", answer.status, answer.body.decode()[:200]))
    assert wrong == []


def _is(answer: Answered, expected: str) -> bool:
    if expected == "ok":
        return answer.status not in {401, 403, 404, 405} and answer.status < 500
    return answer.status == int(expected) and set(answer.error) == {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("allowed", "path", "is_ok"),
    [
        (["llm_api_routes"], "/v1/responses", True),
        (["llm_api_routes"], "/openai/v1/responses/resp_1/cancel", True),
        (["llm_api_routes"], "/key/info", False),
        (["/v1/responses"], "/responses", True),
        (["/responses"], "/responses/resp_1", False),
        (["/responses*"], "/responses/resp_1", True),
        (["/key/*"], "/key", False),
        (["/key/*"], "/keys/list", False),
        (["/*"], "/anything", True),
        (["/v1/*"], "/v1/responses", True),
        (["/v1/*"], "/key/generate", False),
        (["/v1*"], "/v1/models", True),
        (["/responses/"], "/v1/responses", True),
        (["info_routes"], "/v2/key/info", True),
        (["spend_tracking_routes"], "/v1/organization/costs", True),
        ([], "/anything", True),
    ],
)
def test_allowed_routes_allow_what_they_name(allowed: list[str], path: str, *, is_ok: bool) -> None:
    assert is_allowed(allowed, path) is is_ok
