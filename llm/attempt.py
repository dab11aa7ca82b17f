"""One attempt's state, from its start to its end: shared by the engine, which starts and books it, and the relay."""

import asyncio
import time
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from ledger.money.cost import Charge
from llm.client import Client
from llm.deployment import Deployment
from llm.ending import Pricing
from llm.record import Record
from llm.request import ClientRequest
from llm.router import Kind
from llm.stored import StoredAnswers
from llm.terminal import TerminalEvent
from llm.upstream import UpstreamAnswer


@dataclass(slots=True, eq=False)
class Call:
    """A call as the engine serves it. `received` are the facts of its `call.received`, which is enqueued already."""

    record: Record
    request: ClientRequest
    client: Client
    received: dict[str, Any]
    is_billable: bool
    pinned: Deployment | None = None
    #: What the book may give in place of an upstream that cannot answer; None: nothing.
    stored: StoredAnswers | None = None
    began_s: float = field(default_factory=time.monotonic)
    #: How long upstreams have been at work for it, over all attempts: from sending until the answer's last byte was
    #: read, or nothing more was expected of it.
    upstream_us: int = 0
    #: What its last attempt costs, once the end of the call is recorded.
    charge: Charge | None = None

    @property
    def call_id(self) -> UUID:
        """The call's id."""
        return self.record.call_id

    def elapsed_us(self) -> int:
        """Microseconds since the call was received."""
        return int((time.monotonic() - self.began_s) * 1_000_000)


@dataclass(slots=True)
class Attempt:
    """One attempt, and what has been seen of its answer."""

    number: int
    kind: Kind
    #: How many attempts of the call, this one included, went to another group.
    fallbacks: int
    deployment: Deployment
    pricing: Pricing
    started_at: datetime
    started_s: float = field(default_factory=time.monotonic)
    #: Bounds the exchange with the upstream from outside: by the drain after a disconnect, or by a shutdown.
    guard: asyncio.Timeout | None = None
    #: Why the guard will end the exchange if it lasts too long, and why it did.
    stopping_for: str = ""
    stopped_by: str = ""

    http_status: int | None = None
    chunks: int = 0
    answer_bytes: int = 0
    #: The head of the answer, once it is there, and of a plain one what has come of its body.
    answer: UpstreamAnswer | None = None
    pieces: list[bytes] = field(default_factory=list)
    first_chunk_us: int | None = None
    terminal: TerminalEvent | None = None
    is_cut: bool = False
    #: The client was told that its stream is over: it gets nothing more, while the upstream is read on.
    is_cut_off: bool = False
    #: What came of the stream, for an estimate should it break off; None once it has grown too large to keep.
    blocks: list[bytes] | None = field(default_factory=list)
    blocks_bytes: int = 0
    #: The first blocks of the stream, which name the response, however long it grows.
    head_blocks: list[bytes] = field(default_factory=list)
    #: Blocks that the client does not get before the end is durable.
    held: list[bytes] = field(default_factory=list)

    def stop(self, reason: str, delay_s: float = 0.0) -> None:
        """Have the exchange ended after `delay_s`, unless it ends by itself before; the earliest of several counts."""
        guard = self.guard
        if guard is None:
            return
        at = asyncio.get_running_loop().time() + delay_s
        until = guard.when()
        if until is None or at < until:
            self.stopping_for = reason
            guard.reschedule(at)
