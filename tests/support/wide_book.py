"""A book for queries: what `book.py` draws, among so much older matter that reading everything would show in the plan.

The older matter costs nothing and lies outside every period that is asked about, so sums and rows are the drawn book's.
"""

from datetime import timedelta
from decimal import Decimal

import asyncpg

from ledger.projections.projector import Projector
from tests.support.book import START, Book, open_journals, random_book, write

#: The moment at which the queries are asked.
NOW = START + timedelta(hours=6)
_DAYS = 4
_SEED = 68

_FILLING = """
INSERT INTO ledger.calls (call_id, journal_id, received_at, key_id, end_user, response_id, status, finished_at)
    SELECT gen_random_uuid(), gen_random_uuid(), $1::timestamptz - n * interval '6 minutes', 'old-' || n % 50,
        'old-' || n % 500, 'old-' || n, 'rejected', $1
    FROM generate_series(3000, 23000) AS n;
INSERT INTO ledger.spend (hour, dims_sha256, org, team, user_id, key_id, end_user, model, deployment, tier, tags, calls,
        attempts, input_tokens, cached_tokens, cache_write_tokens, output_tokens, reasoning_tokens, billed_usd,
        estimated_usd, unknown_calls)
    SELECT date_trunc('hour', $1::timestamptz - interval '100 days' - n * interval '10 minutes', 'UTC'),
        sha256(n::text::bytea), '', '', '', 'old-' || n % 50, 'old-' || n % 500, 'old', 'eu', '', '{}',
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0
    FROM generate_series(1, 20000) AS n;
INSERT INTO ledger.line_items (keyed, day, dims_sha256, org, team, user_id, key_id, model, meter, quantity, amount_usd,
        unknown_costs)
    SELECT true, ($1::timestamptz AT TIME ZONE 'UTC')::date - 100 - n % 100, sha256(n::text::bytea), '', '', '',
        'old-' || n % 50, 'old', 'output', 0, 0, 0
    FROM generate_series(1, 20000) AS n;
INSERT INTO ledger.journals (journal_id, opened_at, writer, sealed_at, sealed_seq)
    SELECT ledger.journal_floor(
            date_trunc('day', now(), 'UTC') - day * interval '1 day' + minute * interval '1 minute'),
        $1::timestamptz - interval '20 days', '{}', $1::timestamptz - interval '19 days', 500
    FROM generate_series(0, @days@) AS day, generate_series(1, 20) AS minute;
INSERT INTO ledger.events (journal_id, seq, call_id, version, type, schema, recorded_at, facts)
    SELECT j.journal_id, n, gen_random_uuid(), 0, 'cost.recorded', 1, $1::timestamptz - interval '20 days',
        jsonb_build_object('state', 'billed', 'revision', 1, 'pad', repeat('x', 300))
    FROM ledger.journals AS j CROSS JOIN generate_series(1, 500) AS n
    WHERE j.sealed_seq = 500 AND j.writer = '{}';
"""


async def make_wide_book(url: str) -> Book:
    """Fill a migrated database, fold it, and return what was drawn."""
    connection = await asyncpg.connect(url)
    try:
        book = random_book(await open_journals(connection, 3), _SEED, 900)
        _add_administration(book)
        await write(connection, book.all_events())
        projector = Projector(url)
        await projector.catch_up()
        await projector.close()
        for day in range(_DAYS + 1):
            await connection.execute(
                "SELECT ledger.open_partition(date_trunc('day', now() - $1::interval, 'UTC'))", timedelta(day)
            )
        for statement in _FILLING.replace("@days@", str(_DAYS)).split(";\n")[:-1]:
            arguments = [NOW] if "$1" in statement else []
            await connection.execute(statement, *arguments)
        await connection.execute("ANALYZE")
    finally:
        await connection.close()
    return book


def _add_administration(book: Book) -> None:
    """Add what a random book may lack: an unused key, somebody who read a body, a latest call that is whole."""
    journal = max(set(book.events) - book.sealed)
    book.now += timedelta(minutes=5)
    call = book.receive(journal)
    call.steps = ["start", "answer", "chunk", "chunk", "end:completed"]
    while call.steps:
        book.advance(call)
    while not (issued := [event for event in book.all_events() if event.type == "key.issued"]):
        book.administer(journal)
    key = {**issued[0].facts["key"], "key_id": "key-idle", "key_hash": "1d" * 32, "revoked": False}
    book.add(journal, "key.issued", {**issued[0].facts, "revision": 1, "key": key})
    facts = {"actor": "master", "call_id": str(book.ended[0].call_id), "key_id": "key-1", "shown": "events"}
    book.add(journal, "audit.read", {**facts, "through": "GET /ledger/calls/{call_id}/events"})


def sums(book: Book) -> dict[str, Decimal]:
    """Return what all costs of the book add up to: billed, estimated, known (both) and unknown."""
    costs = [event.facts for event in book.all_events() if event.type.startswith("cost.")]
    billed = sum((Decimal(cost["billed_usd"]) for cost in costs), Decimal(0))
    estimated = sum((Decimal(cost["estimated_usd"]) for cost in costs), Decimal(0))
    unknown = Decimal(sum(cost["unknown"] for cost in costs))
    return {"billed": billed, "estimated": estimated, "known": billed + estimated, "unknown": unknown}
