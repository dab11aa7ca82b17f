"""Usage and costs in OpenAI's shape: exact, page after page, each key its own, and equal to every other sum."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from api.routes import organization
from api.routes.organization_shapes import CompletionsPage, CostsPage
from tests.support.routes import Proxy, days, make_call, numbers_of, refusal

CHUNK = [b"data: x\n\n"]
USAGE = "/v1/organization/usage/completions"
COSTS = "/v1/organization/costs"
DAY_S = 86_400
SPENT = Decimal("10000000.800000100001")


def today() -> int:
    """Return the beginning of this day (UTC), in Unix seconds."""
    return int(datetime.now(UTC).timestamp()) // DAY_S * DAY_S


async def small_book(proxy: Proxy) -> dict[str, str]:
    """Calls of two keys and the master: billed, estimated, unknown; with tags and end users."""
    first = await proxy.issue(key_alias="first")
    second = await proxy.issue(key_alias="second")
    one: dict[str, Any] = {"key_id": first["key_id"], "team": "red", "user": "ann"}
    await make_call(proxy, CHUNK, usd="0.000000000001", end_user="eve, of Acme", tags=["a", "b"], **one)
    await make_call(proxy, CHUNK, usd="0.3", state="estimated", end_user="eve, of Acme", model="gpt-5-mini", **one)
    await make_call(proxy, CHUNK, usd=None, tags=["b"], **one)
    await make_call(proxy, CHUNK, usd="10000000.5", end_user="bob", key_id=second["key_id"])
    await make_call(proxy, CHUNK, usd="0.0000001")
    await proxy.fold()
    return {"first": first["key"], "first_id": first["key_id"], "second": second["key"], "second_id": second["key_id"]}


async def results(proxy: Proxy, path: str, key: str | None = None, /, **query: object) -> list[dict[str, Any]]:
    """Ask for all buckets of today, page after page, and return their results."""
    found: list[dict[str, Any]] = []
    page: dict[str, object] = {}
    while True:
        keys = (key,) if key else ()
        answer = await proxy.get(path, *keys, start_time=today(), **query, **page)
        assert answer.status_code == 200, answer.text
        body = numbers_of(answer)
        (CompletionsPage if "usage" in path else CostsPage).model_validate_json(answer.content, extra="forbid")
        found += [result for bucket in body["data"] for result in bucket["results"]]
        if not body["has_more"]:
            assert body["next_page"] is None
            return found
        page = {"page": body["next_page"]}


def spent(found: list[dict[str, Any]]) -> Decimal:
    """Add up results of costs."""
    return sum((result["amount"]["value"] for result in found), Decimal(0))


async def test_organization_of_another_key_is_not_seen(proxy: Proxy) -> None:
    names = await small_book(proxy)
    (own,) = await results(proxy, USAGE, names["first"], group_by="api_key_id")
    assert (own["api_key_id"], own["num_model_requests"], own["num_unknown_costs"]) == (names["first_id"], 3, 1)
    assert spent(await results(proxy, COSTS, names["first"])) == Decimal("0.300000000001")
    assert spent(await results(proxy, COSTS, names["first"], group_by="line_item")) == Decimal("0.300000000001")
    for name in (names["second"], names["second_id"]):
        for path in (USAGE, COSTS):
            for width in ("1m", "1h", "1d") if path == USAGE else ("1d",):
                assert await results(proxy, path, names["first"], api_key_ids=name, bucket_width=width) == []
    assert await results(proxy, COSTS, names["first"], api_key_ids=names["second"], group_by="line_item") == []


async def test_organization_parameter_that_is_wrong_is_refused_by_name(proxy: Proxy) -> None:
    start = {"start_time": today()}
    refused: list[tuple[str, dict[str, object], str]] = [
        (USAGE, {}, "start_time"),
        (USAGE, {"start_time": "2026-11-22"}, "start_time"),
        (USAGE, {"start_time": -1}, "start_time"),
        (USAGE, {**start, "end_time": today()}, "end_time"),
        (USAGE, {**start, "bucket_width": "1w"}, "bucket_width"),
        (COSTS, {**start, "bucket_width": "1h"}, "bucket_width"),
        (USAGE, {**start, "limit": 32}, "limit"),
        (USAGE, {**start, "bucket_width": "1h", "limit": 169}, "limit"),
        (USAGE, {**start, "bucket_width": "1m", "limit": 1_441}, "limit"),
        (COSTS, {**start, "limit": 181}, "limit"),
        (USAGE, {**start, "group_by": "line_item"}, "group_by"),
        (USAGE, {**start, "group_by[]": "modle"}, "group_by"),
        (COSTS, {**start, "group_by": "model"}, "group_by"),
        (COSTS, {**start, "models": "gpt-5"}, "models"),
        (COSTS, {**start, "group_by": "line_item,end_user_id"}, "group_by"),
        (COSTS, {**start, "group_by": "line_item", "end_user_ids": "eve"}, "end_user_ids"),
        (COSTS, {**start, "line_items": "gpt-5, output_tokens", "tags": "a"}, "tags"),
        (COSTS, {**start, "group_by": "line_item", "unpriced": "true"}, "unpriced"),
        (COSTS, {**start, "interrupted": "maybe"}, "interrupted"),
        (USAGE, {**start, "batch": "maybe"}, "batch"),
        (USAGE, {**start, "project_id": "red"}, "project_id"),
        (USAGE, {**start, "user_ids": ",".join(map(str, range(101)))}, "user_ids"),
        (USAGE, {**start, "page": "page_nonsense"}, "page"),
        (USAGE, {**start, "page": "page_"}, "page"),
    ]
    for path, query, param in refused:
        assert refusal(await proxy.get(path, **query))[::2] == (400, param), (path, query)
    first = (await proxy.get(USAGE, start_time=today() - DAY_S, limit=1)).json()["next_page"]
    assert refusal(await proxy.get(USAGE, start_time=today() - DAY_S, bucket_width="1h", page=first))[2] == "page"
    assert refusal(await proxy.get(USAGE, start_time=today() + DAY_S, page=first))[2] == "page"


async def test_organization_bucket_with_too_many_groups_is_refused_and_several_are_cut(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    await small_book(proxy)
    monkeypatch.setattr(organization, "RESULTS_MAX", 2)
    many = await proxy.get(USAGE, start_time=today(), group_by="end_user_id")
    assert refusal(many)[::2] == (400, "group_by")
    assert "end_user_ids" in many.json()["error"]["message"]
    # Two groups fit: the page ends where the next bucket would not, and the empty ones before it are shown.
    body = (await proxy.get(USAGE, start_time=today() - 3 * DAY_S, group_by="model")).json()
    assert (len(body["data"]), body["has_more"]) == (4, False)
    assert len(body["data"][-1]["results"]) == 2


async def test_usage_pages_hold_every_bucket_once_with_empty_ones(proxy: Proxy) -> None:
    await small_book(proxy)
    start, end = today() - 9 * DAY_S + 5, today() + 5
    whole = (await proxy.get(USAGE, start_time=start, end_time=end, limit=31)).json()
    assert [bucket["start_time"] for bucket in whole["data"]] == [today() - n * DAY_S for n in range(9, -1, -1)]
    assert all(bucket["end_time"] - bucket["start_time"] == DAY_S for bucket in whole["data"])
    assert [len(bucket["results"]) for bucket in whole["data"]] == [0] * 9 + [1]
    for limit in (1, 3, 4, 10):
        found, page = [], {}
        while True:
            body = (await proxy.get(USAGE, start_time=start, end_time=end, limit=limit, **page)).json()
            assert len(body["data"]) <= limit
            found += body["data"]
            if not body["has_more"]:
                break
            page = {"page": body["next_page"]}
        assert found == whole["data"]
    usual = (await proxy.get(USAGE, start_time=start)).json()
    assert (len(usual["data"]), usual["has_more"]) == (7, True)
    later = (await proxy.get(COSTS, start_time=today() + 5 * DAY_S)).json()
    assert later == {"object": "page", "data": [], "has_more": False, "next_page": None}
    far = (await proxy.get(COSTS, start_time=today(), end_time=today() + 50 * DAY_S, limit=180)).json()
    assert (len(far["data"]), far["has_more"]) == (1, False)


async def test_usage_result_says_what_is_known_and_null_for_the_rest(proxy: Proxy) -> None:
    await make_call(proxy, CHUNK, usd="0.3", team="red", end_user="eve")
    await proxy.fold()
    unknown = (
        "input_text_tokens", "input_audio_tokens", "input_image_tokens", "input_cached_text_tokens",
        "input_cached_audio_tokens", "input_cached_image_tokens", "output_text_tokens", "output_audio_tokens",
        "output_image_tokens",
    )  # fmt: skip
    plain: dict[str, Any] = {
        "object": "organization.usage.completions.result", "input_tokens": 11, "output_tokens": 3,
        "num_model_requests": 1, "input_cached_tokens": 4, "input_uncached_tokens": 7, "input_cache_write_tokens": 0,
        "input_cache_write_30m_tokens": 0, "input_cache_write_12h_tokens": 0, **dict.fromkeys(unknown),
        "project_id": None, "user_id": None, "api_key_id": None, "model": None, "batch": None, "service_tier": None,
        "api_source": None, "end_user_id": None, "num_unknown_costs": 0,
    }  # fmt: skip
    for width in ("1d", "1h", "1m"):
        assert await results(proxy, USAGE, bucket_width=width, limit=31) == [plain]
        grouped = await results(
            proxy,
            "/organization/usage/completions",
            bucket_width=width,
            group_by="project_id,user_id,api_key_id, model,batch,service_tier,api_source,end_user_id",
        )
        assert grouped == [
            plain | {
                "project_id": "red", "api_key_id": "master", "model": "gpt-5", "batch": False,
                "service_tier": "default", "api_source": "unlabeled", "end_user_id": "eve",
            }
        ]  # fmt: skip
    assert await results(proxy, USAGE, batch="true") == []
    assert await results(proxy, USAGE, batch="false") == [plain]


async def test_usage_groups_and_widths_add_up_to_the_same(proxy: Proxy) -> None:
    names = await small_book(proxy)
    groups = ("project_id", "user_id", "api_key_id", "model", "service_tier", "end_user_id", "batch", "api_source")
    for width in ("1d", "1h", "1m"):
        for group_by in ("", *groups, "model,end_user_id"):
            query = {"group_by": group_by} if group_by else {}
            found = await results(proxy, USAGE, bucket_width=width, **query)
            for name, total in (("num_model_requests", 5), ("input_tokens", 44), ("num_unknown_costs", 1)):
                assert sum(result[name] for result in found) == total, (width, group_by)
    filters: list[tuple[dict[str, object], int]] = [
        ({"api_key_ids[]": names["first"]}, 3),
        ({"api_key_ids": f"{names['first']},{names['second_id']}"}, 4),
        ({"api_key_ids": "sk-nobody-has-this-key"}, 0),
        ({"project_ids": "red"}, 3),
        ({"project_ids": ""}, 2),
        ({"user_ids[]": "ann"}, 3),
        ({"models": "gpt-5-mini"}, 1),
        ({"end_user_ids": "eve, of Acme"}, 2),
        ({"end_user_ids": "bob"}, 1),
        ({"tags": "b"}, 2),
        ({"tags": "a", "models": "gpt-5-mini"}, 0),
        ({"unpriced": "true"}, 1),
        ({"estimated": "true"}, 1),
        ({"estimated": "true", "end_user_ids": "bob"}, 0),
        ({"unpriced": "true", "estimated": "true"}, 0),
        ({"interrupted": "true"}, 0),
        ({"interrupted": "false", "tags": "b"}, 2),
    ]
    for query, count in filters:
        for width in ("1d", "1h", "1m"):
            found = await results(proxy, USAGE, bucket_width=width, **query)
            assert sum(result["num_model_requests"] for result in found) == count, (width, query)


async def test_list_parameter_is_read_in_every_spelling(proxy: Proxy) -> None:
    await small_book(proxy)
    asked = (
        "group_by[]=model&group_by[]=project_id",
        "group_by=model&group_by=project_id",
        "group_by=model,project_id",
    )
    async with proxy.client() as client:
        bodies = [(await client.get(f"{USAGE}?start_time={today()}&{query}")).json()["data"] for query in asked]
    assert bodies[0] == bodies[1] == bodies[2]
    assert len(bodies[0][0]["results"]) == 3


async def test_costs_are_exact_and_agree_with_every_other_sum(proxy: Proxy) -> None:
    names = await small_book(proxy)
    report = numbers_of(await proxy.get("/global/spend/report", start_date=days(0), end_date=days(0)))
    assert report["total"]["spend"] == SPENT
    groups = ("", "project_id", "user_id", "api_key_id", "end_user_id", "line_item", "api_source")
    for group_by in (*groups, "line_item,project_id,user_id,api_key_id"):
        found = await results(proxy, COSTS, **({"group_by": group_by} if group_by else {}))
        assert spent(found) == SPENT, group_by
        assert sum(result["num_unknown_costs"] for result in found) == 1
    answer = await proxy.get(COSTS, start_time=today())
    assert '"value":10000000.800000100001' in answer.text
    (whole,) = await results(proxy, COSTS)
    assert whole["amount"] == {"value": SPENT, "currency": "usd", "estimated_value": Decimal("0.3")}
    assert whole["line_item"] is whole["quantity"] is whole["quantity_unit"] is whole["api_source"] is None
    by_key = {result["api_key_id"]: result for result in await results(proxy, COSTS, group_by="api_key_id")}
    assert by_key[names["second_id"]]["amount"]["value"] == Decimal("10000000.5")
    by_user = {result["end_user_id"]: result for result in await results(proxy, COSTS, group_by="end_user_id")}
    assert by_user["eve, of Acme"]["amount"]["value"] == Decimal("0.300000000001")
    assert by_user[None]["num_unknown_costs"] == 1


async def test_costs_by_line_item_name_model_and_meter(proxy: Proxy) -> None:
    await small_book(proxy)
    found = {result["line_item"]: result for result in await results(proxy, COSTS, group_by="line_item")}
    assert set(found) == {"gpt-5, input_tokens", "gpt-5-mini, input_tokens", "gpt-5, unknown"}
    assert found["gpt-5, unknown"]["num_unknown_costs"] == 1
    assert found["gpt-5, unknown"]["amount"]["value"] == 0
    assert found["gpt-5, unknown"]["quantity"] is None
    item = found["gpt-5-mini, input_tokens"]
    assert (item["amount"]["value"], item["quantity"], item["quantity_unit"]) == (Decimal("0.3"), 11, "tokens")
    assert spent(await results(proxy, COSTS, estimated="true")) == Decimal("0.3")
    only = await results(proxy, COSTS, **{"line_items[]": "gpt-5-mini, input_tokens", "group_by": "line_item"})
    assert only == [item]
    assert spent(await results(proxy, COSTS, line_items="gpt-5-mini, input_tokens")) == Decimal("0.3")
    assert await results(proxy, COSTS, line_items="gpt-5-mini") == []
