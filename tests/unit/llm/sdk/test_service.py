"""The SDK's service: what becomes of a call that its book does not take."""

from collections.abc import Iterator
from typing import Any
from uuid import UUID

import pytest

import llm
from ledger.errors import FencedError
from llm.record import Record
from llm.request import ClientRequest
from llm.sdk import service
from llm.sdk.errors import RecordingError
from llm.sdk.recording import Recorder, Unrecorded
from llm.sdk.settings import Identity
from tests.support.engine import FakeRecord
from tests.support.sdk import fresh_sdk


@pytest.fixture(autouse=True)
def _new() -> Iterator[None]:
    with fresh_sdk():
        yield


async def test_call_that_meets_a_fenced_journal_is_an_open_one_no_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    record = FakeRecord()

    class Fenced(Unrecorded):
        def begin(self, call_id: UUID) -> Record:
            del call_id
            return record

        async def received(self, record: Record, request: ClientRequest, identity: Identity) -> dict[str, Any]:  # noqa: ARG002 - the protocol's
            raise FencedError("taken over")

    async def opened(_: str | None) -> Recorder:
        return Fenced()

    monkeypatch.setattr(service, "open_recorder", opened)
    llm.configure(api_base="http://127.0.0.1:1/v1", api_key="sk-mine")
    with pytest.raises(RecordingError):
        await llm.aresponses(model="gpt-4o", input="hello")
    assert record.closed
