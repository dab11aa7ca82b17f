"""What the relay does with chunks while the book cannot be written, and with what follows an end."""

import asyncio
import gzip

import pytest

from llm.relay import LINGER_S, RelaySettings
from llm.sse import PartialBlock
from llm.upstream import UpstreamError
from tests.support.engine import COMPLETED, SSE, Bench, FakeAnswer, FakeRecord, delta

ERROR = b'event: error\ndata: {"type":"error","error":{"code":"server_error","message":"x"}}\n\n'
FAILED = (
    b'event: response.failed\ndata: {"type":"response.failed","response":{"id":"resp_1","status":"failed",'
    b'"error":{"code":"server_error","message":"y"},"usage":null}}\n\n'
)


@pytest.mark.parametrize("every_chunk", [False, True])
async def test_stream_in_an_outage_is_cut_off_once_and_read_on_without_further_waits(*, every_chunk: bool) -> None:
    record = FakeRecord()
    texts = [delta(str(number)) for number in range(50)]
    answer = FakeAnswer(200, SSE, [delta("first"), lambda: setattr(record, "is_stalled", True), *texts, COMPLETED])
    bench = Bench(answer, record=record, relay=RelaySettings(every_chunk=every_chunk, ledger_wait_s=0.05))
    serving = asyncio.create_task(bench.serve())
    began_s = asyncio.get_running_loop().time()
    while answer.read < 53:  # noqa: ASYNC110 - a counter of the answer
        await asyncio.sleep(0.001)
    assert asyncio.get_running_loop().time() - began_s < 1.0, "it waited for the ledger at each chunk"
    record.is_stalled = False
    await serving
    assert bench.client.body.count(b"event: error") == 1
    assert bench.client.body.startswith(delta("first") + b"event: error")
    assert (bench.end[0], bench.end[1]["delivered"]) == ("call.completed", False)
    assert record.types.count("chunk.received") == 52


async def test_stream_without_room_in_the_buffer_is_not_read_on() -> None:
    record = FakeRecord()
    answer = FakeAnswer(200, SSE, [delta("a"), lambda: setattr(record, "has_room", False), delta("b"), delta("c")])
    bench = Bench(answer, record=record, relay=RelaySettings(ledger_wait_s=0.02))
    serving = asyncio.create_task(bench.serve())
    while b"event: error" not in bench.client.body:  # noqa: ASYNC110 - a flag of the client
        await asyncio.sleep(0.001)
    await asyncio.sleep(0.05)
    assert answer.read == 3
    record.has_room = True
    await serving
    assert answer.read == 4


async def test_chunk_under_every_chunk_is_awaited_before_it_is_relayed() -> None:
    answer = FakeAnswer(200, SSE, [delta("a"), delta("b"), COMPLETED])
    bench = await Bench(answer, relay=RelaySettings(every_chunk=True)).serve()
    # The attempt, two chunks, the end.
    assert bench.record.waits == 4


async def test_error_that_is_followed_by_a_failed_response_ends_as_that() -> None:
    bench = await Bench(FakeAnswer(200, SSE, [delta("a"), ERROR, FAILED])).serve()
    assert (bench.end[1]["response_id"], bench.end[1]["error"]["message"]) == ("resp_1", "y")
    assert bench.client.body == delta("a") + ERROR + FAILED


async def test_upstream_that_stays_open_after_its_terminal_event_is_left() -> None:
    answer = FakeAnswer(200, SSE, [COMPLETED, lambda: asyncio.sleep(30)])
    began_s = asyncio.get_running_loop().time()
    bench = await Bench(answer).serve()
    assert asyncio.get_running_loop().time() - began_s < LINGER_S + 0.5
    assert (bench.end[0], bench.client.body) == ("call.completed", COMPLETED)
    assert answer.closed


async def test_break_after_the_terminal_event_is_no_break() -> None:
    broken = UpstreamError("cut", "broke off", sent=True)
    bench = await Bench(FakeAnswer(200, SSE, [COMPLETED, broken])).serve()
    assert (bench.end[0], bench.client.body) == ("call.completed", COMPLETED)


async def test_block_over_the_maximum_is_recorded_in_marked_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm.relay.BLOCK_BYTES_MAX", 64)
    block = delta("x" * 200)
    bench = await Bench(FakeAnswer(200, SSE, [block, COMPLETED])).serve()
    chunks = [(facts, body) for type_, facts, body in bench.record.events if type_ == "chunk.received"]
    assert b"".join(body or b"" for _, body in chunks) == block + COMPLETED == bench.client.body
    assert chunks[0][0] == {"partial": True}
    assert not any(isinstance(body, PartialBlock) for _, body in chunks)
    assert bench.end[1]["chunks"] == len(chunks)


async def test_block_that_may_hold_a_secret_and_is_no_json_is_withheld_from_the_book_only() -> None:
    block = b'data: {"tools": [{"authorization": "tok-1"\n\n'
    bench = await Bench(FakeAnswer(200, SSE, [block, COMPLETED])).serve()
    _, facts, body = next(event for event in bench.record.events if event[0] == "chunk.received")
    assert (facts["withheld_bytes"], body) == (len(block), b"")
    assert bench.client.body == block + COMPLETED


@pytest.mark.parametrize("cut", [1, 20, 60])
async def test_compressed_stream_has_its_end_held_back_too(cut: int) -> None:
    packed = gzip.compress(delta("hello") + COMPLETED)
    pieces = [packed[:cut], packed[cut:]]
    bench = await Bench(FakeAnswer(200, [*SSE, ("content-encoding", "gzip")], pieces)).serve()
    assert bench.client.body == packed
    assert bench.end[0] == "call.completed"
    assert bench.end[1]["answer_bytes"] == len(packed)
    assert bench.record.types[-2:] == ["call.completed", "cost.recorded"]


@pytest.mark.parametrize("fenced_from", [2, 3])
async def test_compressed_stream_whose_journal_is_taken_over_is_settled(fenced_from: int) -> None:
    packed = gzip.compress(delta("hello") + COMPLETED)
    answer = FakeAnswer(200, [*SSE, ("content-encoding", "gzip")], [packed[:30], packed[30:]])
    bench = await Bench(answer, record=FakeRecord(fenced_from=fenced_from)).serve()
    assert bench.bookkeeper.billed_usd > 0
    assert bench.client.has_ended


@pytest.mark.parametrize("split", [False, True])
async def test_stream_that_repeats_the_deployments_key_is_recorded_without_it(*, split: bool) -> None:
    blocks = [delta("your key is sk-upstream-key"), COMPLETED]
    bench = await Bench(FakeAnswer(200, SSE, blocks)).serve()
    assert bench.client.body == b"".join(blocks)
    chunks = [(facts, body) for type_, facts, body in bench.record.events if type_ == "chunk.received"]
    assert chunks[0] == ({"masked": 1}, blocks[0].replace(b"sk-upstream-key", b"[masked]"))
    packed = gzip.compress(b"".join(blocks), 0)
    at = packed.index(b"upstream-key") if split else len(packed)
    pieces = [piece for piece in (packed[:at], packed[at:]) if piece]
    bench = await Bench(FakeAnswer(200, [*SSE, ("content-encoding", "gzip")], pieces)).serve()
    assert bench.client.body == packed
    kept = b"".join(body or b"" for type_, _, body in bench.record.events if type_ == "chunk.received")
    assert b"upstream-key" not in kept
    assert bench.end[0] == "call.completed"
