"""Builds books for tests: journals with interleaved calls in the shapes that the product records, written by plain SQL.

Uses nothing of the product, so that a projection is compared with something else than itself. One seed, one book.
`tests/support/plain_fold.py` computes from the same events what the projections must hold.
"""

import hashlib
import json
import random
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import asyncpg

START = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)
COLUMNS = ("journal_id", "seq", "call_id", "version", "type", "schema", "recorded_at", "facts", "body", "chain")
INPUT_USD, OUTPUT_USD = Decimal("0.00000125"), Decimal("0.00001")


@dataclass
class Event:
    """One event as it will be inserted; `facts` is still a mapping."""

    journal_id: uuid.UUID
    seq: int
    call_id: uuid.UUID | None
    version: int | None
    type: str
    recorded_at: datetime
    facts: dict[str, Any]
    body: bytes | None = None

    def row(self) -> tuple[object, ...]:
        """Return the event in the order of COLUMNS."""
        facts = json.dumps(self.facts)
        return (
            self.journal_id,
            self.seq,
            self.call_id,
            self.version,
            self.type,
            1,
            self.recorded_at,
            facts,
            self.body,
            None,
        )


def spell(at: datetime) -> str:
    """Spell a time as facts do."""
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def usd(amount: Decimal) -> str:
    """Spell an amount as facts do."""
    return format(amount.normalize(), "f")


def uuid7(rng: random.Random, at: datetime) -> uuid.UUID:
    """Make a UUIDv7 of a moment from seeded randomness."""
    millis = int(at.timestamp() * 1000)
    number = (millis << 80) | (0x7 << 76) | (rng.getrandbits(12) << 64) | (0x2 << 62) | rng.getrandbits(62)
    return uuid.UUID(int=number)


def _items(usage: dict[str, int]) -> list[dict[str, Any]]:
    """Return the line items of usage, or of a difference of usages."""
    cached, written = usage["cached_tokens"], usage["cache_write_tokens"]
    quantities = {
        "input_uncached": (usage["input_tokens"] - cached - written, INPUT_USD),
        "input_cached": (cached, INPUT_USD),
        "input_cache_write": (written, INPUT_USD),
        "output": (usage["output_tokens"], OUTPUT_USD),
    }
    return [
        {"meter": meter, "quantity": count, "unit_price_usd": usd(price), "amount_usd": usd(count * price)}
        for meter, (count, price) in quantities.items()
        if count
    ]


@dataclass
class Call:
    """A call under way: what its later events need to know."""

    call_id: uuid.UUID
    journal_id: uuid.UUID
    received_at: datetime
    dims: dict[str, Any]
    steps: list[str]
    attempt: int = 0
    version: int = 0
    usage: dict[str, int] | None = None
    states: dict[int, str] = field(default_factory=dict)
    amounts: dict[int, Decimal] = field(default_factory=dict)


class Book:
    """Events of several journals, drawn at random; `events[journal]` lists each journal's in order."""

    def __init__(self, journals: list[uuid.UUID], seed: int, start: datetime = START) -> None:
        self.rng = random.Random(seed)
        self.events: dict[uuid.UUID, list[Event]] = {journal: [] for journal in journals}
        self.open: dict[uuid.UUID, list[Call]] = {journal: [] for journal in journals}
        self.ended: list[Call] = []
        self.sealed: set[uuid.UUID] = set()
        self.now = start
        # Writers' clocks disagree: by more than a batch takes, so that reading by time is wrong.
        self.skew = {journal: timedelta(seconds=self.rng.uniform(-90, 90)) for journal in journals}
        self._revisions: dict[str, int] = {}
        for journal in journals:
            self.add(journal, "journal.opened", {"host": "h", "pid": 1, "version": "0", "links": []})

    def add(
        self, journal: uuid.UUID, kind: str, facts: dict[str, Any], call: Call | None = None, body: bytes | None = None
    ) -> Event:
        """Append an event to a journal."""
        self.now += timedelta(milliseconds=self.rng.randrange(1, 40_000))
        own = call is not None and call.journal_id == journal
        event = Event(
            journal,
            len(self.events[journal]) + 1,
            call.call_id if call else None,
            call.version if call else None,
            kind,
            self.now + self.skew[journal] + timedelta(microseconds=self.rng.randrange(1000)),
            facts,
            body,
        )
        if call and own:
            call.version += 1
        self.events[journal].append(event)
        return event

    def all_events(self) -> list[Event]:
        """Return the events of all journals, journal by journal."""
        return [event for events in self.events.values() for event in events]

    # Calls

    def receive(self, journal: uuid.UUID) -> Call:
        """Record a new call, and decide what will become of it."""
        rng = self.rng
        steps = rng.choices(
            [
                ["start", "answer", "chunk", "chunk", "chunk", "end:completed"],
                ["start", "answer", "body", "end:completed"],
                ["reject"],
                ["start", "fail", "start", "answer", "chunk", "end:completed"],
                ["start", "answer", "chunk", "disconnect", "chunk", "end:cancelled"],
                ["start", "answer", "chunk", "end:incomplete"],
                ["start", "answer", "end:failed"],
                ["start", "answer", "chunk", "chunk", "end:truncated"],
                ["start", "answer", "chunk", "never"],
            ],
            weights=[6, 6, 1, 2, 1, 1, 1, 1, 1],
        )[0]
        dims = {
            "journal_id": str(journal),
            "org": rng.choice(["", "acme"]),
            "team": rng.choice(["", "red", "blue"]),
            "user": rng.choice(["", "ann"]),
            "key": rng.choice(["key-1", "key-2", "key-3", "master"]),
            "end_user": rng.choice(["", "alice", "bob", "cärol"]),
            "model": rng.choice(["gpt-5", "gpt-5-mini"]),
            "deployment": "",
            "tags": rng.choice([[], ["a"], ["a", "b"], ["b", 'c"\\,{']]),
        }
        call = Call(uuid7(rng, self.now), journal, self.now, dims, list(steps))
        facts = {
            "method": "POST", "path": "/v1/responses", "query": "", "headers": [["content-type", "application/json"]],
            "key_id": dims["key"], "key_alias": f"alias of {dims['key']}", "org": dims["org"], "team": dims["team"],
            "user": dims["user"], "end_user": dims["end_user"], "tags": dims["tags"], "model": dims["model"],
            "stream": "chunk" in steps, "client_address": "10.0.0.1", "client_retry": rng.choice([None, 0, 1]),
            "body_bytes": 321, "content_encoding": "", "parts": 1,
        }  # fmt: skip
        event = self.add(journal, "call.received", facts, call, b'{"model":"m","input":"hello"}')
        call.received_at = event.recorded_at
        dims["received_at"] = spell(event.recorded_at)
        self.open[journal].append(call)
        return call

    def advance(self, call: Call) -> None:
        """Record the next thing that happens to a call."""
        if call.steps[0] == "never":
            return
        step, _, how = call.steps.pop(0).partition(":")
        journal, attempt = call.journal_id, call.attempt
        match step:
            case "start":
                call.attempt += 1
                call.dims["deployment"] = self.rng.choice(["eu", "us"])
                self.add(journal, "attempt.started", {
                    "attempt": call.attempt, "kind": "first" if call.attempt == 1 else "retry",
                    "deployment": call.dims["deployment"], "model": call.dims["model"], "upstream_model": "gpt-5-2025",
                    "url": "https://api.openai.com/v1/responses", "sent_sha256": "00" * 32, "sent_bytes": 300,
                    "settles": "answer", "held": [],
                }, call)  # fmt: skip
            case "answer":
                self.add(journal, "attempt.answered", {
                    "attempt": attempt, "status": 200, "headers": [["content-type", "text/event-stream"]],
                    "upstream_request_id": f"req_{self.rng.getrandbits(40):x}", "latency_us": 52_000,
                }, call)  # fmt: skip
            case "chunk":
                self.add(journal, "chunk.received", {}, call, f"data: {self.rng.random()}\n\n".encode())
            case "body":
                self.add(journal, "body.received", {"attempt": attempt, "body_bytes": 10, "parts": 2}, call, b'{"id":')
                self.add(journal, "body.part", {"of": call.version - 1, "part": 2, "parts": 2}, call, b'"x"}')
            case "fail":
                facts = {"attempt": attempt, "reason": "connect", "message": "refused", "status": None, "sent": False}
                self.add(journal, "attempt.failed", facts, call)
                self.charge(call, journal, "billed", None, ends=False)
            case "disconnect":
                self.add(journal, "client.disconnected", {"phase": "stream"}, call)
            case "reject":
                error = {
                    "message": "no such model",
                    "type": "invalid_request_error",
                    "param": None,
                    "code": "model_not_found",
                }
                self.add(journal, "call.rejected", {"status": 404, "error": error, "reason": "model"}, call)
                self.open[journal].remove(call)
            case _:
                self.end(call, how)

    def end(self, call: Call, how: str) -> None:
        """Record the call's terminal event and its cost."""
        known = how in {"completed", "incomplete"}
        self.add(call.journal_id, f"call.{how}", {
            "attempt": call.attempt, "http_status": 200, "response_id": f"resp_{call.call_id.hex}" if known else None,
            "response_status": how if known else None, "model": "gpt-5-2025" if known else None,
            "tier": self.rng.choice(["default", "priority"]) if known else None, "chunks": 3, "answer_bytes": 900,
            "first_chunk_us": self.rng.choice([None, 81_000]), "duration_us": 1_200_000, "delivered": known,
            "error": None if known else {"code": "server_error", "message": "m"}, "attempts": call.attempt,
        }, call)  # fmt: skip
        self.open[call.journal_id].remove(call)
        if call.attempt == 0:
            return
        usage = self.draw_usage()
        if known:
            self.charge(call, call.journal_id, "billed", usage)
        else:
            state = self.rng.choice(["estimated", "unknown"])
            self.charge(call, call.journal_id, state, usage if state == "estimated" else None)
        self.ended.append(call)

    def draw_usage(self) -> dict[str, int]:
        """Draw token counts that obey the rules of usage."""
        tokens, output = self.rng.randrange(1, 9000), self.rng.randrange(1, 3000)
        return {
            "input_tokens": tokens, "cached_tokens": tokens // 3, "cache_write_tokens": tokens // 5,
            "output_tokens": output, "reasoning_tokens": output // 2,
        }  # fmt: skip

    def charge(
        self, call: Call, journal: uuid.UUID, state: str, usage: dict[str, int] | None, *, ends: bool = True
    ) -> None:
        """Record revision 1 of an attempt's cost."""
        amount = self._price(usage)
        call.usage, call.states[call.attempt], call.amounts[call.attempt] = usage, state, amount
        self.add(journal, "cost.recorded", {
            **self._cost(call, state, usage, 1), "calls": int(ends), "final": state == "billed",
            "billed_usd": usd(amount) if state == "billed" else "0",
            "estimated_usd": usd(amount) if state == "estimated" else "0", "unknown": int(state == "unknown"),
        }, call)  # fmt: skip

    def correct(self, call: Call, journal: uuid.UUID) -> None:
        """Record, in any journal and as differences, that an uncertain attempt's real usage became known."""
        before, estimate = call.states[call.attempt], call.amounts[call.attempt]
        real = self.draw_usage()
        amount, old = self._price(real), call.usage or dict.fromkeys(real, 0)
        delta = {name: real[name] - old[name] for name in real}
        self.add(journal, "cost.corrected", {
            **self._cost(call, "billed", delta, 2), "calls": 0, "final": True, "billed_usd": usd(amount),
            "estimated_usd": usd(-estimate) if before == "estimated" else "0", "unknown": -int(before == "unknown"),
        }, call)  # fmt: skip
        call.usage, call.states[call.attempt], call.amounts[call.attempt] = real, "billed", amount

    @staticmethod
    def _price(usage: dict[str, int] | None) -> Decimal:
        return (usage["input_tokens"] * INPUT_USD + usage["output_tokens"] * OUTPUT_USD) if usage else Decimal(0)

    @staticmethod
    def _cost(call: Call, state: str, usage: dict[str, int] | None, revision: int) -> dict[str, Any]:
        return {
            "attempt": call.attempt, "revision": revision, "state": state, "reason": None, "usage": usage,
            "items": _items(usage) if usage else [], "price_id": "sha256:00" if usage else None,
            "priced_model": "gpt-5" if usage else None, "tier": "default", "requested_tier": "auto",
            "dims": dict(call.dims),
        }  # fmt: skip

    # Journals and administration

    def seal(self, journal: uuid.UUID) -> None:
        """Do what recovery does to a dead journal: abandon its open calls, then seal it."""
        for call in list(self.open[journal]):
            self.end(call, "abandoned")
        last = len(self.events[journal]) + 1
        self.add(journal, "journal.sealed", {"reason": "dead", "last_seq": last})
        self.sealed.add(journal)

    def administer(self, journal: uuid.UUID) -> None:
        """Change a virtual key, or publish a price, with the subject's next revision."""
        rng = self.rng
        name = rng.choice(["key-1", "key-2", "key-3"])
        revision = self._revisions[name] = self._revisions.get(name, 0) + 1
        revoked = revision > 4
        changes = ["key.updated", "key.blocked", "key.regenerated"]
        # A pure function of name and revision: books share a database, and a revision of a subject is one state.
        kind = "key.issued" if revision == 1 else "key.revoked" if revoked else changes[revision % len(changes)]
        state: dict[str, Any] = {
            "key_id": name, "key_hash": hashlib.sha256(name.encode()).hexdigest(), "key_name": "sk-...abcd",
            "key_alias": f"{name} r{revision}", "org": "acme", "team": "red", "user": "ann", "end_user": "",
            "models": ["gpt-5"], "metadata": {"n": revision}, "tags": ["a"], "expires_at": None,
            "blocked": kind == "key.blocked", "revoked": revoked, "created_at": spell(START), "created_by": "master",
        }  # fmt: skip
        if revision > 1:
            # The first event of a key is as the first release recorded it.
            state |= {"allowed_routes": ["/responses*"], "permissions": ["view"], "store_bodies": "none",
                      "issued_hash": state["key_hash"], "former": []}  # fmt: skip
        if kind == "key.regenerated":
            state["former"] = [{"key_hash": state["key_hash"], "until": spell(START)}]
            state["key_hash"] = hashlib.sha256(f"{name} {revision}".encode()).hexdigest()
        self.add(journal, kind, {"actor": "master", "revision": revision, "key": state})
        self.administer_team(journal)
        price_id = f"sha256:{rng.randrange(4)}"
        price = {
            "price_id": price_id, "model": "gpt-5", "tier": "default", "valid_from": spell(START),
            "valid_to": None, "rates": {}, "source": "s",
        }  # fmt: skip
        revision = self._revisions[price_id] = self._revisions.get(price_id, 0) + 1
        self.add(journal, "price.published", {"actor": "master", "revision": revision, "price": price})

    def administer_team(self, journal: uuid.UUID) -> None:
        """Create, change or delete a team, with its next revision."""
        name = self.rng.choice(["red", "blue"])
        revision = self._revisions[name] = self._revisions.get(name, 0) + 1
        kind = ("team.created", "team.updated", "team.deleted")[revision % 3]
        state = {
            "team_id": name, "team_alias": f"{name} r{revision}", "org": "acme", "metadata": {"n": revision},
            "blocked": revision % 2 == 0, "deleted": kind == "team.deleted", "created_at": spell(START),
            "created_by": "master",
        }  # fmt: skip
        self.add(journal, kind, {"actor": "key_admin", "revision": revision, "team": state})

    def step(self) -> None:
        """Let something happen somewhere."""
        live = [journal for journal in self.events if journal not in self.sealed]
        if not live:
            return
        journal = self.rng.choice(live)
        dice = self.rng.random()
        uncertain = [call for call in self.ended if call.states[call.attempt] != "billed"]
        if dice < 0.004 and len(live) > 1:
            self.seal(journal)
        elif dice < 0.05:
            self.administer(journal)
        elif dice < 0.065 and uncertain:
            self.correct(self.rng.choice(uncertain), journal)
        elif dice < 0.30 or not self.open[journal]:
            self.receive(journal)
        else:
            self.advance(self.rng.choice(self.open[journal]))


def random_book(journals: list[uuid.UUID], seed: int, steps: int, start: datetime = START) -> Book:
    """Draw a book of about `steps` events, from `start` on."""
    book = Book(journals, seed, start)
    for _ in range(steps):
        book.step()
    return book


async def open_journals(connection: asyncpg.Connection, count: int) -> list[uuid.UUID]:
    """Open journals as the product does, by the database's function."""
    sql = "SELECT ledger.open_journal('{}'::jsonb, NULL, NULL)"
    rows = [await connection.fetchrow(sql) for _ in range(count)]
    return [row[0] for row in rows if row is not None]


async def write(connection: asyncpg.Connection, events: list[Event]) -> None:
    """Append events in one COPY."""
    rows = [event.row() for event in events]
    await connection.copy_records_to_table("events", schema_name="ledger", records=rows, columns=COLUMNS)
