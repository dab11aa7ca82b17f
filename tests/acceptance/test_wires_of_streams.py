"""Awkward streams: whatever an upstream sends, the client gets its bytes, and the book says what it was."""

import json
import re
from dataclasses import dataclass
from decimal import Decimal
from uuid import UUID

import pytest
import pytest_asyncio

from llm.sse import BlockSplitter
from tests.acceptance.conftest import MakeProxy
from tests.support.proxy import LocalProxy, configuration, deployment, read_until
from tests.support.proxy_book import Story
from tests.support.upstream import SCRIPTS, Answer, Received, Upstream, sse_blocks, stream

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True)
class Case:
    """How a script's stream ends in the book; `chunks` None: as many as blocks that end in LF LF."""

    script: str
    end: str = "call.completed"
    state: str = "billed"
    chunks: int | None = None
    code: str | None = None


BLOCKS = 13
CASES = [
    Case("ok"),
    Case("cut_stream", "call.truncated", "estimated", code="truncated"),
    Case("reset_stream", "call.truncated", "estimated", code="truncated"),
    Case("cut_chunk", "call.truncated", "estimated", code="truncated"),
    Case("no_terminal", "call.truncated", "estimated", code="truncated"),
    Case("empty_stream", "call.truncated", "unknown", chunks=0, code="truncated"),
    Case("cut_after_terminal"),
    Case("unterminated_rest"),
    Case("after_terminal", chunks=BLOCKS + 1),
    Case("error_nested", "call.failed", "unknown", code="server_error"),
    Case("error_flat", "call.failed", "unknown", code="server_error"),
    Case("error_not_last", "call.failed", "unknown", code="server_error"),
    Case("failed_stream", "call.failed", "unknown", code="server_error"),
    Case("done_marker", chunks=BLOCKS + 1),
    Case("pings", chunks=2 * BLOCKS),
    Case("keepalive", chunks=BLOCKS + 1),
    Case("unnumbered"),
    Case("unknown_events", chunks=BLOCKS + 2),
    Case("data_only"),
    Case("byte_order_mark", chunks=BLOCKS),
    Case("crlf", chunks=BLOCKS),
    Case("cr", chunks=BLOCKS),
    Case("mixed_line_ends", chunks=BLOCKS),
    Case("big_block", chunks=BLOCKS + 1),
    Case("two_terminals", "call.failed", "unknown", code="server_error"),
    Case("json_called_stream", "call.truncated", "estimated", code="truncated"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(make_shared_proxy: MakeProxy, shared_upstream: Upstream) -> LocalProxy:
    return await make_shared_proxy(
        configuration([deployment("gpt-4o", f"{shared_upstream.url}/v1")], router={"num_retries": 0})
    )


@pytest.fixture
def upstream(shared_upstream: Upstream) -> Upstream:
    shared_upstream.log.requests.clear()
    return shared_upstream


def request(script: str = "ok", **wishes: str) -> dict[str, object]:
    """A streaming request that wishes for a script."""
    return {"model": "gpt-4o", "input": "hello wires", "stream": True, "metadata": {"script": script, **wishes}}


def check(case: Case, story: Story, body: bytes) -> None:
    """The book agrees with the bytes and with the case."""
    assert story.answer == body
    assert (story.end.type, story.cost["state"]) == (case.end, case.state), story.cost["reason"]
    error = story.end.facts["error"]
    assert (error and error["code"]) == case.code
    blocks = len(sse_blocks(body)) if body else 0
    assert story.end.facts["chunks"] == (blocks if case.chunks is None else case.chunks)
    if case.state == "estimated":
        assert Decimal(story.cost["estimated_usd"]) > 0
    if case.state == "billed":
        assert Decimal(story.cost["billed_usd"]) > 0


def sent_by(upstream: Upstream, case: Case) -> bytes:
    """What the upstream sent, of which only the response id is its own choice."""
    received = upstream.requests[-1]
    return SCRIPTS[case.script](received, "resp_" + "0" * 48).body


def same_id(body: bytes) -> bytes:
    """The bytes with the upstream's random response ids made equal."""
    return re.sub(rb"resp_[0-9a-f]{48}", b"resp_" + b"0" * 48, body)


@pytest.mark.parametrize("case", CASES, ids=[case.script for case in CASES])
async def test_awkward_stream_reaches_the_client_byte_for_byte_and_the_book(
    proxy: LocalProxy, upstream: Upstream, case: Case
) -> None:
    answered = await proxy.client.send(request(case.script))
    story = await proxy.book.ended(answered.call_id)
    assert answered.status == 200
    assert same_id(answered.body) == sent_by(upstream, case)
    check(case, story, answered.body)


@pytest.mark.parametrize("seed", range(8))
async def test_stream_cut_at_random_places_is_recorded_in_its_blocks(
    proxy: LocalProxy, upstream: Upstream, seed: int
) -> None:
    def cut(received: Received, response_id: str) -> Answer:
        name = ("ok", "crlf", "cr", "pings")[seed % 4]
        whole = SCRIPTS[name](received, response_id)
        return stream(whole.body, seed=seed, pieces=40, pause_s=0.0015)

    upstream.script(cut)
    answered = await proxy.client.send(request())
    story = await proxy.book.ended(answered.call_id)
    assert answered.is_complete
    assert story.answer == answered.body
    splitter = BlockSplitter(1 << 24)
    blocks = [bytes(block) for block in splitter.feed(answered.body)]
    rest = splitter.close()
    assert [event.body for event in story.all("chunk.received")] == [*blocks, *([rest] if rest else [])]
    assert story.end.type == "call.completed"


async def test_stream_that_comes_in_one_piece_is_recorded_in_its_blocks(proxy: LocalProxy, upstream: Upstream) -> None:
    def at_once(received: Received, response_id: str) -> Answer:
        whole = SCRIPTS["ok"](received, response_id)
        return stream(whole.body, cuts=[], pause_s=0)

    upstream.script(at_once)
    before = proxy.pieces.counts["at once"]
    answered = await proxy.client.send(request(), x_count_as="at once")
    story = await proxy.book.ended(answered.call_id)
    assert proxy.pieces.counts["at once"] - before <= 2
    assert [event.body for event in story.all("chunk.received")] == sse_blocks(answered.body)


async def test_stream_in_a_slow_drip_is_relayed_and_billed(proxy: LocalProxy, upstream: Upstream) -> None:
    answered = await proxy.client.send(request("drip"), x_count_as="drip")
    story = await proxy.book.ended(answered.call_id)
    assert same_id(answered.body) == sent_by(upstream, Case("drip"))
    assert proxy.pieces.counts["drip"] > 100
    assert story.end.facts["chunks"] == BLOCKS
    assert story.cost["state"] == "billed"


async def test_stream_left_open_after_its_terminal_event_ends_for_the_client(
    proxy: LocalProxy, upstream: Upstream
) -> None:
    answered = await proxy.client.send(request("stays_open"))
    story = await proxy.book.ended(answered.call_id)
    assert answered.is_complete
    assert story.answer == answered.body
    assert (story.end.type, story.cost["state"]) == ("call.completed", "billed")
    assert same_id(answered.body) == sent_by(upstream, Case("stays_open"))


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate"])
async def test_stream_that_comes_compressed_is_relayed_and_recorded_as_it_came(
    proxy: LocalProxy, upstream: Upstream, coding: str
) -> None:
    answered = await proxy.client.send(request(coding))
    story = await proxy.book.ended(answered.call_id)
    assert answered.headers["content-encoding"] == coding
    assert upstream.requests[-1].header("accept-encoding") == "identity"
    assert story.answer == answered.body
    assert (story.end.type, story.cost["state"]) == ("call.completed", "billed")
    replay = await proxy.client.send(method="GET", path=f"/ledger/calls/{answered.call_id}/replay")
    assert (replay.body, replay.headers["content-encoding"]) == (answered.body, coding)


@pytest.mark.parametrize("coding", ["lzma", "gzip"])
async def test_stream_that_cannot_be_decoded_is_passed_on_withheld_and_counted_as_truncated(
    proxy: LocalProxy, upstream: Upstream, coding: str
) -> None:
    sent = b"\x01\x02" * 500

    def undecodable(received: Received, response_id: str) -> Answer:
        whole = SCRIPTS["ok"](received, response_id)
        return stream(sent, headers=(*whole.headers[:-1], ("content-encoding", coding)))

    upstream.script(undecodable)
    answered = await proxy.client.send(request())
    story = await proxy.book.ended(answered.call_id)
    assert (answered.body, story.answer) == (sent, b"")
    chunks = [event.facts for event in story.events if event.type == "chunk.received"]
    assert sum(facts["withheld_bytes"] for facts in chunks) == len(sent)
    assert (story.end.type, story.cost["state"]) == ("call.truncated", "unknown")


async def test_first_chunk_is_relayed_while_the_upstream_still_works(proxy: LocalProxy, upstream: Upstream) -> None:
    async with proxy.client.open(request("gated", gate="first")) as response:
        first = await read_until(response, b"response.in_progress")
        assert not upstream.requests[-1].finished
        upstream.gate("first").set()
        rest = await read_until(response, b"event: response.completed")
    assert first
    assert b"response.completed" in rest
    story = await proxy.book.ended(UUID(response.headers["x-llm-call-id"]))
    assert story.end.facts["first_chunk_us"] < story.end.facts["duration_us"]


async def test_secret_echoed_in_a_stream_is_masked_in_the_book_only(proxy: LocalProxy) -> None:
    body = request() | {"tools": [{"type": "mcp", "server_label": "x", "authorization": "tok-secret-1"}]}
    answered = await proxy.client.send(body)
    story = await proxy.book.ended(answered.call_id)
    assert b"tok-secret-1" in answered.body
    assert b"tok-secret-1" not in story.answer
    assert b"tok-secret-1" not in story.request
    assert json.loads(story.request)["tools"][0]["authorization"] == "[masked]"
    assert answered.body.replace(b'"tok-secret-1"', b'"[masked]"') == story.answer
