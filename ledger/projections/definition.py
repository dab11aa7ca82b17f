"""What a projection is: a name, a version, tables, and the statements that fold a batch of events into them.

The rules for a statement, which `fold.py` relies on:
- it reads events of the given spans only, `seq > lo AND seq <= hi`, never anything newer;
- it adds, takes the greatest, or lets the highest revision win, so that the order of journals does not matter;
- it writes its rows in the order of their key, so that two writers cannot deadlock.
"""

from dataclasses import dataclass

from ledger.projections.rollup import Rollup

#: Stands for the schema of the tables in a statement: the live one, or the one where a rebuild works.
TARGET = "@target@"

#: Which events of the spans a statement reads. LATERAL and OFFSET 0 keep the planner at one index scan a span; ANY($1)
#: lets it drop the partitions of all other days when it plans. The partial index of events leaves the chunks out.
_SPANS = """
    SELECT s.journal_id, e.seq, e.call_id, e.version, e.type, e.schema, e.recorded_at, e.facts
    FROM unnest($1::uuid[], $2::bigint[], $3::bigint[]) AS s (journal_id, lo, hi)
    CROSS JOIN LATERAL (
        SELECT seq, call_id, version, type, schema, recorded_at, facts FROM ledger.events
        WHERE journal_id = s.journal_id AND journal_id = ANY ($1::uuid[])
          AND seq > s.lo AND seq <= s.hi AND type <> 'chunk.received' AND @which@
        OFFSET 0
    ) AS e
"""


def events_where(which: str) -> str:
    """Return the subquery of the spans' events for which the SQL condition `which` holds."""
    return _SPANS.replace("@which@", which)


@dataclass(frozen=True, slots=True)
class Projection:
    """A fold of events into `tables`.

    Each statement takes $1 uuid[] journals, $2 bigint[] from (exclusive), $3 bigint[] up to (inclusive), and, where
    `numbered`, $4 bigint: the number of the batch. `version` rises with every change of what the statements compute;
    only processes of the newest version fold, and a rebuild raises it.
    """

    name: str
    version: int
    tables: tuple[str, ...]
    statements: tuple[str, ...]
    numbered: bool
    #: Sums of past days of its rows, in tables beside `tables`.
    rollup: Rollup | None = None

    @property
    def all_tables(self) -> tuple[str, ...]:
        """Its tables, those of the rollup after the ones that they are computed from."""
        return self.tables + (self.rollup.tables if self.rollup is not None else ())

    def statements_into(self, target: str) -> tuple[str, ...]:
        """Return the statements that fold into the tables of schema `target`."""
        return tuple(statement.replace(TARGET, target) for statement in self.statements)
