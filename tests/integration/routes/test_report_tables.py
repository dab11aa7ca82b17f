"""Tables as CSV, streamed; numbered pages and days of the log; turns of reports; what a request would cost."""

import asyncio
import csv
import io
from typing import Any

import asyncpg
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from api.routes import activity, global_spend, reading, spend
from ledger.postgres.connect import engine
from ledger.reports.spend import SpendReport, spend_report
from tests.support.routes import MASTER_KEY, Proxy, days, make_call, numbers_of, proxy_at, refusal

CHUNK = [b"data: x\n\n"]
PERIOD = {"start_date": days(-1), "end_date": days(1)}
CALLS = 2_500


async def _many_calls(proxy: Proxy) -> None:
    connection = await asyncpg.connect(proxy.book.url)
    await connection.execute(
        "INSERT INTO ledger.calls (call_id, journal_id, received_at, key_id, end_user, billed_usd, model)"
        " SELECT gen_random_uuid(), gen_random_uuid(), now() - n * interval '1 ms', 'key-' || n % 3,"
        " '=cmd|' || n % 50, n * 0.000001, 'gpt-5' FROM generate_series(1, $1::integer) AS n",
        CALLS,
    )
    await connection.close()


def _table(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text, newline="")))


async def test_log_as_csv_has_every_call_and_no_formula(proxy: Proxy) -> None:
    await _many_calls(proxy)
    async with proxy.client() as client:
        answer = await client.get("/spend/logs", headers={"accept": "text/csv"})
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["content-disposition"] == 'attachment; filename="spend-logs.csv"'
    rows = _table(answer.text)
    assert len({row["call_id"] for row in rows}) == CALLS
    assert {row["end_user"][:2] for row in rows} == {"'="}
    page = await proxy.get("/spend/logs", format="csv", limit="7")
    assert [row["call_id"] for row in _table(page.text)] == [row["call_id"] for row in rows[:7]]
    assert "x-llm-next-cursor" in page.headers
    own = await proxy.issue()
    assert _table((await proxy.get("/spend/logs", own["key"], format="csv")).text) == []
    assert refusal(await proxy.get("/spend/logs", format="xml"))[::2] == (400, "format")


async def test_log_as_csv_is_sent_while_it_is_read(proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    await _many_calls(proxy)
    made = 0
    shown = spend.shown_log_row

    def count(row: dict[str, Any]) -> dict[str, Any]:
        nonlocal made
        made += 1
        return shown(row)

    monkeypatch.setattr(spend, "shown_log_row", count)
    made_before_sent: list[int] = []

    async def send(message: dict[str, Any]) -> None:
        if message["type"] == "http.response.body" and message["body"]:
            made_before_sent.append(made)

    async def receive() -> dict[str, Any]:
        await asyncio.Event().wait()
        return {}

    scope = {
        "type": "http", "method": "GET", "path": "/spend/logs", "raw_path": b"/spend/logs",
        "query_string": b"format=csv",
        "headers": [(b"authorization", f"Bearer {MASTER_KEY}".encode())], "http_version": "1.1", "scheme": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"}, "server": None, "client": None, "root_path": "",
    }  # fmt: skip
    await proxy.web(scope, receive, send)  # pyright: ignore[reportArgumentType] - enough of ASGI
    assert made == CALLS
    assert made_before_sent[0] < CALLS / 4
    assert len(made_before_sent) > 4


async def test_log_by_page_is_sorted_and_counted(proxy: Proxy) -> None:
    await _many_calls(proxy)
    first = numbers_of(await proxy.get("/spend/logs/v2", sort_by="spend", page_size="3", **PERIOD))
    assert (first["total"], first["total_pages"], first["page"]) == (CALLS, -(-CALLS // 3), 1)
    spends = [row["spend"] for row in first["data"]]
    assert spends == sorted(spends, reverse=True)
    second = numbers_of(await proxy.get("/spend/logs/ui", sort_by="spend", sort_order="asc", page="2", page_size="3"))
    assert [str(row["spend"]) for row in second["data"]] == ["0.000004", "0.000005", "0.000006"]
    narrow = numbers_of(await proxy.get("/spend/logs/v2", min_spend="0.000002", max_spend="0.000004"))
    assert narrow["total"] == 3
    for query, param in (
        ({"page": "100000", "page_size": "1000"}, "page"),
        ({"sort_by": "colour"}, "sort_by"),
        ({"min_spend": "-1"}, "min_spend"),
        ({"min_spend": "1e400"}, "min_spend"),
    ):
        assert refusal(await proxy.get("/spend/logs/v2", **query))[::2] == (400, param)


async def test_days_of_the_log_have_spend_by_model_and_user(proxy: Proxy) -> None:
    await make_call(proxy, CHUNK, usd="0.25", user="ann")
    await make_call(proxy, CHUNK, usd="0.5", model="gpt-5-mini", user="ann")
    await make_call(proxy, CHUNK, usd=None)
    await proxy.fold()
    (day,) = numbers_of(await proxy.get("/spend/logs", summarize="true", **PERIOD))
    assert (day["spend"], day["unknown_calls"]) == (0.75, 1)
    assert day["models"] == {"gpt-5": 0.25, "gpt-5-mini": 0.5}
    assert day["users"] == {"ann": 0.75, "": 0}
    (unpriced,) = numbers_of(await proxy.get("/spend/logs", summarize="true", unpriced="true", **PERIOD))
    assert (unpriced["calls"], unpriced["spend"]) == (1, 0)
    refused = await proxy.get("/spend/logs", summarize="true", status="failed", **PERIOD)
    assert refusal(refused)[::2] == (400, "status")


async def test_report_by_several_dimensions_and_day(proxy: Proxy) -> None:
    await make_call(proxy, CHUNK, usd="0.25", team="red")
    await make_call(proxy, CHUNK, usd="0.5", team="blue", model="gpt-5-mini")
    await proxy.fold()
    query = {"group_by": "team,model", "interval": "day", **PERIOD}
    report = numbers_of(await proxy.get("/global/spend/report", **query))
    assert [(group["team"], group["model"], group["spend"]) for group in report["groups"]] == [
        ("blue", "gpt-5-mini", 0.5),
        ("red", "gpt-5", 0.25),
    ]
    assert {group["bucket"] for group in report["groups"]} == {f"{days(0)}T00:00:00.000000Z"}
    twice = await proxy.get("/global/spend/report", group_by="key,api_key", **PERIOD)
    assert refusal(twice)[::2] == (400, "group_by")


async def test_flood_of_slow_reports_is_refused_and_holds_up_neither_keys_nor_calls(
    database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "WAITING_MAX", 3)
    monkeypatch.setattr(reading, "_WAIT_S", 120.0)

    async def slow(reads: AsyncConnection, **asked: Any) -> SpendReport:
        """A statement that takes until the lock is given up, on the report's own connection."""
        await reads.execute(text("SELECT pg_advisory_xact_lock_shared(1)"))
        return await spend_report(reads, **asked)

    monkeypatch.setattr(global_spend, "spend_report", slow)
    # Reports and key changes share this pool; calls do not use it at all.
    reads = engine(database_url, purpose="reports", statement_timeout="120s", pool_size=6)
    connection = await asyncpg.connect(database_url)
    await connection.execute("SELECT pg_advisory_lock(1)")
    async with proxy_at(database_url, reads) as proxy:
        flood = [asyncio.create_task(proxy.get("/global/spend/report", **PERIOD)) for _ in range(12)]
        refused = 0
        while refused < 12 - 3 - reading.REPORTS_MAX:
            done, _ = await asyncio.wait(flood, return_when=asyncio.FIRST_COMPLETED)
            flood = [task for task in flood if task not in done]
            for task in done:
                answer = task.result()
                assert refusal(answer)[:2] == (503, "ledger_unavailable")
                assert answer.headers["retry-after"]
                refused += 1
        issued = await proxy.issue(key_alias="meanwhile")
        assert (await proxy.post("/key/block", {"key": issued["key"]})).status_code == 200
        await make_call(proxy, CHUNK)
        assert not any(task.done() for task in flood)
        await connection.close()
        assert {answer.status_code for answer in await asyncio.gather(*flood)} == {200}


async def test_calculate_prices_a_request_and_an_answer_and_records_nothing(proxy: Proxy) -> None:
    usage = {
        "input_tokens": 1_000, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 10,
        "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 1_010,
    }  # fmt: skip
    answer = {"object": "response", "model": "no-such-model", "service_tier": "default", "usage": usage, "output": []}
    unknown = numbers_of(await proxy.post("/spend/calculate", {"response": answer}))
    assert (unknown["cost"], unknown["unknown_calls"], unknown["state"]) == (None, 1, "unknown")
    chat = {
        "prompt_tokens": 1_000, "prompt_tokens_details": {"cached_tokens": 400, "audio_tokens": 0},
        "completion_tokens": 10, "completion_tokens_details": {"reasoning_tokens": 4}, "total_tokens": 1_010,
    }  # fmt: skip
    quoted = numbers_of(await proxy.post("/spend/calculate", {"completion_response": answer | {"usage": chat}}))
    # It could be read: what is missing is the price alone.
    assert quoted["reason"] == unknown["reason"] == "no price is known for model 'no-such-model'"
    for body, param in (
        ({}, "input"),
        ({"input": "hi"}, "model"),
        ({"model": "gpt-5", "input": "a", "messages": []}, "input"),
        ({"model": "gpt-5", "input": 3}, "input"),
        ({"response": []}, "response"),
        ({"model": 3, "input": "a"}, "model"),
        ({"modle": "gpt-5", "input": "a"}, "modle"),
    ):
        assert refusal(await proxy.post("/spend/calculate", body))[::2] == (400, param), body
    assert (await proxy.get("/spend/logs")).json() == []


async def test_customer_list_is_paged_by_name_and_a_keys_own(proxy: Proxy) -> None:
    own = await proxy.issue()
    for name in ("bärbel", "anna", "100%"):
        await make_call(proxy, CHUNK, usd="1", end_user=name)
    await make_call(proxy, CHUNK, usd="2", end_user="anna", key_id=own["key_id"])
    await proxy.fold()
    found: list[str] = []
    query: dict[str, str] = {"limit": "1"}
    while True:
        answer = await proxy.get("/customer/list", **query)
        found += [row["user_id"] for row in answer.json()]
        if "x-llm-next-cursor" not in answer.headers:
            break
        query["cursor"] = answer.headers["x-llm-next-cursor"]
    assert found == ["100%", "anna", "bärbel"]
    (mine,) = numbers_of(await proxy.get("/end_user/list", own["key"]))
    assert (mine["user_id"], mine["spend"]) == ("anna", 2)


async def test_daily_activity_of_more_names_than_an_answer_holds_is_refused_for_good(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("ann", "bob"):
        await make_call(proxy, CHUNK, usd="1", end_user=name)
    await proxy.fold()
    monkeypatch.setattr(activity, "GROUPS_MAX", 1)
    refused = await proxy.get("/customer/daily/activity", **PERIOD)
    assert refusal(refused)[::2] == (400, "start_date")
    assert "retry-after" not in refused.headers


async def test_daily_activity_of_tags_shows_those_asked_for_only(proxy: Proxy) -> None:
    await make_call(proxy, CHUNK, usd="1", tags=["a", "b"])
    await make_call(proxy, CHUNK, usd="2", tags=["c"])
    await make_call(proxy, CHUNK, usd="4")
    await proxy.fold()
    answer = numbers_of(await proxy.get("/tag/daily/activity", tags="a,c", **PERIOD))
    (day,) = answer["results"]
    assert {name: each["metrics"]["spend"] for name, each in day["breakdown"]["entities"].items()} == {"a": 1, "c": 2}
    assert (day["metrics"]["spend"], day["metrics"]["api_requests"]) == (3, 2)
