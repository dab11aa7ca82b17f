"""Virtual keys over HTTP: issued, shown, blocked, revoked; who may do so; what is refused."""

import asyncio
import hashlib
import json
from decimal import Decimal

import asyncpg
import pytest

from api.administration import ConflictError
from api.auth import Caller
from api.errors import ApiFailure
from api.routes import key_changes
from api.routes.key_changes import KeyDesk
from ledger.events import KEY_BLOCKED, KEY_REVOKED, KEY_UNBLOCKED
from ledger.reports.key_state import RecordedKey
from tests.support.routes import MASTER_KEY, Proxy, make_call, numbers_of, refusal

ADMIN = Caller("master", is_admin=True)


async def test_key_when_issued_is_shown_once_and_stored_as_a_hash(proxy: Proxy, database_url: str) -> None:
    fields = {"key_alias": "ci", "team_id": "red", "organization_id": "acme", "user_id": "ann", "end_user": "eve",
              "models": ["gpt-5"], "tags": ["b", "a", "b"], "metadata": {"n": [1, "x"]}, "duration": "30d"}  # fmt: skip
    issued = await proxy.issue(**fields)
    key = issued["key"]
    assert key.startswith("sk-")
    assert len(key) >= 3 + 43
    assert issued["token"] == hashlib.sha256(key.encode()).hexdigest()
    assert issued["key_name"] == f"sk-...{key[-4:]}"
    assert issued["key_id"].startswith("key_")
    info = (await proxy.get("/key/info", key)).json()["info"]
    for shown in (issued, info):
        assert (shown["key_alias"], shown["team"], shown["team_id"]) == ("ci", "red", "red")
        assert (shown["org"], shown["user_id"], shown["end_user"]) == ("acme", "ann", "eve")
        assert (shown["models"], shown["tags"], shown["metadata"]) == (["gpt-5"], ["a", "b"], {"n": [1, "x"]})
        assert (shown["blocked"], shown["revoked"], shown["created_by"]) == (False, False, "master")
    assert key not in json.dumps(info)
    connection = await asyncpg.connect(database_url)
    rows = await connection.fetch("SELECT facts::text AS facts FROM ledger.events")
    await connection.close()
    assert not any(key in row["facts"] for row in rows)
    assert any(issued["token"] in row["facts"] for row in rows)


async def test_key_without_credentials_or_rights_is_refused_by_every_route(proxy: Proxy) -> None:
    own = (await proxy.issue())["key"]
    blocked = (await proxy.issue())["key"]
    assert (await proxy.post("/key/block", {"key": blocked})).status_code == 200
    revoked = (await proxy.issue())["key"]
    assert (await proxy.post("/key/delete", {"keys": [revoked]})).status_code == 200
    for path in ("/key/generate", "/key/block", "/key/unblock", "/key/delete"):
        assert (await proxy.post(path, {}, None)).status_code == 401
        assert (await proxy.post(path, {}, "sk-wrong-wrong-wrong")).status_code == 401
        assert (await proxy.post(path, {}, revoked)).status_code == 401
        assert (await proxy.post(path, {}, blocked)).status_code == 403
        assert refusal(await proxy.post(path, {}, own)) == (403, "permission_denied", None)
    assert (await proxy.get("/key/list", own)).status_code == 403
    assert (await proxy.get("/key/list")).status_code == 200
    for key, status in ((None, 401), ("sk-wrong-wrong-wrong", 401), (blocked, 403), (revoked, 401), (own, 200)):
        assert (await proxy.get("/key/info", key)).status_code == status


async def test_key_info_of_anothers_key_looks_like_that_of_none(proxy: Proxy) -> None:
    own, other = await proxy.issue(), await proxy.issue()
    for name in (other["key"], other["token"], other["key_id"]):
        answer = await proxy.get("/key/info", own["key"], key=name)
        assert refusal(answer) == (404, "key_not_found", "key")
        assert other["key"] not in answer.text
        assert (await proxy.get("/key/info", key=name)).json()["key"] == other["key_id"]
    none = await proxy.get("/key/info", own["key"], key="key_none")
    assert refusal(none) == (404, "key_not_found", "key")
    assert refusal(await proxy.get("/key/info", own["key"], key="master"))[0] == 404
    for name in (own["key"], own["token"], own["key_id"]):
        assert (await proxy.get("/key/info", own["key"], key=name)).json()["key"] == own["key_id"]


async def test_key_spend_is_exact_and_keeps_the_unknown_apart(proxy: Proxy) -> None:
    key = await proxy.issue()
    for usd, state in (("0.000000000001", "billed"), ("123456789.1", "billed"), ("0.2", "estimated"), (None, "")):
        await make_call(proxy, [b"data: x\n\n"], usd=usd, state=state, key_id=key["key_id"])
    await proxy.fold()
    answer = await proxy.get("/key/info", key["key"])
    info = numbers_of(answer)["info"]
    assert info["spend"] == Decimal("123456789.300000000001")
    assert '"spend":123456789.300000000001' in answer.text
    assert (info["billed_usd"], info["estimated_usd"]) == ("123456789.100000000001", "0.2")
    assert (info["unknown_calls"], info["calls"]) == (1, 4)
    master = numbers_of(await proxy.get("/key/info"))["info"]
    assert (master["key_id"], master["spend"]) == ("master", 0)


async def test_key_field_not_enforced_is_refused_and_no_key_made(proxy: Proxy) -> None:
    for fields, param in (
        ({"max_budget": 1}, "max_budget"),
        ({"key_allias": "x"}, "key_allias"),
        ({"key": MASTER_KEY}, "key"),
    ):
        assert refusal(await proxy.post("/key/generate", fields))[::2] == (400, param)
    too_large = {"models": ["m" * 198 + f"{number:02}" for number in range(100)]}
    assert refusal(await proxy.post("/key/generate", too_large))[0] == 400
    assert (await proxy.get("/key/list", status="all")).json()["total_count"] == 0


async def test_key_body_that_is_no_plain_object_is_refused(proxy: Proxy) -> None:
    refused: list[tuple[bytes, int]] = [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"metadata":NaN}', 400),
        (b'{"team":"a","team":"b"}', 400),
        (b'{"team":"\\u0000"}', 400),
        (b'{"team":"\\ud800"}', 400),
        (b'{"team":"\xff"}', 400),
        (b'{"metadata":' + b"[" * 10_000 + b"]" * 10_000 + b"}", 400),
        (b'{"metadata":{"n":' + b"9" * 5_000 + b"}}", 400),
        (b'{"team":"' + b"x" * 300_000 + b'"}', 413),
    ]
    for body, status in refused:
        assert refusal(await proxy.post("/key/generate", body))[0] == status, body[:60]
    assert (await proxy.get("/key/list", status="all")).json()["total_count"] == 0


async def test_key_given_twice_is_a_conflict_even_when_rivals_issue_it_at_once(proxy: Proxy) -> None:
    answers = await asyncio.gather(*(proxy.post("/key/generate", {"key": "sk-chosen-by-the-client"}) for _ in range(6)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 5
    await proxy.post("/key/delete", {"keys": ["sk-chosen-by-the-client"]})
    again = await proxy.post("/key/generate", {"key": "sk-chosen-by-the-client"})
    assert refusal(again) == (409, "conflict", "key")


async def test_key_alias_given_twice_is_a_conflict_until_its_key_is_revoked(proxy: Proxy) -> None:
    answers = await asyncio.gather(*(proxy.post("/key/generate", {"key_alias": "ci"}) for _ in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200] + [409] * 7
    assert (await proxy.post("/key/delete", {"key_aliases": ["ci"]})).status_code == 200
    assert (await proxy.issue(key_alias="ci"))["key_alias"] == "ci"
    assert (await proxy.get("/key/list", status="all", key_alias="ci")).json()["total_count"] == 2


async def test_key_blocked_twice_is_blocked_once_and_works_again_when_unblocked(proxy: Proxy) -> None:
    key = await proxy.issue()
    assert (await proxy.get("/key/info", key["key"])).status_code == 200
    for name in (key["key"], key["token"], key["key_id"]):
        answer = await proxy.post("/key/block", {"key": name})
        assert (answer.status_code, answer.json()["blocked"], answer.json()["revision"]) == (200, True, 2)
        assert (await proxy.get("/key/info", key["key"])).status_code == 403
    answer = await proxy.post("/key/unblock", {"key": key["key"]})
    assert (answer.json()["blocked"], answer.json()["revision"]) == (False, 3)
    assert (await proxy.get("/key/info", key["key"])).status_code == 200
    assert refusal(await proxy.post("/key/block", {"key": "key_none"})) == (404, "key_not_found", "key")
    assert refusal(await proxy.post("/key/block", {"kee": "x"})) == (400, "unknown_parameter", "kee")
    assert refusal(await proxy.post("/key/block", {}))[0] == 400


async def test_key_when_revoked_stays_revoked(proxy: Proxy) -> None:
    key, other = await proxy.issue(), await proxy.issue()
    missing = await proxy.post("/key/delete", {"keys": [key["key"], "sk-nobody-has-this-key"]})
    assert refusal(missing) == (404, "key_not_found", "key")
    assert "nobody" not in missing.text
    assert (await proxy.get("/key/info", key["key"])).status_code == 200
    for _ in range(2):
        deleted = await proxy.post("/key/delete", {"keys": [key["key_id"], key["token"]]})
        assert deleted.json() == {"deleted_keys": [key["key_id"]]}
    assert (await proxy.get("/key/info", key["key"])).status_code == 401
    assert refusal(await proxy.post("/key/unblock", {"key": key["key"]})) == (409, "conflict", "key")
    assert [each["key_id"] for each in (await proxy.get("/key/list")).json()["keys"]] == [other["key_id"]]


async def test_key_changed_by_rivals_at_once_ends_revoked(proxy: Proxy) -> None:
    key = await proxy.issue()
    found = await key_changes.find(proxy.context.keys, key["key_id"])
    changes = [KEY_BLOCKED, KEY_REVOKED, KEY_UNBLOCKED, KEY_BLOCKED, KEY_UNBLOCKED]
    await asyncio.gather(
        *(key_changes.change(proxy.context.keys, ADMIN, found, type_) for type_ in changes), return_exceptions=True
    )
    assert (await proxy.get("/key/info", key=key["key_id"])).json()["info"]["revoked"] is True


async def test_key_revoked_by_somebody_whose_event_is_under_way_is_not_brought_back(
    proxy: Proxy, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await proxy.issue()
    found = await key_changes.find(proxy.context.keys, key["key_id"])
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE ledger.subjects SET revision = 2 WHERE id = $1", key["token"])
    await connection.close()
    looked_again = asyncio.Event()
    find = key_changes.find

    async def finding(desk: KeyDesk, name: str) -> RecordedKey:
        looked_again.set()
        return await find(desk, name)

    stale = await find(proxy.context.keys, key["key_id"])
    monkeypatch.setattr(key_changes, "find", finding)
    blocking = asyncio.create_task(key_changes.change(proxy.context.keys, ADMIN, stale, KEY_BLOCKED))
    looking = asyncio.create_task(looked_again.wait())
    await asyncio.wait({blocking, looking}, return_when=asyncio.FIRST_COMPLETED)
    looking.cancel()
    state = {"actor": "master", "revision": 2, "key": {**found.key, "revoked": True}}
    await proxy.book.journals.administer(KEY_REVOKED, state)
    with pytest.raises(ApiFailure, match="is revoked, and stays so"):
        await blocking
    assert (await proxy.get("/key/info", key=key["key_id"])).json()["info"]["revoked"] is True


async def test_key_whose_revision_was_given_out_without_an_event_can_still_be_changed(
    proxy: Proxy, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await proxy.issue()
    connection = await asyncpg.connect(database_url)
    await connection.execute("UPDATE ledger.subjects SET revision = revision + 1 WHERE id = $1", key["token"])
    await connection.close()
    monkeypatch.setattr(key_changes, "_SETTLE_S", 0.1)
    answer = await proxy.post("/key/block", {"key": key["key"]})
    assert (answer.json()["blocked"], answer.json()["revision"]) == (True, 3)


async def test_key_that_others_keep_changing_is_a_conflict(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    key = await proxy.issue()

    async def never(*_: object) -> None:
        raise ConflictError

    monkeypatch.setattr(proxy.book, "administer", never)
    assert refusal(await proxy.post("/key/block", {"key": key["key_id"]}))[0] == 409


async def test_key_list_is_paged_and_filtered(proxy: Proxy) -> None:
    made = [await proxy.issue(team_id="red" if number % 2 else "blue") for number in range(5)]
    pages = [(await proxy.get("/key/list", page=page, size=2)).json() for page in (1, 2, 3, 4)]
    assert [page["total_count"] for page in pages] == [5] * 4
    assert [page["total_pages"] for page in pages] == [3] * 4
    assert [page["current_page"] for page in pages] == [1, 2, 3, 4]
    listed = [key["key_id"] for page in pages for key in page["keys"]]
    assert listed == [key["key_id"] for key in reversed(made)]
    assert (await proxy.get("/key/list", team_id="red")).json()["total_count"] == 2
    for name in ("key", "token", "key_id"):
        found = await proxy.get("/key/list", key_hash=made[0][name])
        assert [key["key_id"] for key in found.json()["keys"]] == [made[0]["key_id"]]
    for query in ({"page": 0}, {"size": 0}, {"size": 1001}, {"status": "dead"}, {"teem_id": "red"}, {"page": "x"}):
        assert refusal(await proxy.get("/key/list", **query))[0] == 400


async def test_key_that_has_ended_is_listed_as_expired_and_not_as_active(proxy: Proxy, database_url: str) -> None:
    made = {
        name: await proxy.issue(duration="1d", blocked=name == "blocked") for name in ("active", "expired", "blocked")
    }
    connection = await asyncpg.connect(database_url)
    for name in ("expired", "blocked"):
        await connection.execute(
            "UPDATE ledger.keys SET expires_at = now() - interval '1 second' WHERE key_id = $1", made[name]["key_id"]
        )
    await connection.close()
    for status in ("active", "expired", "blocked"):
        listed = (await proxy.get("/key/list", status=status)).json()["keys"]
        assert [key["key_id"] for key in listed] == [made[status]["key_id"]], status
    assert (await proxy.get("/key/list")).json()["total_count"] == 3


async def test_key_change_without_a_database_is_a_503_and_not_in_force(proxy: Proxy) -> None:
    key = await proxy.issue()
    await proxy.book.journals.close(5.0)
    answer = await proxy.post("/key/block", {"key": key["key"]})
    assert refusal(answer)[:2] == (503, "ledger_unavailable")
    assert answer.headers["retry-after"]
    assert (await proxy.get("/key/info", key["key"])).status_code == 200
