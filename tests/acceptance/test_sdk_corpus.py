"""Every recorded answer of OpenAI through the SDK: the object that the openai package makes of the same bytes."""

import asyncio
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import openai
import pytest

import llm
from ledger.money.answer import charge_answer
from ledger.money.book import PriceBook
from ledger.money.request import read_request
from ledger.money.seed import seed_prices
from tests.acceptance.test_corpus import coding_of
from tests.support.corpus import Row, recorded_rows
from tests.support.sdk import fresh_sdk, same
from tests.support.upstream import Answer, Received, Recording, Upstream, recorded

AT_ONCE = 8


@pytest.fixture(autouse=True)
def _new() -> Iterator[None]:
    with fresh_sdk():
        yield


def answer(row: Recording, received: Received) -> Answer:
    assert isinstance(row, Row)
    return recorded(row, seed=int(received.wish("row") or 0), pieces=3, encoding=coding_of(row))


async def events_of(stream: Any) -> tuple[list[Any], str]:
    """The events of a stream, and the name of the error that ended it."""
    events: list[Any] = []
    try:
        async for event in stream:
            events.append(event)  # noqa: PERF401 - what came before an error is wanted
    except openai.APIError as error:
        return events, f"{type(error).__name__}: {error}"
    return events, ""


@pytest.mark.corpus
@pytest.mark.slow
async def test_each_recorded_answer_is_what_the_openai_package_reads_and_costs_what_the_price_function_says() -> None:
    rows = [
        row for row in recorded_rows() if (row.method, row.path, row.status or 200) == ("POST", "/v1/responses", 200)
    ]
    counts: Counter[str] = Counter()
    turn = asyncio.Semaphore(AT_ONCE)
    prices = PriceBook(seed_prices())
    async with Upstream(rows=dict(enumerate(rows))) as upstream:
        upstream.row_answer = answer
        base = f"{upstream.url}/v1"
        llm.configure(api_base=base, api_key="sk-mine", num_retries=0)
        async with openai.AsyncOpenAI(base_url=base, api_key="sk-mine", max_retries=0) as package:

            async def compare(number: int, row: Row) -> None:
                request: dict[str, Any] = dict(row.request_body or {})
                headers = {"x-row": str(number)}
                if coding_of(row) in {"br", "zstd"}:
                    headers["accept-encoding"] = str(coding_of(row))
                async with turn:
                    ours: Any = await llm.aresponses(**request, extra_headers=headers)
                    known: dict[str, Any] = {"model": request["model"], "stream": row.stream, "extra_body": request}
                    theirs: Any = await package.responses.create(**known, extra_headers=headers)
                    if row.stream:
                        (our_events, our_end), (their_events, their_end) = (
                            await events_of(ours),
                            await events_of(theirs),
                        )
                        assert len(our_events) == len(their_events), row.label
                        assert all(map(same, our_events, their_events)), row.label
                        assert our_end == their_end or "without its terminal" in our_end, row.label
                    else:
                        assert same(ours, theirs), row.label
                counts.update(rows=1, streams=row.stream)
                check_cost(row, ours, prices, counts)

            await asyncio.gather(*(compare(number, row) for number, row in enumerate(rows)))
    assert counts["rows"] == len(rows) > 400
    assert counts["streams"] > 100
    assert counts["billed"] > 400


def check_cost(row: Row, ours: Any, prices: PriceBook, counts: Counter[str]) -> None:
    """The cost is the price function's; that one is compared with a table typed in by hand elsewhere."""
    whole = row.answer()
    if whole is None:
        counts[str(ours.cost_state)] += 1
        return
    request = read_request(row.request_body or {})
    expected = charge_answer(whole, request=request, at=datetime.now(UTC), prices=prices)
    assert ours.cost_state == expected.state, row.label
    assert ours.cost_usd == (None if expected.unknown else expected.billed_usd + expected.estimated_usd), row.label
    counts[expected.state] += 1
