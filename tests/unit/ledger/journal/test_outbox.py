"""The outbox played through: every answer that Postgres may give, failures first."""

from hashlib import sha256

import pytest

from ledger import chain
from ledger.events import EVENT_UNSTORABLE
from ledger.journal import outbox as module
from ledger.journal.outbox import FLUSH_BYTES_MAX, FLUSH_EVENTS_MAX, Batch, Outbox, UnstorableError, Verdict
from ledger.journal.rows import leaf
from tests.support.journal import CALL, JOURNAL, NOW_US, Purse, put


def taken(outbox: Outbox) -> Batch:
    batch = outbox.take()
    assert batch is not None
    return batch


def send(outbox: Outbox, refused: set[int], refusals: list[int] | None = None) -> list[Batch]:
    """Play a Postgres that refuses any batch with one of `refused` in it, until all is acknowledged."""
    batches: list[Batch] = []
    for _ in range(10_000):
        batch = outbox.take()
        if batch is None:
            return batches
        if any(entry.seq in refused and entry.type != EVENT_UNSTORABLE.encode() for entry in batch.entries):
            outbox.narrow("refused")
            if refusals is not None:
                refusals.append(len(batch.entries))
        else:
            outbox.acknowledge()
            batches.append(batch)
    raise AssertionError("it never ends")


def test_take_after_a_lost_answer_sends_the_same_bytes_again() -> None:
    outbox = Outbox(JOURNAL)
    put(outbox, 3)
    first = taken(outbox)
    put(outbox, 5)
    assert taken(outbox).data is first.data


def test_take_twice_without_an_acknowledgement_leaves_the_chain() -> None:
    outbox, other = Outbox(JOURNAL), Outbox(JOURNAL)
    for one in (outbox, other):
        put(one, 3)
    taken(outbox)
    outbox.narrow("refused, and taken anew")
    other.take()
    assert outbox.judge(0, None) is Verdict.RESEND
    assert outbox.acknowledged_seq == 0


def test_acknowledge_without_a_batch_under_way_is_a_programming_error() -> None:
    with pytest.raises(AssertionError, match="without a batch"):
        Outbox(JOURNAL).acknowledge()


def test_acknowledge_advances_the_chain_over_the_leaves_of_the_batch() -> None:
    outbox = Outbox(JOURNAL)
    entries = put(outbox, 3)
    assert taken(outbox).chain == chain.link(chain.START, [leaf(JOURNAL.bytes, entry) for entry in entries])
    first = outbox.acknowledge().chain
    more = put(outbox, 2)
    assert taken(outbox).chain == chain.link(first, [leaf(JOURNAL.bytes, entry) for entry in more])


@pytest.mark.parametrize(
    ("last_seq", "last_chain", "verdict"),
    [
        (0, None, Verdict.LOST_TAIL),
        (2, b"whatever", Verdict.LOST_TAIL),
        (3, "acknowledged", Verdict.RESEND),
        (3, b"of another writer", Verdict.FENCED),
        (3, None, Verdict.FENCED),
        (4, None, Verdict.FENCED),
        (5, "under way", Verdict.ACKNOWLEDGE),
        (5, "acknowledged", Verdict.FENCED),
        (5, None, Verdict.FENCED),
        (6, "under way", Verdict.FENCED),
    ],
)
def test_judge_with_three_acknowledged_and_two_under_way(
    last_seq: int, last_chain: bytes | str | None, verdict: Verdict
) -> None:
    outbox = Outbox(JOURNAL)
    put(outbox, 3)
    known = {"acknowledged": taken(outbox).chain}
    outbox.acknowledge()
    put(outbox, 2)
    known["under way"] = taken(outbox).chain
    put(outbox, 4)
    assert outbox.judge(last_seq, known[last_chain] if isinstance(last_chain, str) else last_chain) is verdict


@pytest.mark.parametrize(("last_seq", "verdict"), [(0, Verdict.RESEND), (1, Verdict.FENCED), (3, Verdict.FENCED)])
def test_judge_of_an_empty_journal_with_nothing_acknowledged(last_seq: int, verdict: Verdict) -> None:
    outbox = Outbox(JOURNAL)
    put(outbox, 3)
    taken(outbox)
    assert outbox.judge(last_seq, None) is verdict


def test_judge_with_nothing_under_way_and_a_longer_journal_is_fenced() -> None:
    outbox = Outbox(JOURNAL)
    put(outbox, 1)
    sent = taken(outbox)
    outbox.narrow("refused")
    assert outbox.judge(1, sent.chain) is Verdict.FENCED


@pytest.mark.parametrize("culprit", [1, 2, 3, 999, 1_000, 1_001, 1_999, 2_000])
def test_narrow_with_one_culprit_of_two_thousand_changes_only_that(culprit: int) -> None:
    outbox = Outbox(JOURNAL)
    put(outbox, 2_000)
    refusals: list[int] = []
    entries = [entry for batch in send(outbox, {culprit}, refusals) for entry in batch.entries]
    assert [entry.seq for entry in entries] == list(range(1, 2_001))
    assert [entry.seq for entry in entries if entry.type == EVENT_UNSTORABLE.encode()] == [culprit]
    assert len(refusals) <= 45
    assert outbox.pending_bytes == 0


@pytest.mark.parametrize("culprits", [{1, 2}, {1, 2_000}, {500, 501, 502, 1_500}, set(range(1, 2_001, 97))])
def test_narrow_with_several_culprits_changes_each(culprits: set[int]) -> None:
    outbox = Outbox(JOURNAL)
    put(outbox, 2_000)
    entries = [entry for batch in send(outbox, culprits) for entry in batch.entries]
    assert {entry.seq for entry in entries if entry.type == EVENT_UNSTORABLE.encode()} == culprits
    assert len(entries) == 2_000


def test_narrow_keeps_of_the_culprit_its_place_and_its_hashes() -> None:
    outbox = Outbox(JOURNAL)
    (culprit,) = put(outbox, body=b"poison")
    taken(outbox)
    outbox.narrow("DataError: no")
    (note,) = taken(outbox).entries
    assert (note.seq, note.call_id, note.version, note.recorded_us, note.body) == (
        culprit.seq, culprit.call_id, culprit.version, culprit.recorded_us, None,
    )  # fmt: skip
    assert f'"body_sha256":"{sha256(b"poison").hexdigest()}"'.encode() in note.facts
    assert b'"error":"DataError: no"' in note.facts
    assert b'"type":"chunk.received"' in note.facts


def test_narrow_of_a_note_that_is_refused_too_gives_up() -> None:
    outbox = Outbox(JOURNAL)
    put(outbox)
    taken(outbox)
    outbox.narrow("no")
    taken(outbox)
    with pytest.raises(UnstorableError, match="still no"):
        outbox.narrow("still no")


def test_narrow_gives_back_the_size_of_the_culprit_not_of_the_note() -> None:
    outbox, purse = Outbox(JOURNAL), Purse()
    (entry,) = put(outbox, body=bytes(100_000), owner=purse)
    taken(outbox)
    outbox.narrow("no")
    taken(outbox)
    outbox.acknowledge()
    assert purse.given_back == entry.size
    assert outbox.pending_bytes == 0


def test_take_after_the_culprit_was_found_grows_back_to_whole_batches() -> None:
    outbox = Outbox(JOURNAL)
    put(outbox, 2_000)
    send(outbox, {1_000})
    put(outbox, 12_000)
    sizes = [len(batch.entries) for batch in send(outbox, set())]
    assert sizes[-2] == FLUSH_EVENTS_MAX


def test_take_of_many_events_keeps_to_the_number_of_a_flush() -> None:
    outbox = Outbox(JOURNAL)
    put(outbox, 2 * FLUSH_EVENTS_MAX + 1)
    assert [len(batch.entries) for batch in send(outbox, set())] == [FLUSH_EVENTS_MAX, FLUSH_EVENTS_MAX, 1]


def test_take_of_large_events_keeps_to_the_bytes_of_a_flush() -> None:
    outbox = Outbox(JOURNAL)
    put(outbox, 20, body=bytes(300_000))
    batches = send(outbox, set())
    assert all(batch.size <= FLUSH_BYTES_MAX for batch in batches)
    assert [len(batch.entries) for batch in batches] == [3, 3, 3, 3, 3, 3, 2]


def test_take_of_an_event_larger_than_a_flush_sends_it_alone() -> None:
    outbox = Outbox(JOURNAL)
    put(outbox, 1)
    put(outbox, 1, body=bytes(2 * FLUSH_BYTES_MAX))
    put(outbox, 1)
    assert [len(batch.entries) for batch in send(outbox, set())] == [1, 1, 1]


@pytest.mark.parametrize("before", [0, 1, FLUSH_EVENTS_MAX - 2, FLUSH_EVENTS_MAX - 1, FLUSH_EVENTS_MAX])
def test_take_at_the_number_of_a_flush_keeps_a_glued_pair_together(before: int) -> None:
    outbox = Outbox(JOURNAL)
    put(outbox, before)
    end, cost = put(outbox, 2)
    end.is_glued = True
    put(outbox, 3)
    assert _together(send(outbox, set()), end.seq, cost.seq)


@pytest.mark.parametrize("sizes", [(1_000_000, 100, 100_000), (0, 1_000_000, 100_000), (0, 100, 2_000_000)])
def test_take_at_the_bytes_of_a_flush_keeps_a_glued_pair_together(sizes: tuple[int, int, int]) -> None:
    outbox = Outbox(JOURNAL)
    entries = [put(outbox, 1, body=bytes(size))[0] for size in sizes]
    entries[1].is_glued = True
    put(outbox, 2)
    assert _together(send(outbox, set()), entries[1].seq, entries[2].seq)


def test_take_of_a_glued_event_without_its_partner_does_not_wait_for_it() -> None:
    outbox = Outbox(JOURNAL)
    put(outbox, 1)[0].is_glued = True
    assert len(taken(outbox).entries) == 1


def test_narrow_with_a_culprit_in_a_glued_pair_finds_it() -> None:
    outbox = Outbox(JOURNAL)
    entries = put(outbox, 4)
    entries[1].is_glued = True
    batches = send(outbox, {3})
    assert [entry.seq for batch in batches for entry in batch.entries] == [1, 2, 3, 4]


def test_rest_of_what_never_will_be_durable_frees_all_of_it() -> None:
    outbox, purse = Outbox(JOURNAL), Purse()
    entries = put(outbox, 5, owner=purse)
    taken(outbox)
    assert outbox.rest() == entries
    assert (outbox.pending_bytes, purse.given_back) == (0, sum(entry.size for entry in entries))
    assert outbox.take() is None
    assert outbox.rest() == []


def test_pending_bytes_of_an_event_counts_facts_body_and_row() -> None:
    outbox = Outbox(JOURNAL)
    entry = outbox.append(None, None, b"key.issued", b'{"a":1}', None, NOW_US, None)
    assert entry.size == 7 + module.Entry(1, CALL.bytes, 0, b"", b"", b"", 0, None).size
    assert outbox.pending_bytes == entry.size


def _together(batches: list[Batch], first: int, second: int) -> bool:
    return any(batch.first_seq <= first and second <= batch.last_seq for batch in batches)
