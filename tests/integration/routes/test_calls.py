"""One call over HTTP: its account, its events, its replay; and the book as a whole."""

import asyncio
import base64
import time
from typing import Any

from uuid_utils.compat import uuid7

from ledger.events import PART_BYTES_MAX
from ledger.reports import pages
from tests.support.routes import RECEIVED, Proxy, make_call, numbers_of, proxy_at, refusal

EVENT = b'event: response.output_text.delta\ndata: {"delta":"\xc3\xa4"}\n\n'
CUT = b"data: \xff\xfe\x00\n\n"


async def replay(proxy: Proxy, call_id: object, key: str | None = None, **query: object) -> Any:
    """Return the replay's answer."""
    keys = () if key is None else (key,)
    return await proxy.get(f"/ledger/calls/{call_id}/replay", *keys, **query)


async def test_call_of_another_key_looks_like_none(proxy: Proxy) -> None:
    own, other = await proxy.issue(), await proxy.issue()
    call_id = await make_call(proxy, [EVENT], key_id=other["key_id"])
    none = uuid7()
    for path in ("/ledger/calls/{}", "/ledger/calls/{}/events", "/ledger/calls/{}/replay"):
        hidden = await proxy.get(path.format(call_id), own["key"])
        assert refusal(hidden) == (404, "call_not_found", "call_id")
        absent = await proxy.get(path.format(none), own["key"])
        assert hidden.text.replace(str(call_id), str(none)) == absent.text
        assert (await proxy.get(path.format(call_id), None)).status_code == 401
        assert (await proxy.get(path.format("resp_x"), own["key"])).status_code == 404
        for key in (other["key"], *()):
            assert (await proxy.get(path.format(call_id), key)).status_code == 200
        assert (await proxy.get(path.format(call_id))).status_code == 200
        assert refusal(await proxy.get(path.format(call_id), own["key"], limmit=1))[::2] == (400, "limmit")
    assert refusal(await proxy.get("/ledger/events", own["key"])) == (403, "permission_denied", None)


async def test_call_is_accounted_for_with_its_line_items_as_soon_as_it_has_ended(proxy: Proxy) -> None:
    call_id = await make_call(proxy, [EVENT, EVENT], usd="0.000000000001")
    answer = await proxy.get(f"/ledger/calls/{call_id}")
    told = numbers_of(answer)
    assert (told["is_open"], told["is_folded"]) == (False, True)
    assert (told["call"]["status"], told["call"]["billed_usd"]) == ("completed", "0.000000000001")
    assert '"spend":0.000000000001' in answer.text
    (attempt,) = told["attempts"]
    assert (attempt["deployment"], attempt["answered"]["status"]) == ("mock-gpt-5", 200)
    (cost,) = told["costs"]
    assert [item["amount_usd"] for item in cost["facts"]["items"]] == ["0.000000000001"]
    assert [step["type"] for step in told["timeline"]] == [
        "call.received", "attempt.started", "attempt.answered", "call.completed", "cost.recorded",
    ]  # fmt: skip
    assert told["timeline"][0]["after_us"] == 0
    assert (told["chunks"]["count"], told["chunks"]["bytes"]) == (2, 2 * len(EVENT))


async def test_call_that_runs_is_open_and_cannot_be_replayed_yet(proxy: Proxy) -> None:
    call_id = await make_call(proxy, [EVENT], ends=False)
    told = (await proxy.get(f"/ledger/calls/{call_id}")).json()
    assert (told["is_open"], told["call"]["status"], told["call"]["spend"]) == (True, "in_progress", None)
    assert refusal(await replay(proxy, call_id))[:2] == (409, "call_running")
    assert len((await proxy.get(f"/ledger/calls/{call_id}/events")).json()["data"]) == 4


async def test_call_events_are_paged_in_order_with_their_bodies(proxy: Proxy) -> None:
    chunks = [EVENT, CUT, *[f"data: {number}\n\n".encode() for number in range(20)]]
    call_id = await make_call(proxy, chunks)
    for bodies in ("text", "base64"):
        found: list[dict[str, Any]] = []
        after: int | None = -1
        while after is not None:
            page = (await proxy.get(f"/ledger/calls/{call_id}/events", after=after, limit=4, bodies=bodies)).json()
            assert len(page["data"]) <= 4
            found += page["data"]
            after = page["next_after"]
        assert [event["version"] for event in found] == list(range(len(chunks) + 5))
        shown = [event for event in found if event["type"] == "chunk.received"]
        assert [_bytes(event) for event in shown] == chunks
        encodings = [event["body_encoding"] for event in shown[:2]]
        assert encodings == (["text", "base64"] if bodies == "text" else ["base64"] * 2)
        assert shown[0]["body_bytes"] == len(EVENT)
        assert shown[0]["recorded_at"].endswith("Z")
    none = (await proxy.get(f"/ledger/calls/{call_id}/events", bodies="none")).json()["data"]
    assert all(event["body"] is None for event in none)
    assert [event["body_bytes"] for event in none if event["type"] == "chunk.received"] == [len(c) for c in chunks]
    for query in ({"bodies": "hex"}, {"limit": 0}, {"limit": 1001}, {"after": -2}, {"after": "x"}):
        assert refusal(await proxy.get(f"/ledger/calls/{call_id}/events", **query))[0] == 400


def _bytes(event: dict[str, Any]) -> bytes:
    return base64.b64decode(event["body"]) if event["body_encoding"] == "base64" else event["body"].encode()


async def test_call_events_page_ends_at_its_share_of_bytes(proxy: Proxy) -> None:
    chunks = [bytes([65 + number]) * (pages.PAGE_BYTES // 2) for number in range(5)]
    call_id = await make_call(proxy, chunks)
    page = (await proxy.get(f"/ledger/calls/{call_id}/events", limit=1000)).json()
    assert [event["version"] for event in page["data"]] == [0, 1, 2, 3, 4]
    assert page["next_after"] == 4
    assert (await replay(proxy, call_id)).content == b"".join(chunks)
    whole = (await proxy.get(f"/ledger/calls/{call_id}/events", limit=1000, bodies="none")).json()
    assert (len(whole["data"]), whole["next_after"]) == (10, None)


async def test_replay_of_a_stream_is_the_recorded_bytes_and_head(proxy: Proxy) -> None:
    key = await proxy.issue()
    chunks = [EVENT, CUT, b": ping\n\n", b"data: unterminated"]
    call_id = await make_call(proxy, chunks, key_id=key["key_id"])
    for credentials in (None, key["key"]):
        answer = await replay(proxy, call_id, credentials)
        assert (answer.status_code, answer.content) == (200, b"".join(chunks))
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["content-length"] == str(len(answer.content))
        assert (answer.headers["x-llm-replay"], answer.headers["x-llm-call-status"]) == ("exact", "completed")
        assert answer.headers["x-llm-call-id"] == str(call_id)
    assert refusal(await replay(proxy, call_id, pace="slow"))[::2] == (400, "pace")


async def test_replay_of_many_pieces_is_whole_and_in_order(proxy: Proxy) -> None:
    chunks = [f"data: {number}\n\n".encode() for number in range(2_300)]
    call_id = await make_call(proxy, chunks)
    assert (await replay(proxy, call_id)).content == b"".join(chunks)


async def test_replay_of_a_coded_answer_keeps_its_coding_unless_it_was_decoded_to_mask(proxy: Proxy) -> None:
    head = [["content-type", "application/json"], ["content-encoding", "br"], ["x-request-id", "r"]]
    call_id = await make_call(proxy, [b"\x0b\x02\x80ok\x03"], headers=head)
    async with proxy.client() as client, client.stream("GET", f"/ledger/calls/{call_id}/replay") as answer:
        assert answer.headers["content-encoding"] == "br"
        assert b"".join([piece async for piece in answer.aiter_raw()]) == b"\x0b\x02\x80ok\x03"
    call_id = await make_call(proxy, [b"{}"], headers=head, chunk_facts={"masked": 1, "decoded": True})
    answer = await replay(proxy, call_id)
    assert "content-encoding" not in answer.headers
    assert (answer.content, answer.headers["x-llm-replay"]) == (b"{}", "masked")


async def test_replay_of_an_answer_with_withheld_bytes_says_so(proxy: Proxy) -> None:
    facts = {"withheld_bytes": 9, "withheld_sha256": "00" * 32}
    call_id = await make_call(proxy, [b""], chunk_facts=facts, status=500)
    answer = await replay(proxy, call_id)
    assert (answer.status_code, answer.headers["x-llm-replay"]) == (500, "masked")


async def test_replay_of_a_large_plain_answer_leaves_the_requests_parts_out(proxy: Proxy) -> None:
    log = proxy.book.begin_call(uuid7())
    request, body = b"r" * (PART_BYTES_MAX + 7), bytes(range(256)) * (PART_BYTES_MAX // 100)
    await log.append_large("call.received", RECEIVED, request)
    log.append("attempt.started", {"attempt": 1})
    log.append("attempt.answered", {"attempt": 1, "status": 200, "headers": [["content-type", "application/json"]]})
    await log.append_large("body.received", {"attempt": 1}, body)
    log.append("call.completed", {"attempt": 1, "http_status": 200})
    await log.durable()
    log.close()
    answer = await replay(proxy, log.call_id)
    assert answer.content == body
    assert answer.headers["content-length"] == str(len(body))


async def test_replay_of_a_refused_call_is_the_proxys_own_answer(proxy: Proxy) -> None:
    log = proxy.book.begin_call(uuid7())
    log.append("call.received", {**RECEIVED, "body_bytes": 0, "parts": 1}, b"")
    own = b'{"error": {"message": "no such model", "type": "invalid_request_error", "param": null, "code": "x"}}'
    error = {"message": "no such model", "type": "invalid_request_error", "param": None, "code": "x"}
    log.append("call.rejected", {"status": 400, "error": error, "reason": "x"}, own)
    await log.durable()
    log.close()
    answer = await replay(proxy, log.call_id)
    assert (answer.status_code, answer.content) == (400, own)
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-llm-call-status"] == "rejected"


async def test_replay_of_a_call_without_an_answer_says_so(proxy: Proxy) -> None:
    log = proxy.book.begin_call(uuid7())
    log.append("call.received", {**RECEIVED, "body_bytes": 0, "parts": 1}, b"")
    log.append("attempt.started", {"attempt": 1})
    log.append("call.abandoned", {"attempt": 1, "http_status": None})
    await log.durable()
    log.close()
    assert refusal(await replay(proxy, log.call_id))[:2] == (404, "no_answer")


async def test_replay_at_the_recorded_pace_takes_as_long_as_it_did(proxy: Proxy) -> None:
    log = proxy.book.begin_call(uuid7())
    log.append("call.received", {**RECEIVED, "body_bytes": 0, "parts": 1}, b"")
    log.append("attempt.started", {"attempt": 1})
    log.append("attempt.answered", {"attempt": 1, "status": 200, "headers": []})
    log.chunk(b"data: 1\n\n")
    # Recorded time is what is tested; there is no event to wait for instead.
    await asyncio.sleep(0.3)
    log.chunk(b"data: 2\n\n")
    log.append("call.completed", {"attempt": 1, "http_status": 200})
    await log.durable()
    log.close()
    began_s = time.monotonic()
    assert (await replay(proxy, log.call_id)).content == b"data: 1\n\ndata: 2\n\n"
    at_once_s = time.monotonic() - began_s
    began_s = time.monotonic()
    assert (await replay(proxy, log.call_id, pace="recorded")).content == b"data: 1\n\ndata: 2\n\n"
    assert time.monotonic() - began_s >= 0.29
    assert at_once_s < 5


async def test_book_events_are_listed_by_journal_and_seq_page_by_page(proxy: Proxy) -> None:
    key = await proxy.issue()
    await make_call(proxy, [EVENT])
    found: list[dict[str, Any]] = []
    query: dict[str, object] = {"limit": 3}
    while True:
        page = (await proxy.get("/ledger/events", **query)).json()
        found += page["data"]
        if page["next_after"] is None:
            break
        query["after"] = page["next_after"]
    assert [event["seq"] for event in found] == list(range(1, len(found) + 1))
    assert found[0]["type"] == "journal.opened"
    assert all(event["body"] is None for event in found)
    issued = (await proxy.get("/ledger/events", type="key.issued")).json()["data"]
    assert [event["facts"]["key"]["key_id"] for event in issued] == [key["key_id"]]
    journal = found[0]["journal_id"]
    later = (await proxy.get("/ledger/events", journal_id=journal, after=f"{journal}:2", bodies="text")).json()
    assert [event["seq"] for event in later["data"]] == [event["seq"] for event in found[2:]]
    assert EVENT.decode() in [event["body"] for event in later["data"]]
    other = str(uuid7())
    assert (await proxy.get("/ledger/events", journal_id=other)).json()["data"] == []
    assert refusal(await proxy.get("/ledger/events", journal_id=other, after=f"{journal}:2"))[::2] == (400, "after")


async def test_book_events_of_several_journals_are_each_listed_once(proxy: Proxy, database_url: str) -> None:
    for _ in range(2):
        async with proxy_at(database_url) as other:
            await make_call(other, [EVENT, EVENT])
    everything = (await proxy.get("/ledger/events", limit=1000)).json()["data"]
    places = [(event["journal_id"], event["seq"]) for event in everything]
    assert len({journal for journal, _ in places}) == 3
    assert places == sorted(set(places))
    for limit in (1, 2, len(places) - 1, len(places)):
        found: list[tuple[str, int]] = []
        query: dict[str, object] = {"limit": limit, "bodies": "text"}
        while True:
            page = (await proxy.get("/ledger/events", **query)).json()
            assert len(page["data"]) == limit or page["next_after"] is None
            found += [(event["journal_id"], event["seq"]) for event in page["data"]]
            if page["next_after"] is None:
                break
            query["after"] = page["next_after"]
        assert found == places
    for kind, count in (("chunk.received", 4), ("call.received", 2)):
        listed = (await proxy.get("/ledger/events", type=kind, limit=3)).json()["data"]
        assert [event["type"] for event in listed] == [kind] * min(count, 3)
