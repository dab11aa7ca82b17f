"""The stand-in upstream itself: listens, chooses an answer for each request, keeps what it saw.

In a test: `async with Upstream() as upstream: ...`. As a process: `python -m tests.support.upstream`. The choice, first
that applies: what the test scripted (`script`), the request's wish for a `script` or a recorded `row`, the `default`
answer.
"""

import asyncio
import hashlib
import json
import secrets
from collections import defaultdict, deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self
from urllib.parse import parse_qs

from tests.support.upstream.connection import Connection
from tests.support.upstream.faults import SCRIPTS, Script
from tests.support.upstream.framing import plain
from tests.support.upstream.generated import generated
from tests.support.upstream.recorded import Recording, recorded
from tests.support.upstream.refusals import refusal
from tests.support.upstream.requests import Json, Log, Received
from tests.support.upstream.steps import Answer
from tests.support.upstream.stored import Stored

Scripted = Answer | Script | str


class Upstream:
    """An HTTP server whose every byte and pause is scripted.

    `log.requests` holds what was received, `connections` how many connections were opened, `gate(name)` the events that
    `AwaitGate` steps wait for. `rows` are recorded exchanges that a request can wish for by number.
    """

    def __init__(
        self,
        *,
        port: int = 0,
        host: str = "127.0.0.1",
        rows: Mapping[int, Recording] | None = None,
        scripts: Mapping[str, Script] | None = None,
        default: Script = generated,
        log: Log | None = None,
    ) -> None:
        self.log = log or Log()
        self.default = default
        self.connections = 0
        self.close_at_once = False
        self.row_answer: Callable[[Recording, Received], Answer] = lambda row, received: recorded(
            row, seed=received.serial
        )
        self._host, self._port = host, port
        self._rows = dict(rows or {})
        self._scripts = {**SCRIPTS, **(scripts or {})}
        self._queue: deque[Scripted] = deque()
        self._gates: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
        self._open: set[Connection] = set()
        self._nonce = secrets.token_hex(8)
        self._server: asyncio.Server | None = None
        self._arrived = asyncio.Condition()
        self._stored = Stored()
        self._serial = 0

    @property
    def url(self) -> str:
        """Where it listens, without `/v1`; below `url/script/NAME/v1` every answer is that script's."""
        return f"http://{self._host}:{self._port}"

    @property
    def requests(self) -> list[Received]:
        """What was received, in order, without the requests to `/__...`."""
        return list(self.log.requests)

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def listen(self) -> None:
        """Listen; again on the same port after `refuse`."""
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(self._connection, self._host, self._port, backlog=1024)
        self._port = self._server.sockets[0].getsockname()[1]

    async def refuse(self) -> None:
        """Stop listening, so that connections are refused; those that are open go on."""
        if self._server is not None:
            self._server.close()
            self._server = None
            await asyncio.sleep(0)  # the loop closes the socket in its next turn

    async def close(self) -> None:
        """Stop listening and end every connection."""
        await self.refuse()
        tasks = [c.task for c in self._open if c.task is not None]
        for connection in list(self._open):
            connection.transport.abort()
        await asyncio.gather(*tasks, return_exceptions=True)

    def script(self, *answers: Scripted) -> None:
        """Give these answers, in order, to the next requests to `/responses`; then go on as before."""
        for answer in answers:
            if isinstance(answer, str) and answer not in self._scripts:
                raise KeyError(f"no script {answer!r}; there are {', '.join(sorted(self._scripts))}")
        self._queue.extend(answers)

    def gate(self, name: str = "gate") -> asyncio.Event:
        """The gate of that name: set it to let `AwaitGate` steps go on."""
        return self._gates[name]

    async def arrived(self, count: int, timeout_s: float = 10.0) -> list[Received]:
        """Wait until that many requests have arrived; returns all."""
        async with asyncio.timeout(timeout_s), self._arrived:
            await self._arrived.wait_for(lambda: len(self.log.requests) >= count)
        return self.requests

    def _connection(self) -> Connection:
        self.connections += 1
        return Connection(self._choose, self.gate, self._opened, close_at_once=self.close_at_once)

    def _opened(self, connection: Connection) -> None:
        self._open = {c for c in self._open if not c.gone.is_set()} | {connection}

    async def _choose(self, received: Received) -> Answer:
        if received.path.startswith("/__"):
            return self._control(received)
        self._serial += 1
        received.serial = self._serial
        earlier = self.log.add(received)
        async with self._arrived:
            self._arrived.notify_all()
        scripted = self._scripted(received, earlier)
        response_id = "resp_" + hashlib.sha256(f"{self._nonce}{self._serial}".encode()).hexdigest()[:48]
        if isinstance(scripted, Answer):
            return scripted
        if isinstance(scripted, str):
            return self._scripts[scripted](received, response_id).named(scripted)
        answer = scripted(received, response_id)
        self._stored.keep(response_id, answer)
        return answer if answer.name else answer.named("scripted")

    def _scripted(self, received: Received, earlier: int) -> Scripted:
        if self._queue:
            return self._queue.popleft()
        if wish := received.wish("script"):
            names = wish.split(",")
            name = names[min(earlier, len(names) - 1)].strip()
            return name if name in self._scripts else refusal(400, f"stand-in upstream: no script {name!r}")
        if row := received.wish("row"):
            found = self._rows.get(int(row)) if row.isdigit() else None
            return self.row_answer(found, received) if found else refusal(400, f"stand-in upstream: no row {row!r}")
        return self._stored.script_for(received) or self.default

    def _control(self, received: Received) -> Answer:
        """`GET /__seen[?call=ID&since=SERIAL]`, `GET /__counts`, `POST /__open/GATE`."""
        if received.path == "/__seen":
            query = parse_qs(received.target.partition("?")[2])
            call, since = query.get("call", [""])[0], int(query.get("since", ["0"])[0])
            chosen = [r for r in self.log.requests if r.serial > since and call in {"", r.call}]
            return _json({"connections": self.connections, "requests": [r.summary() for r in chosen]})
        if received.path == "/__counts":
            return _json({"connections": self.connections, "requests": self._serial, "calls": dict(self.log.counts)})
        if received.path.startswith("/__open/"):
            self.gate(received.path.removeprefix("/__open/")).set()
            return _json({"open": sorted(name for name, gate in self._gates.items() if gate.is_set())})
        return plain(b'{"error":"no such control path"}', status=404, name="control")


def _json(value: Json) -> Answer:
    return plain(json.dumps(value).encode(), name="control")
