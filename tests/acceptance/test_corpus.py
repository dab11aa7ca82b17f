"""Every recorded exchange of OpenAI through a running proxy, the upstream's bytes cut at random, with real pauses.

Compared are the client's bytes, the book's and the replay's with the recording, chunks with blocks counted apart, and
costs with a table typed in by hand. The pieces that the relay received are counted: a test that cuts nothing shows
nothing.
"""

import asyncio
import json
from collections import Counter
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.postgres.connect import engine
from ledger.reports import events
from tests.acceptance.conftest import MakeProxy
from tests.support.corpus import Row, recorded_rows
from tests.support.hand_prices import expected_cost
from tests.support.hand_tools import TOOL_COSTS
from tests.support.proxy import Answered, Config, LocalProxy, configuration, deployment
from tests.support.proxy_book import Story
from tests.support.upstream import Answer, Received, Recording, Upstream, recorded, sse_blocks

AT_ONCE = 12
PIECES = 9
BILLABLE = "/v1/responses"
#: Why a cost is not billed, and of how many.
NOT_BILLED = {
    "searches counted by output items, as the answer does not count them": 6,
    "no price is known for model 'gpt-5.4-2025-04-14'": 4,
    "code_interpreter_call: the least time of 5 minutes for each container, as the answer does not say how long it "
    "ran": 2,
}


class Recordings:
    """The recordings as the upstream sends them: in pieces, compressed anew where they were recorded so."""

    def __init__(self, rows: tuple[Row, ...]) -> None:
        self.rows = rows
        self.sent: dict[int, Answer] = {}

    def answer(self, row: Recording, received: Received) -> Answer:
        """Answer a request, and keep what was answered."""
        number = int(received.wish("row") or -1)
        coding = coding_of(self.rows[number])
        answer = recorded(row, seed=number, pieces=PIECES, encoding=coding)
        self.sent[number] = answer
        return answer

    def models(self, upstream: Upstream) -> list[Config]:
        """A deployment for each model that was asked for, under its own name."""
        names = {str(row.request_body["model"]) for row in self.rows if row.request_body is not None}
        return [deployment(name, f"{upstream.url}/v1") for name in sorted(names)]


def coding_of(row: Row) -> str | None:
    """The content coding that a plain answer was recorded with."""
    found = next((value for name, value in row.headers.items() if name.lower() == "content-encoding"), None)
    coding = found[0] if isinstance(found, list) else found
    return None if row.stream or not coding else str(coding)


@pytest.mark.corpus
@pytest.mark.slow
async def test_each_recording_through_the_proxy_is_relayed_recorded_priced_and_replayed_exactly(
    make_proxy: MakeProxy, database_url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    recordings = Recordings(recorded_rows())
    counts: Counter[str] = Counter()
    reasons: Counter[str] = Counter()
    async with Upstream(rows=dict(enumerate(recordings.rows))) as upstream:
        upstream.row_answer = recordings.answer
        proxy = await make_proxy(configuration(recordings.models(upstream), router={"num_retries": 0}))
        turn = asyncio.Semaphore(AT_ONCE)
        reads = engine(database_url, purpose="test", pool_size=AT_ONCE)

        async def pass_through(number: int, row: Row) -> None:
            async with turn:
                answered = await send(proxy, number, row)
                story = await proxy.book.ended(answered.call_id)
                again = await proxy.client.send(method="GET", path=f"/ledger/calls/{answered.call_id}/replay")
                async with reads.connect() as connection:
                    from_reports = await replayed(connection, answered.call_id)
            expected = recordings.sent[number].body
            assert (answered.status, answered.is_complete) == (row.status or 200, True), row.label
            assert answered.body == expected, row.label
            assert story.answer == expected, row.label
            assert story.request == (b"" if row.request_body is None else as_bytes(row.request_body)), row.label
            assert from_reports == (answered.status, expected), row.label
            assert (again.status, again.body) == (answered.status, expected), row.label
            assert again.headers["content-type"] == answered.headers["content-type"], row.label
            assert again.headers["x-llm-replay"] == "exact", row.label
            counts.update(rows=1, streams=row.stream, compressed=coding_of(row) is not None)
            check_pieces(row, proxy.pieces.counts[str(number)], story, counts)
            check_cost(row, story, counts, reasons)

        await asyncio.gather(*(pass_through(number, row) for number, row in enumerate(recordings.rows)))
        await reads.dispose()
    with capsys.disabled():
        print(f"\n{dict(counts)}\n" + "\n".join(f"{count:4} {reason}" for reason, count in reasons.most_common()))  # noqa: T201 - counts are part of what is shown
    assert (counts["rows"], counts["streams"], counts["compressed"]) == (522, 138, 172)
    assert (counts["billed"], counts["estimated"], counts["unknown"], counts["free"]) == (510, 8, 4, 20)
    assert reasons == NOT_BILLED


async def send(proxy: LocalProxy, number: int, row: Row) -> Answered:
    """Send a recorded request again."""
    body = None if row.request_body is None else as_bytes(row.request_body)
    accepted = coding_of(row) or "identity"
    return await proxy.client.send(
        body, method=row.method, path=row.path, x_row=str(number), x_count_as=str(number), accept_encoding=accepted
    )


def as_bytes(body: dict[str, Any]) -> bytes:
    """A recorded body, of which only the meaning is kept, as bytes."""
    return json.dumps(body, ensure_ascii=False, separators=(",", ":")).encode()


async def replayed(connection: AsyncConnection, call_id: UUID) -> tuple[int, bytes]:
    """What the product's replay says that the answer was."""
    place = await events.find(connection, call_id)
    assert place is not None
    head = await events.answer(connection, place)
    assert head is not None
    return head.status, b"".join([piece async for _, piece in events.answer_bytes(connection, place, head)])


def check_pieces(row: Row, pieces: int, story: Story, counts: Counter[str]) -> None:
    """As many chunks as blocks; at least 3 pieces a stream."""
    counts["pieces"] += pieces
    if not row.stream:
        assert story.one("body.received"), row.label
        return
    assert pieces >= 3, f"{row.label}: the relay received its stream in {pieces} pieces"
    chunks = len(story.all("chunk.received"))
    assert chunks == len(sse_blocks(row.response_body.encode())), row.label
    counts.update({"chunks": chunks, "pieces of streams": pieces})


def check_cost(row: Row, story: Story, counts: Counter[str], reasons: Counter[str]) -> None:
    """The charge is the one of the hand tables, or unknown where these have none."""
    cost = story.cost
    counts[cost["state"]] += 1
    state, billed, estimated = _by_hand(row, counts)
    assert (cost["state"], cost["unknown"]) == (state, state == "unknown"), (row.label, cost["reason"])
    sums = Decimal(cost["billed_usd"]), Decimal(cost["estimated_usd"])
    assert sums == (Decimal(billed), Decimal(estimated)), row.label
    if state != "billed":
        reasons[cost["reason"]] += 1


def _by_hand(row: Row, counts: Counter[str]) -> tuple[str, str, str]:
    """State, billed and estimated USD of a recording, from the tables that were typed in."""
    answer = row.answer()
    if (row.method, row.path) != ("POST", BILLABLE) or (row.status or 200) != 200:
        counts["free"] += 1
        return "billed", "0", "0"
    if answer is None or not answer.get("usage"):
        return "unknown", "0", "0"
    tokens = expected_cost(answer, row.request_body or {})
    tokens_only = ("unknown", "0", "0") if tokens is None else ("billed", str(tokens), "0")
    return TOOL_COSTS.get(row.label, tokens_only)
