"""The outbox against every order of appends, lost answers, refusals and reconnects: nothing lost, nothing twice."""

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from ledger import chain
from ledger.events import EVENT_UNSTORABLE
from ledger.journal.outbox import FLUSH_BYTES_MAX, FLUSH_EVENTS_MAX, Batch, Outbox, Verdict
from ledger.journal.rows import Entry, leaf
from tests.support.journal import JOURNAL, Purse, put

_NOTE = EVENT_UNSTORABLE.encode()


class Database:
    """Postgres as far as an outbox can see: rows, the last chain value, and events that it refuses."""

    def __init__(self) -> None:
        self.rows: list[Entry] = []
        #: After each batch: how many rows there are, and the chain value.
        self.chains: list[tuple[int, bytes]] = []
        self.poison: set[int] = set()

    def copy(self, batch: Batch) -> str:
        """Take a batch: 'done', 'duplicate' or 'refused', wholly or not at all."""
        if any(entry.seq in self.poison and entry.type != _NOTE for entry in batch.entries):
            return "refused"
        if batch.first_seq <= len(self.rows):
            return "duplicate"
        self.rows += batch.entries
        self.chains.append((len(self.rows), batch.chain))
        return "done"


class OutboxMachine(RuleBasedStateMachine):
    """A writer that may lose any answer."""

    def __init__(self) -> None:
        super().__init__()
        self.outbox = Outbox(JOURNAL)
        self.database = Database()
        self.purse = Purse()
        self.appended: list[Entry] = []
        self.sizes = 0

    @rule(count=st.integers(1, 40), size=st.sampled_from([0, 10, 200_000, 1_200_000]), poisoned=st.booleans())
    def append(self, count: int, size: int, *, poisoned: bool) -> None:
        """Append events of one size, perhaps with one among them that is refused."""
        entries = put(self.outbox, count if size < 100_000 else min(count, 4), body=bytes(size), owner=self.purse)
        if poisoned:
            self.database.poison.add(entries[len(entries) // 2].seq)
        self.appended += entries
        self.sizes += sum(entry.size for entry in entries)

    @rule()
    def append_glued(self) -> None:
        """Append a terminal event and its cost."""
        entries = put(self.outbox, 2, owner=self.purse)
        entries[0].is_glued = True
        self.appended += entries
        self.sizes += sum(entry.size for entry in entries)

    @precondition(lambda self: self.outbox.take() is not None)
    @rule(is_answer_lost=st.booleans())
    def flush(self, *, is_answer_lost: bool) -> None:
        """Send the batch under way; perhaps never hear of it again."""
        batch = self.outbox.take()
        assert batch is not None
        assert len(batch.entries) <= FLUSH_EVENTS_MAX + 1
        assert batch.size <= FLUSH_BYTES_MAX or len(batch.entries) == 1
        answer = self.database.copy(batch)
        if is_answer_lost:
            return
        if answer == "done":
            self.outbox.acknowledge()
        elif answer == "refused":
            self.outbox.narrow("refused")
        else:
            self.reconnect()

    @rule()
    def reconnect(self) -> None:
        """Read where the journal ends, and act on it."""
        last_seq = len(self.database.rows)
        verdict = self.outbox.judge(last_seq, self.database.chains[-1][1] if self.database.chains else None)
        assert verdict in {Verdict.RESEND, Verdict.ACKNOWLEDGE}
        if verdict is Verdict.ACKNOWLEDGE:
            self.outbox.acknowledge()

    @invariant()
    def database_holds_what_was_appended_in_order(self) -> None:
        """No gap, nothing twice, only the refused replaced, nothing acknowledged that is not there."""
        rows = self.database.rows
        assert [entry.seq for entry in rows] == list(range(1, len(rows) + 1))
        for entry in rows:
            assert entry.type == (_NOTE if entry.seq in self.database.poison else self.appended[entry.seq - 1].type)
        assert self.outbox.acknowledged_seq <= len(rows)

    @invariant()
    def sizes_add_up(self) -> None:
        """What is pending and what was given back is what was appended."""
        assert self.outbox.pending_bytes >= 0
        assert self.outbox.pending_bytes + self.purse.given_back == self.sizes

    def teardown(self) -> None:
        """Write the rest; then everything is there, and the chain holds."""
        for _ in range(10_000):
            if self.outbox.take() is None:
                break
            self.flush(is_answer_lost=False)
        assert len(self.database.rows) == len(self.appended)
        value, begin = chain.START, 0
        for end, reached in self.database.chains:
            value = chain.link(value, [leaf(JOURNAL.bytes, entry) for entry in self.database.rows[begin:end]])
            assert value == reached
            begin = end
        assert begin == len(self.database.rows)


OutboxMachine.TestCase.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
TestOutbox = OutboxMachine.TestCase
