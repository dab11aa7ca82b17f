"""An engine without I/O: a record that can be fenced or stall, a client that can leave, an upstream of one's choice."""

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from ledger.errors import FencedError
from ledger.money.book import PriceBook
from ledger.money.cost import Charge
from ledger.money.seed import seed_prices
from llm.attempt import Call
from llm.client import Head, Headers
from llm.deployment import Deployment
from llm.engine import Engine, EngineSettings
from llm.outcome import Outcome
from llm.relay import RelaySettings
from llm.request import read_client_request
from llm.router import Router, Routing
from llm.upstream import UpstreamAnswer, UpstreamRequest

PRICES = PriceBook(seed_prices())
USAGE = (
    b'{"input_tokens":10,"input_tokens_details":{"cached_tokens":0},'
    b'"output_tokens":4,"output_tokens_details":{"reasoning_tokens":0}}'
)
COMPLETED = (
    b'event: response.completed\ndata: {"type":"response.completed","response":{"id":"resp_1","status":"completed",'
    b'"model":"gpt-4o-2024-08-06","service_tier":"default","output":[],"usage":' + USAGE + b"}}\n\n"
)
PLAIN = (
    b'{"id":"resp_1","status":"completed","model":"gpt-4o-2024-08-06","service_tier":"default","usage":' + USAGE + b"}"
)
SSE: Headers = [("content-type", "text/event-stream")]
JSON: Headers = [("content-type", "application/json")]


def delta(text: str) -> bytes:
    """A block of a stream."""
    event = f'{{"type":"response.output_text.delta","delta":"{text}"}}'
    return f"event: response.output_text.delta\ndata: {event}\n\n".encode()


@dataclass
class FakeRecord:
    """A call's log in memory. Everything is durable at once unless `is_stalled`; fenced from the nth event on."""

    fenced_from: int | None = None
    is_stalled: bool = False
    has_room: bool = True
    events: list[tuple[str, dict[str, Any], bytes | None]] = field(default_factory=list[Any])
    closed: bool = False
    waits: int = 0
    call_id: UUID = field(default_factory=lambda: UUID(int=1))
    journal_id: UUID = field(default_factory=lambda: UUID(int=2))
    received_at: datetime = datetime(2026, 11, 22, tzinfo=UTC)
    keeps_bodies: bool = True

    @property
    def types(self) -> list[str]:
        """The types of the events so far."""
        return [type_ for type_, _, _ in self.events]

    def facts(self, type_: str) -> list[dict[str, Any]]:
        """The facts of the events of a type."""
        return [facts for name, facts, _ in self.events if name == type_]

    def append(
        self, type_: str, facts: Mapping[str, Any], body: bytes | None = None, *, with_next: bool = False
    ) -> None:
        """Keep an event."""
        del with_next
        if self.fenced_from is not None and len(self.events) >= self.fenced_from:
            raise FencedError("taken over")
        self.events.append((type_, dict(facts), body))

    def chunk(self, body: bytes) -> None:
        """Keep a chunk."""
        self.append("chunk.received", {}, body)

    async def append_large(self, type_: str, facts: Mapping[str, Any], body: bytes) -> None:
        """Keep an event, whole."""
        self.append(type_, facts, body)

    async def durable(self) -> None:
        """Wait while stalled."""
        while self.is_stalled:  # noqa: ASYNC110 - a flag that tests set
            await asyncio.sleep(0.001)

    async def wait_for(self, seconds: float) -> bool:
        """Wait while stalled."""
        self.waits += 1
        try:
            async with asyncio.timeout(seconds):
                await self.durable()
        except TimeoutError:
            return False
        return True

    async def wait_for_room(self, seconds: float) -> bool:
        """Wait while stalled or without room."""
        self.waits += 1
        try:
            async with asyncio.timeout(seconds):
                while self.is_stalled or not self.has_room:  # noqa: ASYNC110 - flags that tests set
                    await asyncio.sleep(0.001)
        except TimeoutError:
            return False
        return True

    def close(self) -> None:
        """Note the end."""
        self.closed = True


class FakeClient:
    """Keeps what it is sent; `leave` as a reader does."""

    def __init__(self) -> None:
        self.is_gone = False
        self.has_begun = False
        self.on_gone: Callable[[], None] = lambda: None
        self.head: Head | None = None
        self.body = b""
        self.has_ended = False

    def leave(self) -> None:
        """Leave before the end."""
        self.is_gone = True
        self.on_gone()

    async def answer(self, head: Head, body: bytes) -> None:
        """Keep a whole answer."""
        if not self.is_gone and not self.has_begun:
            self.has_begun, self.head, self.body, self.has_ended = True, head, body, True

    async def start(self, head: Head) -> None:
        """Keep a head."""
        assert not self.has_begun
        self.has_begun, self.head = True, head

    async def send(self, piece: bytes) -> None:
        """Keep a piece."""
        if not self.is_gone and not self.has_ended:
            self.body += piece

    async def end(self) -> None:
        """Keep the end."""
        self.has_ended = True

    @property
    def status(self) -> int:
        """The status that was answered."""
        assert self.head is not None
        return self.head.status


class FakeAnswer:
    """An answer of given pieces; a piece may be an error to raise, or a function to call before the next."""

    def __init__(self, status: int, headers: Headers, pieces: Iterable[bytes | Exception | Callable[[], Any]]) -> None:
        self.status = status
        self.headers = headers
        self.closed = False
        self.read = 0
        self._pieces = list(pieces)

    async def pieces(self) -> AsyncIterator[bytes]:
        """Give the pieces, one in a turn of the loop."""
        for piece in self._pieces:
            await asyncio.sleep(0)
            self.read += 1
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, bytes):
                yield piece
            else:
                result = piece()
                if asyncio.iscoroutine(result):
                    await result

    async def aclose(self) -> None:
        """Note it."""
        self.closed = True


class FakeUpstream:
    """Gives the answers in turn; an error is raised instead."""

    def __init__(self, *answers: UpstreamAnswer | Exception) -> None:
        self.requests: list[UpstreamRequest] = []
        self._answers = list(answers)

    async def send(self, request: UpstreamRequest) -> UpstreamAnswer:
        """Give the next answer."""
        await asyncio.sleep(0)
        self.requests.append(request)
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def aclose(self) -> None:
        """Nothing to close."""


class FakeBookkeeper:
    """Keeps the charges that would be booked as corrections."""

    def __init__(self) -> None:
        self.settled: list[tuple[int, Charge]] = []
        self.responses: list[Mapping[str, Any]] = []

    def settle_fenced(self, record: object, attempt: int, charge: Charge) -> None:
        """Keep it."""
        del record
        self.settled.append((attempt, charge))

    async def settle_response(self, response: Mapping[str, Any]) -> None:
        """Keep it."""
        self.responses.append(response)

    @property
    def billed_usd(self) -> Decimal:
        """The sum of what was kept."""
        return sum((charge.billed_usd for _, charge in self.settled), Decimal(0))


class FakeObserver:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.charges: list[tuple[str, Charge]] = []
        self.outcomes: list[Outcome] = []

    def charged(self, model: str, charge: Charge) -> None:
        """Keep a charge."""
        self.charges.append((model, charge))

    def ended(self, outcome: Outcome) -> None:
        """Keep an end."""
        self.outcomes.append(outcome)


class Bench:
    """An engine, a call and everything around them."""

    def __init__(
        self,
        *answers: UpstreamAnswer | Exception,
        record: FakeRecord | None = None,
        retries: int = 0,
        models: Sequence[Deployment] = (),
        relay: RelaySettings | None = None,
        is_stream: bool = True,
        **settings: Any,
    ) -> None:
        self.record = record or FakeRecord()
        self.client = FakeClient()
        self.upstream = FakeUpstream(*answers)
        self.bookkeeper = FakeBookkeeper()
        self.observer = FakeObserver()
        router = Router(models or [deployed("gpt-4o")], Routing(num_retries=retries), random.Random(1))
        relay = relay or RelaySettings(ledger_wait_s=0.05)
        self.engine = Engine(
            router,
            self.upstream,
            self.upstream,
            lambda: PRICES,
            self.bookkeeper,
            EngineSettings(relay=relay, admission_wait_s=0.05, **settings),
            self.observer,
        )
        flag = b',"stream":true' if is_stream else b""
        body = b'{"model":"gpt-4o","input":"hello there"' + flag + b"}"
        request = read_client_request("POST", "/responses", "", [], body, limit_bytes=1_000, needs_json=True)
        names = ("key_id", "key_alias", "org", "team", "user", "end_user")
        received: dict[str, Any] = {**dict.fromkeys(names, ""), "model": "gpt-4o", "tags": []}
        self.call = Call(self.record, request, self.client, received, is_billable=True)

    async def serve(self) -> "Bench":
        """Serve the call to its end."""
        async with asyncio.timeout(10):
            await self.engine.serve(self.call)
        return self

    @property
    def end(self) -> tuple[str, dict[str, Any]]:
        """The only terminal event: its type and facts; the cost follows it."""
        found = [
            number
            for number, (type_, _, _) in enumerate(self.record.events)
            if type_.startswith("call.") and type_ != "call.received"
        ]
        assert len(found) == 1, self.record.types
        return self.record.events[found[0]][:2]


def deployed(name: str, deployment_id: str = "d-1") -> Deployment:
    """A deployment of gpt-4o."""
    return Deployment(
        deployment_id=deployment_id,
        model_name=name,
        upstream_model="gpt-4o",
        api_base="http://upstream.invalid/v1",
        api_key="sk-upstream-key",
        mock_response=None,
    )
