"""Prices by HTTP: listed, set, in force for the next attempt, withdrawn; each change an event with its actor."""

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from api.prices import PriceFollower, load_prices
from ledger.money.book import PriceBook
from ledger.postgres.connect import connect
from tests.support.routes import Proxy, refusal

_LAST_TWO = """
SELECT facts->>'actor' AS actor FROM ledger.events WHERE type = 'price.published' ORDER BY seq DESC LIMIT 2
"""
RATES = {"input_uncached": "0.000002", "output": "0.00001"}


@pytest.fixture(autouse=True)
async def priced(proxy: Proxy) -> None:
    """Load the price list, and follow it."""
    book = proxy.book
    book.prices = await load_prices(book.url, book.journals, book.projector, ())
    book.follow_prices(())


async def _prices(proxy: Proxy, **parameters: Any) -> list[dict[str, Any]]:
    answer = await proxy.get("/prices", **parameters)
    assert answer.status_code == 200, answer.text
    return answer.json()["prices"]


async def test_prices_are_listed_by_model_tier_and_moment(proxy: Proxy) -> None:
    (price,) = await _prices(proxy, model="gpt-4o-2024-08-06", tier="default")
    assert price["rates"]["input_uncached"] == [{"above_input_tokens": 0, "unit_price_usd": "0.0000025"}]
    assert (price["origin"], price["in_force"], price["revision"]) == ("list", True, 1)
    assert not await _prices(proxy, model="gpt-4o", tier="fast", at="2026-10-11")
    assert len(await _prices(proxy, model="gpt-4o", tier="fast", at="2026-10-13")) == 1
    assert (await proxy.get("/prices", size=3, page=2)).json()["total_count"] > 100


async def test_price_that_is_set_is_in_force_at_once_and_ends_when_withdrawn(proxy: Proxy) -> None:
    answer = await proxy.post("/prices/set", {"model": "gpt-4o", "input_cost_per_token": "0.000001"})
    assert answer.status_code == 200, answer.text
    made = answer.json()
    assert (made["origin"], made["in_force"], made["source"]) == ("override", True, "set by master")
    assert made["rates"]["output"] == [{"above_input_tokens": 0, "unit_price_usd": "0.00001"}]
    assert [price["in_force"] for price in await _prices(proxy, model="gpt-4o", origin="list", tier="default")] == [
        False
    ]
    ended = await proxy.post("/prices/withdraw", {"price_id": made["price_id"]})
    assert (ended.status_code, ended.json()["in_force"], ended.json()["revision"]) == (200, False, 2)
    assert [price["in_force"] for price in await _prices(proxy, model="gpt-4o", origin="list", tier="default")] == [
        True
    ]
    connection = await connect(proxy.book.url, purpose="test")
    try:
        rows = await connection.fetch(_LAST_TWO)
    finally:
        connection.terminate()
    assert [row["actor"] for row in rows] == ["master", "master"]


@pytest.mark.parametrize(
    ("body", "told"),
    [
        ({"model": "gpt-9", "rates": {"output": "1"}}, "a first price needs"),
        ({"model": "gpt-4o", "rates": {"output": "0.0000000000001"}}, "more than 12 decimals"),
        ({"model": "gpt-4o", "rates": {"output": "-1"}}, "between 0 and 100"),
        ({"model": "gpt-4o", "rates": {"outputs": "1"}}, "unknown meter"),
        ({"model": "gpt-4o", "cost": "1"}, "is not known here"),
        ({}, "model: expected a text"),
    ],
)
async def test_price_that_cannot_be_published_is_refused_and_not_recorded(
    proxy: Proxy, body: dict[str, Any], told: str
) -> None:
    answer = await proxy.post("/prices/set", body)
    assert refusal(answer)[:2] == (400, "invalid_price")
    assert told in answer.json()["error"]["message"]
    assert not await _prices(proxy, origin="override")


async def test_price_of_rivals_is_set_by_one_of_them(proxy: Proxy) -> None:
    body = {"model": "gpt-9", "rates": RATES, "valid_from": "2026-01-01T00:00:00Z"}
    rivals = [{**body, "rates": {**RATES, "output": f"0.00000{n}"}} for n in range(1, 5)]
    answers = await asyncio.gather(*(proxy.post("/prices/set", rival) for rival in rivals))
    statuses = sorted(answer.status_code for answer in answers)
    assert statuses[0] == 200
    assert set(statuses) <= {200, 409}
    assert len(await _prices(proxy, model="gpt-9")) == 1


async def test_price_set_elsewhere_is_followed(proxy: Proxy) -> None:
    other: list[Any] = []
    follower = PriceFollower(proxy.book.url, (), other.append)
    await follower.refresh()
    await proxy.post("/prices/set", {"model": "gpt-9", "rates": RATES})
    await follower.refresh()
    await follower.refresh()
    assert [bool(book.matching("gpt-9")) for book in other] == [False, True]
    follower.close()


async def test_prices_are_not_read_again_for_what_changes_no_price(proxy: Proxy) -> None:
    used: list[Any] = []
    follower = PriceFollower(proxy.book.url, (), used.append)
    await follower.refresh()
    await proxy.post("/key/generate", {"key_alias": "other news"})
    await proxy.book.projector.catch_up()
    await follower.refresh()
    assert len(used) == 1
    follower.close()


async def _publish(proxy: Proxy, facts: dict[str, Any]) -> None:
    position = await proxy.book.journals.publish("price.published", [facts])
    assert position is not None
    await proxy.book.projector.passed("prices", position.journal_id, position.seq)


async def test_price_of_another_version_is_named_once_and_prices_stay_until_all_can_be_read(
    proxy: Proxy, caplog: pytest.LogCaptureFixture
) -> None:
    used: list[PriceBook] = []
    follower = PriceFollower(proxy.book.url, (), used.append)
    await follower.refresh()
    price = replace(used[0].matching("gpt-4o")[0], model="gpt-9").to_facts()
    await _publish(proxy, {"actor": "proxy", "revision": 1, "price": {**price, "rates": {"thoughts": []}}})
    # A change beside it does not hold either: prices are taken up together.
    assert (await proxy.post("/prices/set", {"model": "gpt-8", "rates": RATES})).status_code == 200
    for _ in range(3):
        await follower.refresh()
    assert (len(used), follower.unreadable, proxy.book.unreadable_prices) == (1, 1, 1)
    said = [record.getMessage() for record in caplog.records if record.name == "api.prices"]
    assert said == [said[0]] * 2  # this follower's, and that of the proxy's book
    assert f"the price of 'gpt-9' ('{price['tier']}') from {price['valid_from']}, " in said[0]
    assert f", {price['price_id']} cannot be read: unknown meters ['thoughts']" in said[0]
    readiness = await proxy.get("/health/readiness", None)
    assert (readiness.status_code, readiness.json()["failing"]) == (200, ["unreadable prices"])
    await _publish(proxy, {"actor": "proxy", "revision": 2, "price": price})
    await follower.refresh()
    assert follower.unreadable == 0
    assert {"gpt-8", "gpt-9"} <= {price.model for price in used[-1].prices}
    await proxy.book.refresh_prices()
    assert not proxy.book.failing()
    follower.close()
