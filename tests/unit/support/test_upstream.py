"""The stand-in upstream does what its scripts say, seen by a client of raw sockets and by aiohttp."""

import asyncio
import gzip
import hashlib
import json
import random
import sys
import zlib
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import brotli
import pytest
import zstandard

from tests.support.corpus import recorded_rows
from tests.support.upstream import (
    SCRIPTS,
    AwaitGate,
    Upstream,
    Write,
    expected_text,
    expected_usage,
    plain,
    recorded,
    row_body,
    sse_blocks,
    stream,
)
from tests.support.upstream.steps import random_cuts

ROOT = Path(__file__).parents[3]
STREAM = b"".join(b'event: e\ndata: {"n":%d}\n\n' % n for n in range(40))
ENDLESS = {"never", "head_then_never", "stalled_stream", "stays_open", "gated"}
BROKEN = {
    "close", "reset", "partial_head", "not_http", "cut_plain", "cut_chunk", "long_length", "cut_stream",
    "reset_stream", "short_length", "cut_after_terminal",
}  # fmt: skip
ENCODED: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.decompress,
    "deflate": zlib.decompress,
    "br": brotli.decompress,
    "zstd": lambda body: zstandard.ZstdDecompressor().decompressobj().decompress(body),
}


@dataclass(frozen=True)
class Recorded:
    """A recording made up here."""

    status: int | None
    headers: dict[str, Any]
    response_body: str
    stream: bool


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    async with Upstream() as server:
        yield server


def request_bytes(body: dict[str, Any], *, path: str = "/v1/responses", headers: str = "") -> bytes:
    data = json.dumps(body).encode()
    start = f"POST {path} HTTP/1.1\r\nhost: x\r\ncontent-length: {len(data)}\r\n{headers}\r\n"
    return start.encode() + data


async def read_pieces(upstream: Upstream, request: bytes, until: bytes) -> list[bytes]:
    """What the kernel handed over at each read, until the bytes end with `until`."""
    reader, writer = await asyncio.open_connection(*upstream.url.removeprefix("http://").split(":"))
    writer.write(request)
    pieces: list[bytes] = []
    while not b"".join(pieces).endswith(until):
        piece = await reader.read(65536)
        if not piece:
            break
        pieces.append(piece)
    writer.close()
    await writer.wait_closed()
    return pieces


async def fetch(
    upstream: Upstream, body: dict[str, Any], path: str = "/v1/responses"
) -> tuple[int, bytes, Mapping[str, str]]:
    async with (
        aiohttp.ClientSession(auto_decompress=False) as session,
        session.post(upstream.url + path, json=body, allow_redirects=False) as response,
    ):
        return response.status, await response.read(), response.headers.copy()


@pytest.mark.parametrize("name", sorted(BROKEN))
async def test_script_that_breaks_off_is_asked_for_gives_the_client_an_error(upstream: Upstream, name: str) -> None:
    with pytest.raises(aiohttp.ClientError):
        await fetch(upstream, {"input": "hi", "stream": True, "metadata": {"script": name}})
    assert upstream.requests[0].script == name


#: What a proper client cannot read whole; the tests of the proxy say what becomes of it.
ODD = frozenset({"cut_chunked", "cut_gzip", "gzip_broken", "huge_headers", "stalled_plain"})


@pytest.mark.parametrize("name", sorted(set(SCRIPTS) - BROKEN - ENDLESS - set(ENCODED) - ODD))
async def test_script_that_ends_is_asked_for_gives_status_and_body_of_its_answer(upstream: Upstream, name: str) -> None:
    status, body, _ = await fetch(upstream, {"input": "hi", "stream": True, "metadata": {"script": name}})
    seen = upstream.requests[0]
    answer = SCRIPTS[name](seen, json_id(body))
    assert (status, seen.status, seen.finished) == (answer.status, answer.status, True)
    assert body == answer.body


@pytest.mark.parametrize("name", sorted(ENCODED))
@pytest.mark.parametrize("streaming", [False, True])
async def test_encoded_answer_is_decoded_is_the_generated_one(
    upstream: Upstream, name: str, *, streaming: bool
) -> None:
    status, body, headers = await fetch(upstream, {"input": "hi", "stream": streaming, "metadata": {"script": name}})
    assert (status, headers["Content-Encoding"]) == (200, name)
    decoded = ENCODED[name](body)
    assert decoded.endswith(b"\n\n" if streaming else b"}")
    assert b"echo: hi" in decoded


def json_id(body: bytes) -> str:
    """The response id in an answer, so that the expected bytes can be made with it."""
    _, mark, after = body.partition(b"resp_")
    return "resp_" + after[:48].decode("latin-1") if mark else ""


@pytest.mark.parametrize("name", sorted(ENDLESS - {"gated"}))
async def test_client_leaves_while_the_answer_stays_open_is_noticed(upstream: Upstream, name: str) -> None:
    request = request_bytes({"input": "hi", "stream": True, "metadata": {"script": name}})
    _, writer = await asyncio.open_connection(*upstream.url.removeprefix("http://").split(":"))
    writer.write(request)
    (seen,) = await upstream.arrived(1)
    writer.close()
    async with asyncio.timeout(5):
        while not seen.client_closed:  # noqa: ASYNC110 - the record has no event; the timeout bounds the wait
            await asyncio.sleep(0.001)
    assert not seen.finished


async def test_stream_cut_at_random_arrives_in_as_many_pieces_and_with_the_same_bytes(upstream: Upstream) -> None:
    for seed in range(5):
        answer = stream(STREAM, seed=seed, pieces=9, pause_s=0.004)
        upstream.script(answer)
        pieces = await read_pieces(upstream, request_bytes({}), b"0\r\n\r\n")
        assert pieces == [step.data for step in answer.steps if isinstance(step, Write)]
        assert len(pieces) == 9


async def test_stream_cut_at_random_is_read_by_an_http_client_as_its_body(upstream: Upstream) -> None:
    for seed in range(5):
        upstream.script(stream(STREAM, seed=seed, pieces=30, pause_s=0.0015))
        assert (await fetch(upstream, {}))[1] == STREAM


async def test_piece_boundaries_of_a_seeded_stream_fall_within_blocks_and_chunk_heads() -> None:
    edges: list[bytes] = []
    for seed in range(40):
        pieces = [step.data for step in stream(STREAM, seed=seed, pieces=9).steps if isinstance(step, Write)]
        edges += [piece[-2:] for piece in pieces[:-1]]
    assert any(edge == b"\n\n" for edge in edges)
    assert sum(edge != b"\n\n" for edge in edges) > len(edges) // 2


async def test_gate_is_closed_holds_the_answer_back_until_it_is_opened(upstream: Upstream) -> None:
    first = plain(b"0123456789")
    upstream.script(type(first)("gated", (AwaitGate("go"), *first.steps), 200))
    asking = asyncio.create_task(fetch(upstream, {}))
    (seen,) = await upstream.arrived(1)
    assert seen.written == 0
    upstream.gate("go").set()
    assert (await asking)[1] == b"0123456789"


async def test_listener_refuses_gives_connection_refused_until_it_listens_again(upstream: Upstream) -> None:
    await upstream.refuse()
    with pytest.raises(aiohttp.ClientConnectorError):
        await fetch(upstream, {"input": "hi"})
    await upstream.listen()
    assert (await fetch(upstream, {"input": "hi"}))[0] == 200


async def test_connection_is_closed_at_once_never_becomes_a_request(upstream: Upstream) -> None:
    upstream.close_at_once = True
    with pytest.raises(aiohttp.ClientError):
        await fetch(upstream, {"input": "hi"})
    assert upstream.requests == []
    assert upstream.connections >= 1


async def test_generated_answer_echoes_and_its_usage_and_text_can_be_computed(upstream: Upstream) -> None:
    request = {"model": "gpt-4o", "input": [{"role": "user", "content": "How many stones?"}]}
    status, body, headers = await fetch(upstream, request)
    answer = json.loads(body)
    text = answer["output"][0]["content"][0]["text"]
    assert (status, text, answer["usage"]) == (200, expected_text(request), expected_usage(request, text))
    assert (text, answer["model"]) == ("echo: How many stones?", "gpt-4o-2024-08-06")
    assert headers["x-seen-sha256"] == hashlib.sha256(json.dumps(request).encode()).hexdigest()


async def test_generated_stream_has_the_wished_blocks_numbered_without_a_gap_and_a_new_id_each_time(
    upstream: Upstream,
) -> None:
    request = {"input": "abc", "stream": True, "metadata": {"blocks": "12", "answer_bytes": "100"}}
    bodies = [(await fetch(upstream, request))[1] for _ in range(2)]
    events = [json.loads(block.partition(b"data: ")[2]) for block in sse_blocks(bodies[0])]
    assert [event["sequence_number"] for event in events] == list(range(4 + 12 + 4))
    deltas = [event["delta"] for event in events if event["type"].endswith(".delta")]
    assert (len(deltas), len("".join(deltas))) == (12, 100)
    assert events[-1]["response"]["usage"]["output_tokens"] == 100
    assert json_id(bodies[0]) != json_id(bodies[1])


async def test_script_list_is_wished_for_goes_through_it_attempt_by_attempt(upstream: Upstream) -> None:
    request = {"input": "x", "metadata": {"script": "error_500,error_429_ms,ok", "call": "c1"}}
    statuses = [(await fetch(upstream, request | {"model": model}))[0] for model in ("a", "a", "b", "b")]
    assert statuses == [500, 429, 200, 200]
    assert upstream.log.counts["c1"] == 4


async def test_script_in_the_path_is_honoured_for_a_deployment_of_its_own(upstream: Upstream) -> None:
    status, body, _ = await fetch(upstream, {"input": "x"}, "/script/html_502/v1/responses")
    assert (status, body[:6]) == (502, b"<html>")


async def test_unknown_script_is_asked_for_is_an_error_that_names_it(upstream: Upstream) -> None:
    status, body, _ = await fetch(upstream, {"metadata": {"script": "nonsense"}})
    assert (status, b"nonsense" in body) == (400, True)
    with pytest.raises(KeyError, match="nonsense"):
        upstream.script("nonsense")


async def test_request_is_received_with_its_exact_bytes_whatever_its_framing(upstream: Upstream) -> None:
    head = b"POST /v1/responses HTTP/1.1\r\nHost: x\r\ntransfer-encoding: chunked\r\n\r\n"
    raw = head + b'4\r\n{"a"\r\n4;x=1\r\n:1 }\r\n0\r\n\r\n'
    await read_pieces(upstream, raw, b"}")
    (seen,) = upstream.requests
    assert (seen.raw, seen.body) == (raw, b'{"a":1 }')


async def test_recorded_row_is_wished_for_comes_with_its_bytes_and_headers() -> None:
    row = Recorded(200, {"x-request-id": "req_1", "content-encoding": "br"}, STREAM.decode(), stream=True)
    async with Upstream(rows={3: row}) as upstream:
        status, body, headers = await fetch(upstream, {"metadata": {"row": "3"}})
        assert (status, body, headers["x-request-id"]) == (200, STREAM, "req_1")
        assert "content-encoding" not in headers
        assert (await fetch(upstream, {"metadata": {"row": "4"}}))[0] == 400
    assert recorded(row, encoding="br").body != STREAM


@pytest.mark.corpus
async def test_recorded_rows_are_served_cut_at_random_with_their_exact_bytes(upstream: Upstream) -> None:
    rows = recorded_rows()
    for number, row in enumerate(rows):
        upstream.script(recorded(row, seed=number, pieces=5, pause_s=0.0015))
    async with aiohttp.ClientSession() as session:
        for row in rows:
            async with session.post(upstream.url + "/v1/responses", json={}) as response:
                assert (response.status, await response.read()) == (row.status or 200, row_body(row)), row.label


async def test_generated_response_is_retrieved_resumed_and_deleted_by_its_id(upstream: Upstream) -> None:
    _, body, _ = await fetch(upstream, {"input": "x", "stream": True})
    at = f"{upstream.url}/v1/responses/{json_id(body)}"
    async with aiohttp.ClientSession() as session:
        async with session.get(at) as response:
            assert (await response.json())["status"] == "completed"
        async with session.get(at + "?stream=true&starting_after=3") as response:
            assert await response.read() == b"".join(sse_blocks(body)[4:])
        async with session.delete(at) as response:
            assert (await response.json())["deleted"] is True
        async with session.get(at) as response:
            assert response.status == 404


async def test_process_form_tells_over_http_what_it_saw() -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.support.upstream", stdout=asyncio.subprocess.PIPE, cwd=ROOT
    )
    assert process.stdout is not None
    try:
        url = (await process.stdout.readline()).decode().split()[1]
        async with aiohttp.ClientSession() as session:
            await (await session.post(url + "/v1/responses", json={"input": "x", "metadata": {"call": "c9"}})).read()
            seen = await (await session.get(url + "/__seen?call=c9")).json()
            counts = await (await session.get(url + "/__counts")).json()
    finally:
        process.kill()
        await process.wait()
    (request,) = seen["requests"]
    assert (request["finished"], request["status"], counts["calls"]) == (True, 200, {"c9": 1})


def test_random_cuts_keep_the_bytes_and_the_number_of_pieces() -> None:
    for seed in range(50):
        rng = random.Random(seed)
        pieces = random_cuts(STREAM, rng, 11)
        assert (b"".join(pieces), len(pieces)) == (STREAM, 11)
    assert random_cuts(b"ab", random.Random(1), 9) == [b"a", b"b"]
