"""The request log and the spend report over HTTP: exact, in agreement with each other, and each key its own."""

import json
from decimal import Decimal
from typing import Any

import asyncpg

from ledger.postgres.connect import engine
from tests.support.routes import Proxy, days, make_call, numbers_of, refusal

CHUNK = [b"data: x\n\n"]
PERIOD = {"start_date": days(-1), "end_date": days(1)}
CURSOR = "x-llm-next-cursor"


async def small_book(proxy: Proxy) -> dict[str, str]:
    """Calls of two keys and the master: billed, estimated, unknown; with tags and end users."""
    first, second = await proxy.issue(key_alias="first", team_id="red"), await proxy.issue(key_alias="second")
    one: dict[str, Any] = {"key_id": first["key_id"], "team": "red"}
    await make_call(proxy, CHUNK, usd="0.000000000001", end_user="eve", tags=["a", "b"], **one)
    await make_call(proxy, CHUNK, usd="0.3", state="estimated", end_user="eve", model="gpt-5-mini", **one)
    await make_call(proxy, CHUNK, usd=None, tags=["b"], **one)
    await make_call(proxy, CHUNK, usd="10000000.5", end_user="bob", key_id=second["key_id"])
    await make_call(proxy, CHUNK, usd="0.0000001")
    await proxy.fold()
    return {"first": first["key"], "first_id": first["key_id"], "second": second["key"], "second_id": second["key_id"]}


async def test_spend_of_another_key_is_not_seen(proxy: Proxy) -> None:
    names = await small_book(proxy)
    logs = numbers_of(await proxy.get("/spend/logs", names["first"]))
    assert len(logs) == 3
    assert {row["key_id"] for row in logs} == {names["first_id"]}
    for name in (names["second"], names["second_id"]):
        assert (await proxy.get("/spend/logs", names["first"], api_key=name)).json() == []
        report = await proxy.get("/global/spend/report", names["first"], api_key=name, **PERIOD)
        assert (report.json()["groups"], report.json()["total"]["calls"]) == ([], 0)
    for call in (await proxy.get("/spend/logs", names["second"])).json():
        assert (await proxy.get("/spend/logs", names["first"], request_id=call["request_id"])).json() == []
    assert refusal(await proxy.get("/customer/info", names["first"], end_user_id="bob"))[:2] == (
        404,
        "end_user_not_found",
    )


async def test_spend_log_row_has_our_names_and_litellms(proxy: Proxy) -> None:
    names = await small_book(proxy)
    answer = await proxy.get("/spend/logs", names["first"], end_user="eve", model="gpt-5")
    (row,) = numbers_of(answer)
    assert (row["billed_usd"], row["estimated_usd"], row["cost_state"]) == ("0.000000000001", "0", "billed")
    assert row["spend"] == Decimal("0.000000000001")
    assert '"spend":0.000000000001' in answer.text
    assert row["request_id"] == row["call_id"]
    assert (row["prompt_tokens"], row["completion_tokens"], row["total_tokens"]) == (11, 3, 14)
    assert (row["api_key"], row["end_user"], row["request_tags"]) == (names["first_id"], "eve", ["a", "b"])
    assert (row["model_id"], row["model_group"], row["team_id"]) == ("mock-gpt-5", "gpt-5", "red")
    assert row["startTime"] <= row["completionStartTime"]
    assert row["startTime"].endswith("Z")
    (unknown,) = numbers_of(await proxy.get("/spend/logs", unpriced="true"))
    assert (unknown["spend"], unknown["unknown_costs"], unknown["cost_state"]) == (None, 1, "unknown")


async def test_spend_sums_are_the_same_on_every_endpoint(proxy: Proxy) -> None:
    names = await small_book(proxy)
    logs = numbers_of(await proxy.get("/spend/logs", **PERIOD))
    spent = sum(row["spend"] for row in logs if row["spend"] is not None)
    assert spent == Decimal("10000000.800000100001")
    for group_by in ("key", "end_user", "model", "team", "org", "user", "deployment", "tier"):
        report = numbers_of(await proxy.get("/global/spend/report", group_by=group_by, **PERIOD))
        assert sum(group["spend"] for group in report["groups"]) == report["total"]["spend"] == spent
        assert sum(Decimal(group["billed_usd"]) for group in report["groups"]) == Decimal("10000000.500000100001")
        assert sum(group["unknown_calls"] for group in report["groups"]) == 1 == sum(r["unknown_costs"] for r in logs)
        assert sum(group["calls"] for group in report["groups"]) == len(logs) == 5
    keys = numbers_of(await proxy.get("/key/list"))["keys"] + [numbers_of(await proxy.get("/key/info"))["info"]]
    assert sum(key["spend"] for key in keys) == spent
    users = [numbers_of(await proxy.get("/customer/info", end_user_id=name)) for name in ("eve", "bob")]
    named = sum(row["spend"] for row in logs if row["end_user"])
    assert sum(user["spend"] for user in users) == named
    tags = numbers_of(await proxy.get("/global/spend/report", group_by="tag", **PERIOD))
    assert tags["overlapping"] is True
    assert {group["tag"]: group["calls"] for group in tags["groups"]} == {"a": 1, "b": 2}
    own = numbers_of(await proxy.get("/global/spend/report", names["first"], **PERIOD))["total"]
    info = numbers_of(await proxy.get("/key/info", names["first"]))["info"]
    assert (own["spend"], own["unknown_calls"]) == (info["spend"], info["unknown_calls"])
    through_key = numbers_of(await proxy.get("/end_user/info", names["first"], end_user_id="eve"))
    assert (through_key["spend"], through_key["calls"]) == (Decimal("0.300000000001"), 2)


async def test_spend_filters_narrow_logs_and_report_alike(proxy: Proxy) -> None:
    names = await small_book(proxy)
    filters: list[tuple[dict[str, object], int]] = [
        ({"api_key": names["first"]}, 3),
        ({"key_id": names["second_id"]}, 1),
        ({"api_key": "sk-nobody-has-this-key"}, 0),
        ({"key_id": "master"}, 1),
        ({"end_user": "eve"}, 2),
        ({"end_user": ""}, 2),
        ({"tag": "b"}, 2),
        ({"model": "gpt-5-mini"}, 1),
        ({"team_id": "red"}, 3),
        ({"end_user": "eve", "tag": "a"}, 1),
    ]
    for query, count in filters:
        logs = numbers_of(await proxy.get("/spend/logs", **query, **PERIOD))
        report = numbers_of(await proxy.get("/global/spend/report", **query, **PERIOD))
        assert (len(logs), report["total"]["calls"]) == (count, count), query
    (row,) = (await proxy.get("/spend/logs", end_user="bob")).json()
    for query in ({"request_id": row["call_id"]}, {"call_id": row["response_id"]}, {"response_id": row["response_id"]}):
        assert [each["call_id"] for each in (await proxy.get("/spend/logs", **query)).json()] == [row["call_id"]]
    assert len((await proxy.get("/spend/logs", status="completed", estimated="true")).json()) == 1
    for status, count in (("success", 5), ("failure", 0)):
        assert (await proxy.get("/spend/logs/v2", status_filter=status)).json()["total"] == count
    assert (await proxy.get("/spend/logs", end_date=days(-1))).json() == []
    assert len((await proxy.get("/spend/logs", start_date=days(0), end_date=days(0))).json()) == 5


async def _all_pages(proxy: Proxy, limit: int, between: Any = None) -> list[str]:
    found: list[str] = []
    query: dict[str, object] = {"limit": limit}
    while True:
        answer = await proxy.get("/spend/logs", **query)
        found += [row["call_id"] for row in answer.json()]
        if CURSOR not in answer.headers:
            return found
        query["cursor"] = answer.headers[CURSOR]
        if between is not None:
            await between()


async def test_spend_cursor_neither_repeats_nor_loses_while_calls_are_added(proxy: Proxy) -> None:
    made = [str(await make_call(proxy, CHUNK)) for _ in range(7)]
    await proxy.fold()

    async def between() -> None:
        await make_call(proxy, CHUNK)
        await proxy.fold()

    assert await _all_pages(proxy, 3, between) == made[::-1]
    everything = await _all_pages(proxy, 100)
    assert len(everything) == 9
    assert await _all_pages(proxy, 1) == everything
    assert await _all_pages(proxy, 9) == everything


async def test_spend_parameter_that_is_wrong_is_refused_by_name(proxy: Proxy) -> None:
    refused: list[tuple[str, dict[str, str], str]] = [
        ("/spend/logs", {"end_usr": "eve"}, "end_usr"),
        ("/spend/logs", {"start_date": "yesterday"}, "start_date"),
        ("/spend/logs", {"start_date": "2026-02-30"}, "start_date"),
        ("/spend/logs", {"start_date": "20261122"}, "start_date"),
        ("/spend/logs", {"start_date": "2026-11-22", "end_date": "2026-11-21"}, "end_date"),
        ("/spend/logs", {"limit": "1001"}, "limit"),
        ("/spend/logs", {"limit": "ten"}, "limit"),
        ("/spend/logs", {"cursor": "nonsense"}, "cursor"),
        ("/spend/logs", {"status": "done"}, "status"),
        ("/spend/logs", {"call_id": "x"}, "call_id"),
        ("/spend/logs", {"unpriced": "maybe"}, "unpriced"),
        ("/spend/logs", {"summarize": "true"}, "start_date"),
        ("/spend/logs", {"end_user": "a\x00b"}, "end_user"),
        ("/spend/logs", {"team": "a", "team_id": "b"}, "team_id"),
        ("/global/spend/report", {}, "start_date"),
        ("/global/spend/report", {"start_date": "2026-11-22"}, "end_date"),
        ("/global/spend/report", {**PERIOD, "group_by": "teem"}, "group_by"),
        ("/global/spend/report", {**PERIOD, "limit": "0"}, "limit"),
        ("/customer/info", {}, "end_user_id"),
        ("/ledger/events", {"after": "x"}, "after"),
        ("/ledger/events", {"journal_id": "x"}, "journal_id"),
    ]
    for path, query, param in refused:
        assert refusal(await proxy.get(path, **query))[::2] == (400, param), (path, query)


async def test_spend_parameter_misspelt_is_answered_with_what_is_accepted(proxy: Proxy) -> None:
    message = (await proxy.get("/spend/logs", end_usr="eve")).json()["error"]["message"]
    assert "did you mean end_user" in message
    assert "start_date" in message
    async with proxy.client() as client:
        twice = await client.get("/spend/logs?tag=a&tag=b")
    assert refusal(twice)[0] == 400
    message = (await proxy.get("/global/spend/report", group_by="teem", **PERIOD)).json()["error"]["message"]
    assert "did you mean team?" in message


async def test_spend_report_too_slow_for_its_timeout_is_a_503(proxy: Proxy) -> None:
    await proxy.context.reads.dispose()
    proxy.context.reads = engine(proxy.book.url, purpose="slow", statement_timeout="200ms", pool_size=1)
    connection = await asyncpg.connect(proxy.book.url)
    transaction = connection.transaction()
    await transaction.start()
    await connection.execute("LOCK TABLE ledger.spend IN ACCESS EXCLUSIVE MODE")
    answer = await proxy.get("/global/spend/report", **PERIOD)
    await transaction.rollback()
    await connection.close()
    assert refusal(answer)[:2] == (503, "ledger_unavailable")
    assert "shorter period" in json.loads(answer.content)["error"]["message"]
