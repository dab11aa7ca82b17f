"""The clients of a round, and the record that each keeps of what it was told; they know nothing of the product.

`Told` is one request's record: how far its answer came, byte by byte.
"""

import asyncio
import json
import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp

from tests.support.rounds.asks import Ask, draw_ask

#: Longer than anything that the product may make a client wait; a client that reaches it is stuck.
STUCK_S = 45.0
REFUSED_PAUSE_S = 0.05
#: The codes of errors that the proxy makes itself when it cannot record or is ending: then an answer is not one.
_OWN_CODES = ("ledger_unavailable", "shutting_down")
_OWN_EVENT = re.compile(rb'event: error\ndata: [^\n]*"code":"(?:ledger_unavailable|shutting_down)"[^\n]*\n\n\Z')

Outcome = Literal["refused", "broken", "left", "stuck", "finished"]


@dataclass(slots=True)
class Told:
    """What one client was told. `finished`: it read the answer to the end that HTTP gives it."""

    ask: Ask
    proxy: int
    outcome: Outcome = "broken"
    status: int = 0
    call_id: str = ""
    body: bytearray = field(default_factory=bytearray)

    @property
    def upstream_bytes(self) -> bytes:
        """The bytes without an error event by which the proxy itself ended a stream."""
        return _OWN_EVENT.sub(b"", bytes(self.body))

    @property
    def has_own_end(self) -> bool:
        """Whether the proxy itself refused the call or broke the answer off, and said so."""
        if self.ask.is_stream and _OWN_EVENT.search(self.body):
            return True
        error = self.json.get("error")
        return self.status >= 500 and isinstance(error, dict) and error.get("code") in _OWN_CODES

    @property
    def is_answer(self) -> bool:
        """Whether the client has read a whole answer: promise 2 is about these."""
        return self.outcome == "finished" and not self.has_own_end

    @property
    def json(self) -> dict[str, Any]:
        """A plain answer's JSON object; {} where there is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    @property
    def response(self) -> dict[str, Any]:
        """The Response object of a whole answer, from the JSON or from the last event; {} where there is none."""
        if not self.ask.is_stream:
            return self.json if self.json.get("object") == "response" else {}
        last = bytes(self.body).rstrip(b"\n").rpartition(b"\ndata: ")[2]
        try:
            return json.loads(last).get("response") or {}
        except ValueError:
            return {}


class Clients:
    """Clients that share a session and spread their requests over the proxies."""

    def __init__(self, urls: Sequence[str], key: str) -> None:
        self._urls = list(urls)
        self._headers = {"authorization": f"Bearer {key}", "content-type": "application/json"}
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0), auto_decompress=False, timeout=aiohttp.ClientTimeout()
        )

    async def close(self) -> None:
        """Close all connections."""
        await self._session.close()

    async def ask(self, ask: Ask, proxy: int = 0) -> Told:
        """Make one request and return what came of it; never raises for what the other side does."""
        told = Told(ask, proxy)
        try:
            async with asyncio.timeout(ask.leave_after_s or STUCK_S):
                await self._read(told)
        except TimeoutError:
            told.outcome = "stuck" if ask.leave_after_s is None else "left"
        except aiohttp.ClientConnectorError:
            told.outcome = "refused"
        except (aiohttp.ClientError, OSError):
            told.outcome = "broken"
        return told

    async def _read(self, told: Told) -> None:
        url = f"{self._urls[told.proxy]}/v1/responses"
        async with self._session.post(url, data=told.ask.body, headers=self._headers) as response:
            told.status = response.status
            told.call_id = response.headers.get("x-llm-call-id", "")
            async for piece in response.content.iter_any():
                told.body += piece
            told.outcome = "finished"

    async def load(self, seed: str, count: int, stop: asyncio.Event) -> list[Told]:
        """Have `count` clients ask one thing after the other until `stop`; return their records when all have ended."""
        return [
            told
            for part in await asyncio.gather(*(self._go_on(f"{seed}-{n}", stop) for n in range(count)))
            for told in part
        ]

    async def _go_on(self, name: str, stop: asyncio.Event) -> list[Told]:
        rng = random.Random(name)
        record: list[Told] = []
        while not stop.is_set():
            ask = draw_ask(rng, f"{name}-{len(record)}")
            told = await self.ask(ask, rng.randrange(len(self._urls)))
            record.append(told)
            if told.outcome == "refused" or told.has_own_end:
                await asyncio.sleep(REFUSED_PAUSE_S)  # a proxy that is down is not asked a thousand times a second
        return record
