"""A client that leaves at any moment leaves a sound book: the end of its call is the last that is recorded of it."""

import json
import random
from collections.abc import Callable, Mapping
from typing import Any

import pytest
import uuid_utils.compat

from ledger.events import CALL_RECEIVED, CLIENT_DISCONNECTED
from ledger.journal.journals import Journals
from ledger.money.book import PriceBook
from ledger.money.cost import Charge
from ledger.verification.book import verify
from llm.attempt import Call
from llm.client import Head
from llm.deployment import Deployment
from llm.engine import Engine, EngineSettings
from llm.record import Record
from llm.request import read_client_request
from llm.router import Router, Routing
from llm.upstream_mock import MockUpstream
from tests.support.journal import RECEIVED, journals_at, read_book


class _Leaver:
    """A client that leaves at its `leaves_at`-th step; a step is a call of any method."""

    def __init__(self, leaves_at: int) -> None:
        self.is_gone = False
        self.has_begun = False
        self.on_gone: Callable[[], None] = lambda: None
        self.steps = 0
        self._leaves_at = leaves_at

    async def answer(self, head: Head, body: bytes) -> None:
        del head, body
        self._step()

    async def start(self, head: Head) -> None:
        del head
        self._step()

    async def send(self, piece: bytes) -> None:
        del piece
        self._step()

    async def end(self) -> None:
        self._step()

    def _step(self) -> None:
        self.has_begun = True
        self.steps += 1
        if self.steps == self._leaves_at:
            self.is_gone = True
            self.on_gone()


class _Nobody:
    """A bookkeeper that is never asked."""

    def settle_fenced(self, record: Record, attempt: int, charge: Charge) -> None:
        raise AssertionError((record, attempt, charge))

    async def settle_response(self, response: Mapping[str, Any]) -> None:
        raise AssertionError(response)


def _engine(*, cancels: bool) -> Engine:
    deployment = Deployment("d", "m", "gpt-5-mini", "http://nowhere", "sk-x", mock_response="one two three four")
    router = Router([deployment], Routing(), random.Random(1))
    mock = MockUpstream()
    return Engine(router, mock, mock, PriceBook, _Nobody(), EngineSettings(cancel_on_disconnect=cancels))


async def _serve(journals: Journals, engine: Engine, client: _Leaver, *, streams: bool) -> None:
    record = journals.begin_call(uuid_utils.compat.uuid7())
    body = json.dumps({"model": "m", "input": "hi", "stream": streams}).encode()
    request = read_client_request("POST", "/responses", "", [], body, limit_bytes=1_000, needs_json=True)
    received = {**RECEIVED, "model": "m", "stream": streams}
    await record.append_large(CALL_RECEIVED, received, body)
    await engine.serve(Call(record, request, client, received, is_billable=True))


@pytest.mark.parametrize("streams", [True, False])
@pytest.mark.parametrize("cancels", [True, False])
async def test_client_that_leaves_at_any_step_leaves_a_sound_book(
    database_url: str, *, streams: bool, cancels: bool
) -> None:
    async with journals_at(database_url) as journals:
        engine = _engine(cancels=cancels)
        calls = 0
        while True:
            calls += 1
            client = _Leaver(calls)
            await _serve(journals, engine, client, streams=streams)
            if client.steps < calls:
                break
        report = await verify(database_url)
    assert report.findings == []
    assert (report.counts["calls"], report.open_calls_total) == (calls, 0)
    left = [event for event in (await read_book(database_url)).events if event.type == CLIENT_DISCONNECTED]
    # Of a plain answer the only step is its last.
    assert len(left) == 0 if not streams else 0 < len(left) < calls
