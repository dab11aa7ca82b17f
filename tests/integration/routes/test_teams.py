"""Teams over HTTP: created, changed, blocked, deleted, listed; who sees them, and what a block does to their keys."""

import asyncio
import json

import asyncpg

from api.routes.team_changes import TeamDesk
from tests.support.routes import Proxy, make_call, numbers_of, refusal


async def test_team_when_created_changed_and_deleted_is_recorded_whole_with_its_actor(
    proxy: Proxy, database_url: str
) -> None:
    boss = (await proxy.issue(permissions="admin"))["key"]
    made = await proxy.post("/team/new", {"team_id": "red", "team_alias": "Red", "organization_id": "acme"})
    assert made.status_code == 200, made.text
    assert (made.json()["revision"], made.json()["created_by"], made.json()["is_created"]) == (1, "master", True)
    changed = await proxy.post("/team/update", {"team_id": "red", "metadata": {"n": 1}, "team_alias": None}, boss)
    assert (changed.json()["metadata"], changed.json()["team_alias"], changed.json()["org"]) == ({"n": 1}, "", "acme")
    assert (await proxy.post("/team/delete", {"team_ids": ["red"]})).json() == {"deleted_teams": ["red"]}
    assert refusal(await proxy.get("/team/info", team_id="red")) == (404, "team_not_found", "team_id")
    assert refusal(await proxy.post("/team/update", {"team_id": "red"}))[:2] == (404, "team_not_found")
    again = await proxy.post("/team/new", {"team_id": "red"})
    assert (again.json()["revision"], again.json()["org"]) == (4, "")
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("SELECT type, facts FROM ledger.events WHERE type LIKE 'team.%' ORDER BY seq")
    await connection.close()
    told = [(row["type"], json.loads(row["facts"])["actor"], json.loads(row["facts"])["revision"]) for row in rows]
    own = changed.json()["updated_by"]
    assert own.startswith("key_")
    assert told == [
        ("team.created", "master", 1),
        ("team.updated", own, 2),
        ("team.deleted", "master", 3),
        ("team.created", "master", 4),
    ]


async def test_team_wish_that_cannot_be_obeyed_is_refused(proxy: Proxy) -> None:
    key = await proxy.issue(team="red")
    await proxy.post("/team/new", {"team_id": "red"})
    for path, body, expected in (
        ("new", {"team_id": "red"}, (409, "conflict", "team_id")),
        ("new", {"max_budget": 1}, (400, "unsupported_parameter", "max_budget")),
        ("new", {"team_id": "red", "members_with_roles": [], "models": []}, (409, "conflict", "team_id")),
        ("new", {"teem_alias": "x"}, (400, "unknown_parameter", "teem_alias")),
        ("new", {"team_id": 7}, (400, None, "team_id")),
        ("new", {"blocked": "yes"}, (400, None, "blocked")),
        ("update", {"team_alias": "x"}, (400, "missing_required_parameter", "team_id")),
        ("update", {"team_id": "blue"}, (404, "team_not_found", "team_id")),
        ("delete", {"team_ids": ["red"]}, (409, "conflict", "team_ids")),
        ("delete", {"teams": ["red"]}, (400, "unknown_parameter", "teams")),
    ):
        assert refusal(await proxy.post(f"/team/{path}", body)) == expected, (path, body)
    await proxy.post("/team/new", {"team_id": "green"})
    for wrong, status in (("red", 409), ("nobody", 404)):
        assert (await proxy.post("/team/delete", {"team_ids": ["green", wrong]})).status_code == status
        assert (await proxy.get("/team/info", team_id="green")).status_code == 200
    await proxy.post("/key/update", {"key": key["key"], "team": None})
    assert refusal(await proxy.get("/team/info", key["key"])) == (400, "missing_required_parameter", "team_id")
    assert (await proxy.post("/team/delete", {"team_ids": ["red"]})).status_code == 200


async def test_team_created_by_rivals_at_once_is_created_once(proxy: Proxy) -> None:
    answers = await asyncio.gather(*(proxy.post("/team/new", {"team_id": "red"}) for _ in range(5)))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409, 409]


async def test_team_list_has_names_on_keys_too_and_says_so(proxy: Proxy) -> None:
    await proxy.post("/team/new", {"team_id": "empty", "team_alias": "Nobody"})
    await proxy.post("/team/new", {"team_id": "red"})
    for team in ("red", "red", "blue"):
        await proxy.issue(team=team)
    listed = (await proxy.get("/team/list")).json()
    told = [(team["team_id"], team["is_created"], team["key_count"]) for team in listed["teams"]]
    assert told == [("blue", False, 1), ("empty", True, 0), ("red", True, 2)]
    assert (listed["total_count"], listed["total_pages"]) == (3, 1)
    found = (await proxy.get("/team/list", search="nob")).json()["teams"]
    assert [team["team_id"] for team in found] == ["empty"]


async def test_team_info_has_its_keys_and_what_was_booked_to_it(proxy: Proxy) -> None:
    one, two, other = await proxy.issue(team="red"), await proxy.issue(team="red"), await proxy.issue(team="blue")
    for key, usd in ((one, "0.1"), (two, "0.02"), (other, "5")):
        await make_call(proxy, [b"data: x\n\n"], usd=usd, key_id=key["key_id"], team=key["team"])
    await proxy.fold()
    answer = await proxy.get("/team/info", team_id="red")
    assert '"billed_usd":"0.12"' in answer.text
    info = numbers_of(answer)
    assert (info["team_info"]["calls"], info["team_info"]["is_created"]) == (2, False)
    assert {key["key_id"] for key in info["keys"]} == {one["key_id"], two["key_id"]}
    own = (await proxy.get("/team/info", one["key"])).json()
    assert (own["team_id"], [key["key_id"] for key in own["keys"]]) == ("red", [one["key_id"]])
    assert own["team_info"]["billed_usd"] == "0.1"
    assert refusal(await proxy.get("/team/info", one["key"], team_id="blue"))[:2] == (404, "team_not_found")


async def test_team_when_blocked_refuses_its_keys_until_it_is_unblocked(proxy: Proxy) -> None:
    await proxy.post("/team/new", {"team_id": "red"})
    key, other = await proxy.issue(team="red"), await proxy.issue(team="blue")
    assert (await proxy.get("/key/info", key["key"])).status_code == 200
    for is_blocked, status in ((True, 403), (False, 200)):
        await proxy.post("/team/update", {"team_id": "red", "blocked": is_blocked})
        answer = await proxy.get("/key/info", key["key"])
        assert answer.status_code == status
        assert (await proxy.get("/key/info", other["key"])).status_code == 200
    await proxy.post("/team/update", {"team_id": "red", "blocked": True})
    await proxy.context.keyring._poll()
    assert refusal(await proxy.get("/key/info", key["key"]))[1] == "team_blocked"
    # What another process changed is learnt by the poll.
    proxy.context.teams = TeamDesk(proxy.context.reads, proxy.book, lambda _: None)
    await proxy.post("/team/update", {"team_id": "red", "blocked": False})
    assert (await proxy.get("/key/info", key["key"])).status_code == 403
    await proxy.context.keyring._poll()
    assert (await proxy.get("/key/info", key["key"])).status_code == 200
