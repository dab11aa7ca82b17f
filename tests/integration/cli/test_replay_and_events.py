"""`llm ledger replay` and `events`: exact bytes, own answers, paces, timelines."""

import json
import time
from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
import uuid_utils.compat

from ledger import events
from ledger.journal.call_log import CallLog
from ledger.journal.journals import Journals
from ledger.money.cost import no_charge
from tests.support.cli import ledger
from tests.support.journal import RECEIVED, cost, ended, journals_at, started

#: Every byte there is, line ends of all kinds, no end of line at the end.
CHUNKS = [b"data: 1\r\n\r\n", bytes(range(256)) + b"\n\n", b": ping\n\n", b"data: [DONE]"]


@pytest.fixture
async def journals(database_url: str) -> AsyncIterator[Journals]:
    async with journals_at(database_url) as journals:
        yield journals


def _begin(journals: Journals) -> CallLog:
    log = journals.begin_call(uuid_utils.compat.uuid7())
    log.append(events.CALL_RECEIVED, RECEIVED, b'{"model": "gpt-5"}')
    return log


def _answered(log: CallLog, attempt: int, status: int = 200) -> None:
    log.append(events.ATTEMPT_STARTED, started(attempt))
    headers = [["content-type", "text/event-stream"], ["x-request-id", "req_1"]]
    log.append(events.ATTEMPT_ANSWERED, {"attempt": attempt, "status": status, "headers": headers})


async def _end(
    log: CallLog, attempt: int, kind: str = events.CALL_COMPLETED, body: bytes | None = None, **facts: Any
) -> UUID:
    log.append(kind, {**ended(attempt), **facts}, body, with_next=True)
    log.append(events.COST_RECORDED, cost(log, attempt, final=True))
    await log.durable()
    log.close()
    return log.call_id


async def _stream(journals: Journals) -> UUID:
    log = _begin(journals)
    _answered(log, 1)
    for chunk in CHUNKS:
        log.chunk(chunk)
    return await _end(log, 1)


async def test_replay_of_a_stream_writes_its_exact_bytes(database_url: str, journals: Journals) -> None:
    call_id = await _stream(journals)
    result = await ledger("replay", str(call_id), url=database_url)
    assert (result.exit_code, result.stdout_bytes, result.stderr) == (0, b"".join(CHUNKS), "")


async def test_replay_with_headers_writes_them_to_stderr(database_url: str, journals: Journals) -> None:
    call_id = await _stream(journals)
    result = await ledger("replay", str(call_id), "--headers", url=database_url)
    assert result.stdout_bytes == b"".join(CHUNKS)
    assert result.stderr == "HTTP 200\ncontent-type: text/event-stream\nx-request-id: req_1\n\n"


async def test_replay_of_a_large_body_writes_all_parts(database_url: str, journals: Journals) -> None:
    body = bytes(range(256)) * 10_000
    log = _begin(journals)
    _answered(log, 1)
    await log.append_large(events.BODY_RECEIVED, {"attempt": 1}, body)
    result = await ledger("replay", str(await _end(log, 1)), url=database_url)
    assert result.stdout_bytes == body


async def test_replay_at_the_recorded_pace_takes_as_long_as_the_answer(
    database_url: str, journals: Journals, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = _begin(journals)
    _answered(log, 1)
    await log.durable()
    now_ns = time.time_ns()
    with monkeypatch.context() as clock:
        clock.setattr(time, "time_ns", lambda: now_ns + 600_000_000)
        log.chunk(CHUNKS[0])
    call_id = await _end(log, 1)
    began = time.monotonic()
    result = await ledger("replay", str(call_id), "--pace", "recorded", url=database_url)
    assert result.stdout_bytes == CHUNKS[0]
    assert time.monotonic() - began > 0.5


async def test_replay_of_the_proxys_own_answer_writes_that(database_url: str, journals: Journals) -> None:
    """Two attempts, the first answered with 500, the second never: the client got the proxy's own 502."""
    body = b'{"error": {"message": "The upstream did not answer: refused."}}'
    log = _begin(journals)
    _answered(log, 1, 500)
    await log.append_large(events.BODY_RECEIVED, {"attempt": 1}, b"<html>")
    log.append(events.ATTEMPT_FAILED, {"attempt": 1, "reason": "status"})
    log.append(events.COST_RECORDED, cost(log, 1, final=False))
    log.append(events.ATTEMPT_STARTED, started(2))
    log.append(events.ATTEMPT_FAILED, {"attempt": 2, "reason": "connect"})
    call_id = await _end(log, 2, events.CALL_FAILED, body, http_status=502)
    result = await ledger("replay", str(call_id), "--headers", url=database_url)
    assert (result.exit_code, result.stdout_bytes) == (0, body)
    assert result.stderr == "HTTP 502\ncontent-type: application/json\n\n"


@pytest.mark.parametrize("has_body", [True, False])
async def test_replay_of_a_rejection_writes_the_error(database_url: str, journals: Journals, *, has_body: bool) -> None:
    error = {"message": "no such model", "type": "invalid_request_error", "param": "model", "code": "model_not_found"}
    body = b'{"error":   {"message": "no such model"}}' if has_body else None
    log = _begin(journals)
    log.append(events.CALL_REJECTED, {"status": 404, "error": error, "reason": "model"}, body)
    await log.durable()
    log.close()
    result = await ledger("replay", str(log.call_id), "--headers", url=database_url)
    assert result.stderr.startswith("HTTP 404\n")
    assert result.stdout_bytes == (body or json.dumps({"error": error}).encode())


async def test_replay_of_an_answer_with_masked_secrets_says_so(database_url: str, journals: Journals) -> None:
    log = _begin(journals)
    _answered(log, 1)
    log.append(events.CHUNK_RECEIVED, {"masked": 1}, b"data: ***\n\n")
    result = await ledger("replay", str(await _end(log, 1)), url=database_url)
    assert result.stdout_bytes == b"data: ***\n\n"
    assert "not the client's exact bytes" in result.stderr


async def test_replay_of_what_is_not_there_is_one_line_and_exit_1(database_url: str, journals: Journals) -> None:
    nobody = await ledger("replay", str(UUID(int=7)), url=database_url)
    assert (nobody.exit_code, nobody.stdout_bytes) == (1, b"")
    assert nobody.stderr == f"Error: the book holds no call {UUID(int=7)}\n"
    log = _begin(journals)
    await log.durable()
    unanswered = await ledger("replay", str(log.call_id), url=database_url)
    assert (unanswered.exit_code, "got no answer, or none yet" in unanswered.stderr) == (1, True)
    log.close()


async def test_events_of_a_call_are_a_timeline(database_url: str, journals: Journals) -> None:
    call_id = await _stream(journals)
    result = await ledger("events", str(call_id), url=database_url)
    head, *lines = result.stdout.splitlines()
    assert head == f"call {call_id} in journal {journals.current.journal_id}"
    kinds = [line.split()[4] for line in lines]
    assert kinds == [
        "call.received", "attempt.started", "attempt.answered", *["chunk.received"] * 4, "call.completed",
        "cost.recorded",
    ]  # fmt: skip
    assert "model=gpt-5" in lines[0]


async def test_events_with_bodies_show_text_and_encode_the_rest(database_url: str, journals: Journals) -> None:
    call_id = await _stream(journals)
    text = (await ledger("events", str(call_id), "--bodies", url=database_url)).stdout
    assert '    | {"model": "gpt-5"}' in text
    assert "    | data: [DONE]" in text
    rows = [
        json.loads(line)
        for line in (await ledger("events", str(call_id), "--json", "--bodies", url=database_url)).stdout.splitlines()
    ]
    assert [row["version"] for row in rows] == list(range(9))
    assert rows[3]["body"] == CHUNKS[0].decode()
    assert (rows[4]["body"], "body_base64" in rows[4]) == (None, True)
    assert rows[0]["facts"]["key_id"] == "key-1"


async def test_events_show_nothing_that_a_terminal_would_obey(database_url: str, journals: Journals) -> None:
    log = _begin(journals)
    _answered(log, 1)
    log.chunk(b"data: \x1b[2Jgone\n\n")
    call_id = await _end(log, 1, error={"code": "\x1b[31m", "message": "m"})
    result = await ledger("events", str(call_id), "--bodies", url=database_url)
    assert "\x1b" not in result.stdout
    assert "gone" in result.stdout


async def test_events_show_corrections_from_other_journals(database_url: str, journals: Journals) -> None:
    call_id = await _stream(journals)
    facts = {**no_charge("again").to_facts(), "attempt": 1, "revision": 2, "final": False, "calls": 0, "dims": {}}
    async with journals_at(database_url) as others:
        with others.held() as held:
            await held.record_of_call(call_id, 9, events.COST_CORRECTED, facts)
    rows = [
        json.loads(row)
        for row in (await ledger("events", str(call_id), "--json", url=database_url)).stdout.splitlines()
    ]
    assert rows[-1]["type"] == "cost.corrected"
    assert rows[-1]["journal_id"] != rows[0]["journal_id"]
