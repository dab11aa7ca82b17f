"""Every route beside the calls asks who calls; drawn from the application, so that a new route is asked for as well."""

from fastapi.routing import APIRoute

from api.web import _routers
from tests.support.routes import Proxy, refusal

OPEN = {"/health/liveliness", "/health/liveness", "/health/readiness", "/openapi.json", "/docs"}
ADMINISTRATORS = {
    "/key/generate",
    "/key/block",
    "/key/unblock",
    "/key/delete",
    "/key/list",
    "/ledger/events",
    "/metrics",
}


def _routes() -> list[tuple[str, str]]:
    return [
        (
            method,
            route.path.replace("{call_id}", "0193a5b2-0000-7000-8000-00000000000b").replace("{model:path}", "none"),
        )
        for router in _routers()
        for route in router.routes
        if isinstance(route, APIRoute)
        for method in sorted(route.methods or ())
    ]


async def test_route_without_a_valid_key_is_refused_and_an_administrators_to_every_other_key(proxy: Proxy) -> None:
    own, blocked, revoked = [(await proxy.issue())["key"] for _ in range(3)]
    expired = await proxy.issue(duration="1s")
    await proxy.post("/key/block", {"key": blocked})
    await proxy.post("/key/delete", {"keys": [revoked]})
    refusals = {None: 401, "sk-wrong-wrong-wrong": 401, blocked: 403, revoked: 401}
    routes = _routes()
    assert len(routes) > 30
    for method, path in routes:
        if path in OPEN:
            continue
        for key, status in refusals.items():
            async with proxy.client(key) as client:
                answer = await client.request(method, path, content=b"{}" if method == "POST" else None)
            assert answer.status_code == status, (method, path, key)
            assert method == "HEAD" or refusal(answer)[0] == status
        async with proxy.client(own) as client:
            answer = await client.request(method, path, content=b"{}" if method == "POST" else None)
        if path in ADMINISTRATORS:
            assert answer.status_code == 403, (method, path)
            assert method == "HEAD" or refusal(answer)[1] == "permission_denied"
        else:
            assert answer.status_code in {200, 400, 404}, (method, path)
    # Last, because only time makes a key expire.
    while (answer := await proxy.get("/key/info", expired["key"])).status_code == 200:
        pass
    assert refusal(answer)[:2] == (401, "key_expired")


async def test_description_of_the_routes_names_each_once_with_its_parameters(proxy: Proxy) -> None:
    described = proxy.web.openapi()
    parameters = {each["name"] for each in described["paths"]["/spend/logs"]["get"]["parameters"]}
    assert {"start_date", "end_user", "cursor"} <= parameters
    assert {each["name"] for each in described["paths"]["/ledger/calls/{call_id}/events"]["get"]["parameters"]} >= {
        "call_id",
        "after",
        "bodies",
    }
    assert all("head" not in path for path in described["paths"].values())
