"""A proxy's HTTP routes beside the hot one, over a real database, without a socket; and calls made into its book."""

import json
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from random import Random
from typing import Any
from uuid import UUID

import httpx
from fastapi import FastAPI
from sqlalchemy.ext.asyncio import AsyncEngine
from uuid_utils.compat import uuid7

from api.auth import Authenticator
from api.book import Book
from api.config import parse
from api.context import Context
from api.keyring import CachedKeyring
from api.metrics.instruments import make_instruments
from api.metrics.vitals import Vitals
from api.web import make_web
from ledger.journal.journals import JournalSettings
from ledger.postgres.connect import engine as make_reads
from ledger.projections.catalogue import ALL
from llm.deployment import Deployment
from llm.engine import Engine, EngineSettings
from llm.router import Router, Routing
from llm.upstream_mock import MockUpstream

MASTER_KEY = "sk-master-of-tests"
MODELS = ("gpt-5", "gpt-5-mini", "org/small")
_CONFIG = b"model_list: [{model_name: gpt-5, llm_params: {model: openai/gpt-5, mock_response: hello}}]"


def engine_of(book: Book) -> Engine:
    """Return an engine over mock deployments of MODELS."""
    deployments = [Deployment(f"mock-{name}", name, name, "", "", mock_response="hello") for name in MODELS]
    router = Router(deployments, Routing(), Random(1))
    return Engine(router, MockUpstream(), MockUpstream(), lambda: book.prices, book, EngineSettings())


@dataclass
class Proxy:
    """A running proxy, as a test drives it."""

    context: Context
    web: FastAPI

    @property
    def book(self) -> Book:
        """Its book."""
        return self.context.book

    def client(self, key: str | None = MASTER_KEY) -> httpx.AsyncClient:
        """Return a client that sends `key`; None: none."""
        headers = {} if key is None else {"authorization": f"Bearer {key}"}
        return httpx.AsyncClient(transport=httpx.ASGITransport(self.web), base_url="http://proxy", headers=headers)

    async def get(self, path: str, key: str | None = MASTER_KEY, /, **query: object) -> httpx.Response:
        """GET."""
        async with self.client(key) as client:
            return await client.get(path, params={name: str(value) for name, value in query.items()})

    async def post(self, path: str, body: object, key: str | None = MASTER_KEY) -> httpx.Response:
        """POST a JSON body, or bytes as they are."""
        async with self.client(key) as client:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            return await client.post(path, content=content, headers={"content-type": "application/json"})

    async def issue(self, **fields: object) -> dict[str, Any]:
        """Issue a key and return the answer."""
        answer = await self.post("/key/generate", fields)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def fold(self) -> None:
        """Have every projection catch up."""
        for projection in ALL:
            while await self.book.projector.fold(projection):
                pass


@asynccontextmanager
async def proxy_at(url: str, reads: AsyncEngine | None = None) -> AsyncGenerator[Proxy]:
    """Start a proxy over a database, and stop it."""
    book = Book(url, JournalSettings(), lease_s=15.0, version="test")
    await book.journals.open()
    await book.open()
    reads = reads or make_reads(url, purpose="reports", statement_timeout="10s")
    keyring = CachedKeyring(url)
    config = parse(_CONFIG, "test", {})
    instruments = make_instruments(config, url)
    engine = engine_of(book)
    context = Context(
        config=config,
        book=book,
        reads=reads,
        authenticator=Authenticator(MASTER_KEY, keyring),
        keyring=keyring,
        engine=engine,
        instruments=instruments,
        vitals=Vitals(instruments.cells, book, engine),
    )
    try:
        web = make_web()
        web.state.context = context
        yield Proxy(context, web)
    finally:
        instruments.close()
        await keyring.close()
        await context.reads.dispose()
        await book.close(5.0)


RECEIVED: dict[str, Any] = {
    "method": "POST", "path": "/responses", "query": "", "headers": [["content-type", "application/json"]],
    "key_id": "master", "key_alias": "", "org": "", "team": "", "user": "", "end_user": "", "tags": [],
    "model": "gpt-5", "stream": True, "client_address": "10.0.0.1", "client_retry": None, "content_encoding": "",
}  # fmt: skip
USAGE = {"input_tokens": 11, "cached_tokens": 4, "cache_write_tokens": 0, "output_tokens": 3, "reasoning_tokens": 1}


async def make_call(
    proxy: Proxy,
    pieces: list[bytes],
    *,
    usd: str | None = "0.0000025",
    state: str = "billed",
    status: int = 200,
    headers: list[list[str]] | None = None,
    chunk_facts: dict[str, Any] | None = None,
    ends: bool = True,
    **received: Any,
) -> UUID:
    """Record a call of `pieces` as chunks, with a cost of `usd` (None: unknown), and return its id."""
    log = proxy.book.begin_call(uuid7())
    facts = {**RECEIVED, "body_bytes": 2, "parts": 1, **received}
    log.append("call.received", facts, b'{"model":"gpt-5"}')
    log.append("attempt.started", {
        "attempt": 1, "kind": "first", "deployment": "mock-gpt-5", "model": facts["model"], "upstream_model": "gpt-5",
        "url": "mock", "sent_sha256": "00" * 32, "sent_bytes": 2, "settles": "answer", "held": [],
    })  # fmt: skip
    kind = headers or [["content-type", "text/event-stream; charset=utf-8"]]
    log.append("attempt.answered", {
        "attempt": 1, "status": status, "headers": kind, "upstream_request_id": "req_1", "latency_us": 7,
    })  # fmt: skip
    for piece in pieces:
        log.append("chunk.received", chunk_facts or {}, piece)
    if ends:
        log.append("call.completed", {
            "attempt": 1, "attempts": 1, "http_status": status, "response_id": f"resp_{log.call_id.hex}",
            "response_status": "completed", "model": "gpt-5-2025", "tier": "default", "chunks": len(pieces),
            "answer_bytes": sum(map(len, pieces)), "first_chunk_us": 5, "duration_us": 9, "delivered": True,
            "error": None,
        }, with_next=True)  # fmt: skip
        log.append("cost.recorded", _cost(facts, log.journal_id, log.received_at, usd, state))
    await log.durable()
    if ends:
        log.close()
    return log.call_id


def _cost(received: dict[str, Any], journal_id: UUID, at: datetime, usd: str | None, state: str) -> dict[str, Any]:
    state = "unknown" if usd is None else state
    amount = usd or "0"
    items = [{"meter": "input_uncached", "quantity": 11, "unit_price_usd": "0.1", "amount_usd": amount}]
    spelt = at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
    return {
        "attempt": 1, "revision": 1, "final": True, "calls": 1, "state": state, "reason": None,
        "usage": None if usd is None else USAGE, "items": [] if usd is None else items, "price_id": None,
        "priced_model": None, "tier": "default", "requested_tier": "", "unknown": int(usd is None),
        "billed_usd": amount if state == "billed" else "0", "estimated_usd": amount if state == "estimated" else "0",
        "dims": {
            "journal_id": str(journal_id), "received_at": spelt, "key": received["key_id"],
            "deployment": "mock-gpt-5",
            **{name: received[name] for name in ("org", "team", "user", "end_user", "model", "tags")},
        },
    }  # fmt: skip


def refusal(answer: httpx.Response) -> tuple[int, str | None, str | None]:
    """Return status, code and param of an error, after a look at its shape."""
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    return answer.status_code, error["code"], error["param"]


def numbers_of(answer: httpx.Response) -> Any:
    """Return an answer's JSON with every number exact."""
    return json.loads(answer.content, parse_float=Decimal)


def days(count: int) -> str:
    """Return the UTC day `count` days from now, as a date."""
    return (datetime.now(UTC) + timedelta(days=count)).strftime("%Y-%m-%d")
