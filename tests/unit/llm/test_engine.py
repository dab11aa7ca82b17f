"""The order in which the engine writes and sends, and that every call ends once, whatever happens when."""

import asyncio
import zlib
from typing import Any

import brotli
import pytest
import zstandard

from llm.upstream import UpstreamError
from tests.support.engine import COMPLETED, JSON, PLAIN, SSE, Bench, FakeAnswer, FakeRecord, delta, deployed

UNSENT = UpstreamError("connect", "no connection", sent=False)
BROKEN = UpstreamError("cut", "the upstream broke off its answer", sent=True)


def stream(*pieces: Any) -> FakeAnswer:
    return FakeAnswer(200, SSE, pieces)


def plain(status: int = 200, body: bytes = PLAIN, headers: list[tuple[str, str]] | None = None) -> FakeAnswer:
    return FakeAnswer(status, [*JSON, *(headers or [])], [body])


async def test_stream_is_recorded_relayed_and_its_end_held_until_it_is_booked() -> None:
    bench = Bench()
    seen: list[tuple[list[str], bytes]] = []

    def look() -> None:
        seen.append((bench.record.types, bench.client.body))

    bench.upstream._answers.append(stream(delta("a"), look, COMPLETED, look))
    await bench.serve()
    assert seen[0] == (["attempt.started", "attempt.answered", "chunk.received"], delta("a"))
    assert seen[1][1] == delta("a"), "the terminal event was relayed before its end was booked"
    assert bench.client.body == delta("a") + COMPLETED
    assert bench.client.has_ended
    assert bench.record.types[-2:] == ["call.completed", "cost.recorded"]
    assert bench.record.closed


async def test_call_that_cannot_be_recorded_is_refused_and_not_sent() -> None:
    bench = await Bench(record=FakeRecord(is_stalled=True)).serve()
    assert bench.upstream.requests == []
    assert bench.client.status == 503
    assert bench.record.types == ["attempt.started", "attempt.failed", "cost.recorded", "call.rejected"]
    assert bench.record.facts("cost.recorded")[0]["state"] == "billed"


async def test_end_of_a_stream_that_is_not_durable_in_time_is_told_as_an_error() -> None:
    bench = Bench()
    bench.upstream._answers.append(stream(delta("a"), COMPLETED, lambda: setattr(bench.record, "is_stalled", True)))
    await bench.serve()
    assert bench.client.body.startswith(delta("a") + b"event: error\n")
    assert COMPLETED not in bench.client.body
    assert bench.end[0] == "call.completed"


@pytest.mark.parametrize(("coding", "cut"), [("br", 3), ("zstd", 3), ("deflate", 3), ("unheard-of", 0)])
async def test_plain_answer_whose_coding_cannot_be_undone_is_passed_on_and_not_stored(coding: str, cut: int) -> None:
    text = PLAIN[:-1] + b',"tools":[{"authorization":"canary-5b1e"}]}'
    packed = {"br": brotli.compress, "zstd": zstandard.compress, "deflate": zlib.compress}.get(coding, bytes)(text)
    coded = packed[: len(packed) - cut]
    bench = await Bench(FakeAnswer(200, [*JSON, ("content-encoding", coding)], [coded]), is_stream=False).serve()
    assert bench.client.body == coded
    ((facts, stored),) = [event[1:] for event in bench.record.events if event[0] == "body.received"]
    assert (stored, facts["withheld_bytes"]) == (b"", len(coded))


async def test_plain_answer_that_is_not_durable_in_time_is_withheld() -> None:
    answer = plain()
    bench = Bench(answer, is_stream=False)
    answer._pieces.append(lambda: setattr(bench.record, "is_stalled", True))
    await bench.serve()
    assert (bench.client.status, bench.end[0]) == (503, "call.completed")
    assert PLAIN not in bench.client.body
    assert bench.client.head is not None
    assert ("x-should-retry", "false") in bench.client.head.headers


@pytest.mark.parametrize("grace_s", [0.0, 0.02])
async def test_shutdown_while_the_end_is_being_recorded_books_it_once(grace_s: float) -> None:
    for is_stream in (True, False):
        answer = stream(COMPLETED) if is_stream else plain()
        bench = Bench(answer, is_stream=is_stream)
        answer._pieces.append(lambda bench=bench: setattr(bench.record, "is_stalled", True))
        serving = asyncio.create_task(bench.serve())
        while not bench.record.is_stalled:  # noqa: ASYNC110 - a flag of the record
            await asyncio.sleep(0)
        await bench.engine.shut_down(grace_s)
        await serving
        assert bench.end[0] == "call.completed"
        assert len(bench.record.facts("cost.recorded")) == 1


async def test_shutdown_ends_a_stream_that_outlasts_its_grace_with_an_estimate() -> None:
    bench = Bench()
    bench.upstream._answers.append(stream(delta("some text"), lambda: asyncio.sleep(30)))
    serving = asyncio.create_task(bench.serve())
    while delta("some text") not in bench.client.body:  # noqa: ASYNC110 - a flag of the client
        await asyncio.sleep(0)
    await bench.engine.shut_down(0.02)
    await serving
    assert (bench.end[0], bench.end[1]["error"]["code"]) == ("call.truncated", "shutdown")
    assert bench.record.facts("cost.recorded")[0]["state"] == "estimated"
    assert bench.client.body.startswith(delta("some text") + b"event: error\n")


async def test_shutdown_is_not_put_off_by_a_longer_drain() -> None:
    bench = Bench(drain_timeout_s=60.0)
    bench.upstream._answers.append(stream(delta("a"), bench.client.leave, lambda: asyncio.sleep(30)))
    serving = asyncio.create_task(bench.serve())
    while not bench.client.is_gone:  # noqa: ASYNC110 - a flag of the client
        await asyncio.sleep(0)
    await bench.engine.shut_down(0.02)
    await asyncio.wait_for(serving, 2)
    assert bench.end[1]["error"]["code"] == "shutdown"
    assert bench.end[1]["delivered"] is False


async def test_stream_that_breaks_by_itself_after_the_client_left_is_not_blamed_on_the_drain() -> None:
    bench = Bench()
    bench.upstream._answers.append(stream(delta("a"), bench.client.leave, BROKEN))
    await bench.serve()
    assert (bench.end[0], bench.end[1]["error"]["code"]) == ("call.truncated", "truncated")
    assert bench.record.types[3] == "client.disconnected"


async def test_client_that_left_before_anything_was_sent_costs_nothing() -> None:
    bench = Bench()
    bench.client.is_gone = True
    await bench.serve()
    assert bench.upstream.requests == []
    assert (bench.end[0], bench.end[1]["error"]["code"]) == ("call.cancelled", "client_left")
    assert bench.record.facts("cost.recorded")[0]["billed_usd"] == "0"


async def test_attempt_that_failed_is_charged_once_and_not_again_by_its_pause() -> None:
    bench = Bench(plain(500), plain(), retries=1, is_stream=False)
    await bench.serve()
    costs = bench.record.facts("cost.recorded")
    assert [(cost["attempt"], cost["final"], cost["calls"]) for cost in costs] == [(1, False, 1), (2, True, 0)]
    assert bench.client.body == PLAIN


async def test_failure_that_was_never_sent_costs_nothing_and_one_that_was_is_unknown() -> None:
    bench = await Bench(UNSENT, BROKEN, retries=1, is_stream=False).serve()
    costs = bench.record.facts("cost.recorded")
    assert [(cost["state"], cost["billed_usd"]) for cost in costs] == [("billed", "0"), ("unknown", "0")]
    assert [facts["reason"] for facts in bench.record.facts("attempt.failed")] == ["connect", "cut"]


async def test_answer_that_is_too_large_is_not_asked_for_again() -> None:
    too_large = UpstreamError("too_large", "its answer is too large", sent=True)
    bench = await Bench(too_large, plain(), retries=3, is_stream=False).serve()
    assert len(bench.upstream.requests) == 1


# A journal that is taken over at each place of a call: never a second end, and real usage is settled.


@pytest.mark.parametrize("fenced_from", range(7))
async def test_stream_whose_journal_is_taken_over_is_read_on_and_settled(fenced_from: int) -> None:
    record = FakeRecord(fenced_from=fenced_from)
    answer = stream(delta("a"), delta("b"), COMPLETED)
    bench = await Bench(answer, record=record).serve()
    assert len(record.events) <= fenced_from
    assert bench.client.has_ended
    assert record.closed
    if fenced_from == 0:
        assert bench.upstream.requests == []
        assert bench.client.status == 503
        return
    assert answer.read == 3, "the upstream was not read to its end"
    assert [attempt for attempt, _ in bench.bookkeeper.settled] == [1]
    assert bench.bookkeeper.billed_usd > 0
    assert COMPLETED not in bench.client.body
    if fenced_from >= 2:
        assert b"event: error\n" in bench.client.body


@pytest.mark.parametrize("fenced_from", range(1, 5))
async def test_plain_answer_whose_journal_is_taken_over_is_settled_and_withheld(fenced_from: int) -> None:
    bench = await Bench(plain(), record=FakeRecord(fenced_from=fenced_from), is_stream=False).serve()
    assert [attempt for attempt, _ in bench.bookkeeper.settled] == [1]
    assert bench.bookkeeper.billed_usd > 0
    assert bench.client.status == 503
    assert PLAIN not in bench.client.body


async def test_fault_of_the_program_closes_the_call_and_answers_500(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("llm.engine.of_plain", fail)
    bench = await Bench(plain(), is_stream=False).serve()
    assert (bench.end[0], bench.end[1]["error"]["code"]) == ("call.failed", "internal_error")
    assert bench.record.facts("cost.recorded")[0]["state"] == "unknown"
    assert bench.client.status == 500
    assert bench.record.closed


async def test_fault_of_the_program_after_the_end_was_booked_books_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("llm.engine.cost_header", fail)
    bench = await Bench(plain(), is_stream=False).serve()
    assert bench.end[0] == "call.completed"
    assert len(bench.record.facts("cost.recorded")) == 1


async def test_call_whose_task_is_cancelled_stays_open_for_recovery() -> None:
    bench = Bench()
    bench.upstream._answers.append(stream(delta("a"), lambda: asyncio.sleep(30)))
    serving = asyncio.create_task(bench.engine.serve(bench.call))
    while not bench.client.body:  # noqa: ASYNC110 - a flag of the client
        await asyncio.sleep(0)
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    assert not bench.record.closed
    assert not [type_ for type_ in bench.record.types if type_.startswith("call.")]
    assert bench.engine.in_flight == 0


async def test_call_that_has_ended_is_not_kept_alive_by_its_client() -> None:
    bench = await Bench(plain(), is_stream=False).serve()
    assert getattr(bench.client.on_gone, "__closure__", None) is None


async def test_fallback_is_counted_apart_from_retries() -> None:
    models = [deployed("gpt-4o", "a"), deployed("second", "b"), deployed("third", "c")]
    bench = Bench(plain(500), plain(500), plain(500), plain(), models=models, retries=1, is_stream=False)
    bench.engine.router.routing = type(bench.engine.router.routing)(1, 0.0, {"gpt-4o": ("second", "third")})
    await bench.serve()
    head = bench.client.head
    assert head is not None
    assert (head.deployment_id, head.retries, head.fallbacks) == ("c", 1, 2)


async def test_answer_that_gives_the_deployments_key_for_its_names_is_booked_without_it() -> None:
    key = b"sk-upstream-key"
    said = PLAIN.replace(b"resp_1", key).replace(b"gpt-4o-2024-08-06", key).replace(b"default", key)
    events = await _booked(FakeAnswer(200, JSON, [said]))
    assert "sk-upstream-key" not in str(events)
    assert "[masked]" in str(events)
    refusal = b'data: {"type":"error","error":{"type":"rate_limit_exceeded","code":"%s","message":"x"}}\n\n' % key
    assert "sk-upstream-key" not in str(await _booked(FakeAnswer(200, SSE, [refusal])))


async def _booked(answer: FakeAnswer) -> list[Any]:
    bench = await Bench(answer, is_stream=answer.headers == SSE).serve()
    return bench.record.events
