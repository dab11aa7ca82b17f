"""Changes of virtual keys over HTTP: update, regenerate with a grace, routes, permissions, actors."""

import asyncio
import json
from datetime import UTC, datetime
from typing import Any

import asyncpg
import pytest

from api import auth
from api.routes import key_changes
from tests.support.routes import MASTER_KEY, Proxy, days, refusal


async def _facts(url: str, type_: str) -> list[dict[str, Any]]:
    connection = await asyncpg.connect(url)
    rows = await connection.fetch("SELECT facts FROM ledger.events WHERE type = $1 ORDER BY seq", type_)
    await connection.close()
    return [json.loads(row["facts"]) for row in rows]


async def test_key_update_changes_what_is_given_resets_null_and_leaves_the_rest(
    proxy: Proxy, database_url: str
) -> None:
    key = await proxy.issue(key_alias="ci", team="red", tags=["a"], metadata={"n": 1}, duration="1d", user="ann")
    fields = {"key": key["key"], "team_id": "blue", "tags": None, "duration": None, "models": ["gpt-5"],
              "blocked": False, "store_bodies": "none", "allowed_routes": ["llm_api_routes", "/key/info"],
              "permissions": {}, "organization_id": "acme", "end_user_id": "eve"}  # fmt: skip
    answer = await proxy.post("/key/update", fields)
    assert answer.status_code == 200, answer.text
    info = answer.json()
    assert key["key"] not in answer.text
    assert (info["team"], info["tags"], info["expires"], info["models"]) == ("blue", [], None, ["gpt-5"])
    assert (info["key_alias"], info["metadata"], info["user"], info["org"]) == ("ci", {"n": 1}, "ann", "acme")
    assert (info["store_bodies"], info["end_user"], info["permissions"]) == ("none", "eve", [])
    assert info["allowed_routes"] == ["llm_api_routes", "/key/info"]
    assert (info["revision"], info["updated_by"]) == (2, "master")
    again = await proxy.post("/key/update", fields)
    assert again.json()["revision"] == 2
    (facts,) = await _facts(database_url, "key.updated")
    assert (facts["actor"], facts["revision"], facts["key"]["team"]) == ("master", 2, "blue")
    assert facts["key"]["key_hash"] == key["token"]
    who = await proxy.context.authenticator.caller([("authorization", key["key"])])
    assert (who.store_bodies, who.team, who.end_user, who.models) == ("none", "blue", "eve", ("gpt-5",))


async def test_key_update_that_cannot_be_obeyed_changes_nothing(proxy: Proxy) -> None:
    key, other = await proxy.issue(key_alias="one"), await proxy.issue(key_alias="two")
    for fields, expected in (
        ({"max_budget": 5}, (400, "unsupported_parameter", "max_budget")),
        ({"teem": "x"}, (400, "unknown_parameter", "teem")),
        ({"key_alias": "two"}, (409, "conflict", "key_alias")),
        ({"team": "a", "team_id": "b"}, (400, None, "team_id")),
        ({"expires": "2020-01-01"}, (400, None, "expires")),
    ):
        assert refusal(await proxy.post("/key/update", {"key": key["key"], "user": "x", **fields})) == expected
    assert refusal(await proxy.post("/key/update", {"user": "x"})) == (400, None, "key")
    assert refusal(await proxy.post("/key/update", {"key": "key_none", "user": "x"}))[0] == 404
    assert (await proxy.get("/key/info", key=key["key_id"])).json()["info"]["revision"] == 1
    assert (await proxy.post("/key/update", {"key": other["key_id"], "key_alias": "two"})).json()["revision"] == 1
    await proxy.post("/key/delete", {"keys": [other["key"]]})
    assert refusal(await proxy.post("/key/update", {"key": other["key_id"], "user": "x"})) == (409, "conflict", "key")


async def test_key_alias_wanted_by_rivals_goes_to_one(proxy: Proxy) -> None:
    keys = [await proxy.issue() for _ in range(4)]
    wanted = [{"key": key["key_id"], "key_alias": "ci"} for key in keys]
    answers = await asyncio.gather(*(proxy.post("/key/update", body) for body in wanted))
    assert sorted(answer.status_code for answer in answers) == [200, 409, 409, 409]


async def test_key_bulk_update_says_of_each_whether_it_was_changed(proxy: Proxy) -> None:
    keys = [await proxy.issue() for _ in range(2)]
    wanted = [{"key": key["key_id"], "team": "red"} for key in keys] + [{"key": "key_none", "team": "red"}, 7]
    answer = (await proxy.post("/key/bulk_update", {"keys": wanted})).json()
    assert [each["key_info"]["team"] for each in answer["successful_updates"]] == ["red", "red"]
    assert [(each["position"], each["code"]) for each in answer["failed_updates"]] == [(2, "key_not_found"), (3, None)]
    assert answer["total_requested"] == 4


class Clock(datetime):
    """A clock that a test moves."""

    at = datetime(2026, 1, 1, tzinfo=UTC)

    @classmethod
    def now(cls, tz: Any = None) -> datetime:  # noqa: ARG003, D102 - as the base class says
        return cls.at


async def test_key_regenerated_with_grace_is_accepted_under_both_until_exactly_then(
    proxy: Proxy, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(auth, "datetime", Clock)
    monkeypatch.setattr(key_changes, "datetime", Clock)
    old = await proxy.issue(team="red")
    answer = await proxy.post("/key/regenerate", {"key": old["key"], "grace_period": "1h", "user": "ann"})
    new = answer.json()
    assert answer.headers["cache-control"] == "no-store"
    assert (new["key_id"], new["team"], new["user"]) == (old["key_id"], "red", "ann")
    assert new["key"] not in {old["key"], None}
    for seconds, status in ((0, 200), (3599, 200), (3600, 401)):
        Clock.at = datetime.fromtimestamp(datetime(2026, 1, 1, tzinfo=UTC).timestamp() + seconds, UTC)
        assert (await proxy.get("/key/info", old["key"])).status_code == status
        assert (await proxy.get("/key/info", new["key"])).status_code == 200
    assert refusal(await proxy.get("/key/info", old["key"]))[1] == "key_expired"
    # The key can still be named by what is on a leaked note; and the hash belongs to it for ever.
    assert (await proxy.get("/key/info", key=old["key"])).json()["key"] == old["key_id"]
    assert refusal(await proxy.post("/key/generate", {"key": old["key"]})) == (409, "conflict", "key")
    (facts,) = await _facts(database_url, "key.regenerated")
    assert facts["key"]["former"] == [{"key_hash": old["token"], "until": "2026-01-01T01:00:00.000000Z"}]
    assert (facts["key"]["key_hash"], facts["key"]["issued_hash"]) == (new["token"], old["token"])
    assert old["key"] not in json.dumps(facts)
    assert new["key"] not in json.dumps(facts)
    # Whatever happens to the key happens to both of its secrets.
    Clock.at = datetime(2026, 1, 1, tzinfo=UTC)
    assert (await proxy.post("/key/block", {"key": new["key"]})).json()["blocked"] is True
    assert refusal(await proxy.get("/key/info", old["key"]))[1] == "key_blocked"


async def test_key_regenerated_without_grace_ends_the_old_one_at_once(proxy: Proxy) -> None:
    old = await proxy.issue()
    assert (await proxy.get("/key/info", old["key"])).status_code == 200
    chosen = await proxy.post(f"/key/{old['key_id']}/regenerate", {"new_key": "sk-chosen-by-somebody"})
    assert (chosen.status_code, chosen.json()["key"]) == (200, "sk-chosen-by-somebody")
    assert refusal(await proxy.get("/key/info", old["key"]))[:2] == (401, "key_expired")
    made = await proxy.post(f"/key/{old['key_id']}/regenerate", b"")
    assert made.json()["key"].startswith("sk-")
    assert (await proxy.get("/key/info", "sk-chosen-by-somebody")).status_code == 401
    assert (await proxy.get("/key/info", made.json()["key"])).status_code == 200


async def test_key_regeneration_that_cannot_be_is_refused(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    key, other = await proxy.issue(), await proxy.issue()
    for fields, expected in (
        ({"grace_period": "31d"}, (400, None, "grace_period")),
        ({"grace_period": "soon"}, (400, None, "grace_period")),
        ({"grace_period": 5}, (400, None, "grace_period")),
        ({"new_key": other["key"]}, (409, "conflict", "key")),
        ({"new_key": MASTER_KEY}, (400, None, "new_key")),
        ({"new_key": "short"}, (400, None, "new_key")),
    ):
        assert refusal(await proxy.post("/key/regenerate", {"key": key["key_id"], **fields})) == expected
    monkeypatch.setattr(key_changes, "FORMER_MAX", 1)
    for grace, status in (("1d", 200), ("1d", 409)):
        body = {"key": key["key_id"], "grace_period": grace}
        assert (await proxy.post("/key/regenerate", body)).status_code == status
    await proxy.post("/key/delete", {"keys": [key["key_id"]]})
    assert refusal(await proxy.post("/key/regenerate", {"key": key["key_id"]})) == (409, "conflict", "key")


async def test_key_with_the_permission_admin_does_all_and_is_the_actor(proxy: Proxy) -> None:
    boss = await proxy.issue(permissions=["admin"])
    made = await proxy.post("/key/generate", {"key_alias": "by boss"}, boss["key"])
    assert (made.status_code, made.json()["created_by"]) == (200, boss["key_id"])
    assert (await proxy.get("/key/list", boss["key"])).json()["total_count"] == 2
    assert (await proxy.get("/key/info", boss["key"])).json()["key"] == boss["key_id"]
    assert (await proxy.get("/key/info", boss["key"], key="master")).json()["key"] == "master"
    assert (await proxy.post("/key/delete", {"keys": ["master"]}, boss["key"])).status_code == 404
    shown = (await proxy.get("/ledger/events", boss["key"], type="key.issued")).json()["data"]
    assert [event["facts"]["actor"] for event in shown] == ["master", boss["key_id"]]
    # Taken away, it is gone at the next request.
    await proxy.post("/key/update", {"key": boss["key"], "permissions": None})
    assert refusal(await proxy.post("/key/generate", {}, boss["key"]))[:2] == (403, "permission_denied")


async def test_key_with_the_permission_view_reads_all_and_changes_nothing(proxy: Proxy) -> None:
    auditor, other = await proxy.issue(permissions="view"), await proxy.issue()
    assert (await proxy.get("/key/info", auditor["key"], key=other["key_id"])).status_code == 200
    assert (await proxy.get("/key/info", auditor["key"], key="master")).status_code == 200
    assert (await proxy.get("/key/list", auditor["key"])).json()["total_count"] == 2
    for path in ("generate", "update", "regenerate", "block", "unblock", "delete", "bulk_update"):
        refused = await proxy.post(f"/key/{path}", {"key": other["key_id"]}, auditor["key"])
        assert refusal(refused)[:2] == (403, "permission_denied"), path


async def test_key_that_administers_cannot_grant_more_than_it_has(proxy: Proxy) -> None:
    fields = {"permissions": ["admin"], "allowed_routes": ["/key/*", "/responses*"], "models": ["gpt-5"]}
    boss, victim = await proxy.issue(**fields), await proxy.issue(permissions=["admin"])
    fits = {"allowed_routes": ["/key/info", "/responses/*"], "models": ["gpt-5"]}
    made = await proxy.post("/key/generate", fits, boss["key"])
    assert made.status_code == 200, made.text
    for more in ({**fits, "allowed_routes": None}, {**fits, "allowed_routes": ["/spend/*"]}, {**fits, "models": None}):
        assert refusal(await proxy.post("/key/generate", more, boss["key"]))[:2] == (403, "permission_denied")
        changed = {"key": made.json()["key"], **more}
        assert refusal(await proxy.post("/key/update", changed, boss["key"]))[:2] == (403, "permission_denied")
    # It may not get hold of a secret of a mightier key either, not by narrowing it first, but may stop it.
    for path in ("regenerate", "update"):
        for change in ({"user": "x"}, fits):
            refused = await proxy.post(f"/key/{path}", {"key": victim["key_id"], **change}, boss["key"])
            assert refusal(refused)[:2] == (403, "permission_denied"), (path, change)
    assert (await proxy.post("/key/block", {"key": victim["key_id"]}, boss["key"])).status_code == 200
    assert (await proxy.post("/key/unblock", {"key": victim["key_id"]}, boss["key"])).status_code == 403


async def test_key_with_allowed_routes_is_refused_elsewhere(proxy: Proxy) -> None:
    key = await proxy.issue(allowed_routes=["info_routes", "/spend/logs"])
    for path, status in (("/key/info", 200), ("/v1/models", 200), ("/spend/logs", 200), ("/customer/info", 404)):
        assert (
            await proxy.get(path, key["key"], **({"end_user_id": "x"} if "cust" in path else {}))
        ).status_code == status
    refused = await proxy.get("/global/spend/report", key["key"], start_date=days(0), end_date=days(0))
    assert refusal(refused) == (403, "route_not_allowed", None)


async def test_key_infos_of_several_keys_hold_those_that_may_be_seen(proxy: Proxy) -> None:
    one, two = await proxy.issue(), await proxy.issue()
    asked = {"keys": [one["key"], two["key_id"], "key_none", "sk-nobody-has-this-key"]}
    answer = (await proxy.post("/v2/key/info", asked)).json()
    assert answer["key"] == [one["key_id"], two["key_id"]]
    assert answer["not_found"] == ["'key_none'", "sk-...-key"]
    own = (await proxy.post("/v2/key/info", asked, one["key"])).json()
    assert own["key"] == [one["key_id"]]
    assert len(own["not_found"]) == 3
    assert refusal(await proxy.post("/v2/key/info", {"kees": []}))[:2] == (400, "unknown_parameter")


async def test_key_list_is_searched_sorted_and_by_end(proxy: Proxy) -> None:
    names = ["Berta", "anton", "Caesar"]
    made = [await proxy.issue(key_alias=name, duration=f"{3 - at}d") for at, name in enumerate(names)]
    ids = {key["key_id"]: key["key_alias"] for key in made}

    async def listed(**query: Any) -> list[str]:
        answer = await proxy.get("/key/list", return_full_object="false", **query)
        assert answer.status_code == 200, answer.text
        return [ids[key_id] for key_id in answer.json()["keys"]]

    assert await listed(search="AN") == ["anton"]
    assert await listed(sort_by="expires", sort_order="asc") == ["Caesar", "anton", "Berta"]
    assert await listed(sort_by="created_at", sort_order="asc") == names
    assert set(await listed(sort_by="spend")) == set(names)
    assert await listed(expires=days(1)) == ["Caesar"]
    assert (await proxy.get("/key/aliases", search="a")).json()["total_count"] == 3
    assert (await proxy.get("/key/aliases", made[0]["key"])).json()["aliases"] == ["Berta"]
    assert refusal(await proxy.get("/key/list", sort_by="metadata"))[0] == 400
