"""What the engine tells of a call: one end, each charge once, as the book has them, whatever happens."""

import pytest

from llm.upstream import UpstreamError
from tests.support.engine import COMPLETED, JSON, PLAIN, SSE, Bench, FakeAnswer, FakeRecord, delta

BROKEN = UpstreamError("cut", "the upstream broke off its answer", sent=True)


def stream() -> FakeAnswer:
    return FakeAnswer(200, SSE, [delta("a"), COMPLETED])


async def test_outcome_of_a_stream_is_what_its_terminal_event_says() -> None:
    bench = await Bench(stream()).serve()
    (outcome,) = bench.observer.outcomes
    (facts,) = bench.record.facts("call.completed")
    assert (outcome.terminal, outcome.status, outcome.is_stream) == ("call.completed", 200, True)
    assert (outcome.chunks, outcome.answer_bytes, outcome.first_chunk_us) == (
        facts["chunks"],
        facts["answer_bytes"],
        facts["first_chunk_us"],
    )
    assert 0 < outcome.upstream_us <= outcome.duration_us
    assert outcome.charge is bench.observer.charges[0][1]
    assert len(bench.observer.charges) == 1


async def test_charges_of_all_attempts_are_told_and_one_end() -> None:
    answers = [FakeAnswer(500, JSON, [b"{}"]), BROKEN, FakeAnswer(200, JSON, [PLAIN])]
    bench = await Bench(*answers, retries=2, is_stream=False).serve()
    assert [charge.unknown for _, charge in bench.observer.charges] == [
        facts["unknown"] for facts in bench.record.facts("cost.recorded")
    ]
    (outcome,) = bench.observer.outcomes
    assert (outcome.terminal, outcome.attempts, len(bench.observer.charges)) == ("call.completed", 3, 3)


async def test_call_refused_by_the_ledger_is_told_as_rejected() -> None:
    bench = await Bench(record=FakeRecord(is_stalled=True)).serve()
    (outcome,) = bench.observer.outcomes
    assert (outcome.terminal, outcome.status, outcome.upstream_us) == ("call.rejected", 503, 0)


@pytest.mark.parametrize("event", range(5))
async def test_call_whose_journal_is_taken_over_is_told_as_abandoned_with_its_real_charge_at_most_once(
    event: int,
) -> None:
    bench = await Bench(stream(), record=FakeRecord(fenced_from=event)).serve()
    (outcome,) = bench.observer.outcomes
    assert outcome.terminal == "call.abandoned"
    # A call that was taken over before it was sent costs nothing; any other one costs what it really cost, once.
    assert len(bench.observer.charges) == (0 if event == 0 else 1)
    assert [charge for _, charge in bench.observer.charges] == [charge for _, charge in bench.bookkeeper.settled]
