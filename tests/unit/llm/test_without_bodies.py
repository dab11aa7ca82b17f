"""A record without bodies: nothing that quotes a request or an answer goes through it, everything else does."""

import json
from typing import Any

import pytest

from ledger.events import (
    ATTEMPT_ANSWERED,
    ATTEMPT_FAILED,
    ATTEMPT_STARTED,
    BODY_RECEIVED,
    CALL_COMPLETED,
    CALL_RECEIVED,
    CALL_REJECTED,
    CHUNK_RECEIVED,
)
from llm.relay import record_chunk
from llm.sse import PartialBlock
from llm.without_bodies import RecordWithoutBodies, wish_of
from tests.support.engine import FakeRecord

CANARY = "canary-51c0"
HEADERS = [["user-agent", "curl"], ["x-llm-tags", "a"], ["x-llm-note", CANARY], ["x-litellm-metadata", CANARY]]


def _told(inner: FakeRecord) -> list[tuple[str, dict[str, Any]]]:
    assert all(body is None for _, _, body in inner.events)
    assert CANARY not in json.dumps([facts for _, facts, _ in inner.events])
    return [(type_, facts) for type_, facts, _ in inner.events]


async def test_events_pass_without_what_they_quote() -> None:
    record = RecordWithoutBodies(inner := FakeRecord())
    received = {"method": "POST", "query": f"x={CANARY}", "headers": HEADERS, "body_bytes": 12, "masked": 1}
    await record.append_large(CALL_RECEIVED, received, CANARY.encode())
    record.append(ATTEMPT_STARTED, {"attempt": 1, "url": f"http://u/v1/responses?x={CANARY}"})
    moved = [["location", f"/v1/responses/?x={CANARY}"], ["content-type", "text/html"]]
    record.append(ATTEMPT_ANSWERED, {"attempt": 1, "status": 307, "headers": moved})
    record.append(ATTEMPT_FAILED, {"attempt": 1, "reason": "status", "message": CANARY, "status": 500})
    record.append(ATTEMPT_FAILED, {"attempt": 2, "reason": "connect", "message": "no connection", "status": None})
    await record.append_large(BODY_RECEIVED, {"attempt": 3, "masked": 2}, CANARY.encode() * 10)
    record.append(CALL_COMPLETED, {"error": {"code": "c", "message": CANARY}}, CANARY.encode(), with_next=True)
    record.append(CALL_REJECTED, {"status": 400, "error": {"message": CANARY, "param": "model"}}, CANARY.encode())
    record.append(CALL_COMPLETED, {"error": None})
    assert _told(inner) == [
        (CALL_RECEIVED, {
            "method": "POST", "query": "", "headers": [["user-agent", "curl"], ["x-llm-tags", "a"]],
            "body_bytes": 12, "store_bodies": "none",
        }),
        (ATTEMPT_STARTED, {"attempt": 1, "url": "http://u/v1/responses"}),
        (ATTEMPT_ANSWERED, {
            "attempt": 1, "status": 307, "headers": [["location", "/v1/responses/"], ["content-type", "text/html"]],
        }),
        (ATTEMPT_FAILED, {"attempt": 1, "reason": "status", "message": "", "status": 500}),
        (ATTEMPT_FAILED, {"attempt": 2, "reason": "connect", "message": "no connection", "status": None}),
        (BODY_RECEIVED, {"attempt": 3, "body_bytes": len(CANARY) * 10, "parts": 1}),
        (CALL_COMPLETED, {"error": {"code": "c", "message": ""}}),
        (CALL_REJECTED, {"status": 400, "error": {"message": "", "param": "model"}}),
        (CALL_COMPLETED, {"error": None}),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("given", "wish"),
    [([], None), (["all"], "all"), (["none", "all"], "none"), (["all", "none"], "none"), (["none", ""], ""),
     (["nein", "none"], "nein")],
)  # fmt: skip
def test_wish_of_a_header_given_twice_is_the_strictest(given: list[str], wish: str | None) -> None:
    headers = [("x-llm-tags", "none"), *(("x-llm-store-bodies", value) for value in given)]
    assert wish_of(headers) == wish


async def test_chunks_pass_as_their_sizes() -> None:
    record = RecordWithoutBodies(inner := FakeRecord())
    record.chunk(b"x" * 7)
    await record_chunk(record, f'data: {{"tools":[{{"authorization":"{CANARY}"}}]}}\n\n'.encode())
    await record_chunk(record, PartialBlock(b"y" * 9))
    record.append(CHUNK_RECEIVED, {"content_encoding": "br", "withheld_bytes": 5, "withheld_sha256": CANARY}, b"")
    sizes = [facts["bytes"] for _, facts in _told(inner)]
    assert sizes == [7, len(CANARY) + 40, 9, 5]
    assert inner.events[-1][1] == {"content_encoding": "br", "bytes": 5}
