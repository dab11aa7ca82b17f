"""Health over HTTP: without a key, and honest about the database and the journal."""

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ledger.postgres.connect import engine
from tests.support.routes import Proxy


async def test_health_of_a_running_proxy_needs_no_key_and_tells_no_secret(proxy: Proxy) -> None:
    for path in ("/health/liveliness", "/health/liveness"):
        answer = await proxy.get(path, None)
        assert (answer.status_code, answer.json()) == (200, "I'm alive!")
    answer = await proxy.get("/health/readiness", None)
    assert answer.json() == {"status": "healthy", "db": "connected", "ledger": "writing"}


async def test_health_without_a_database_is_unhealthy_but_alive(proxy: Proxy) -> None:
    await proxy.context.reads.dispose()
    proxy.context.reads = engine("postgresql://nobody:secret@127.0.0.1:1/none", purpose="test")
    answer = await proxy.get("/health/readiness", None)
    assert (answer.status_code, answer.json()) == (503, {"status": "unhealthy", "db": "disconnected"})
    assert answer.headers["retry-after"]
    assert (await proxy.get("/health/liveliness", None)).status_code == 200
    report = await proxy.get("/spend/logs")
    assert (report.status_code, report.json()["error"]["code"]) == (503, "ledger_unavailable")
    assert "secret" not in report.text


async def test_health_when_shutting_down_is_a_503(proxy: Proxy) -> None:
    proxy.book.journals.refuse_calls()
    answer = await proxy.get("/health/readiness", None)
    assert (answer.status_code, answer.json()) == (503, {"status": "shutting_down"})


async def test_health_when_the_journal_cannot_be_written_is_a_503(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(type(proxy.book.journals), "pending_bytes", property(lambda _self: 1 << 40))
    answer = await proxy.get("/health/readiness", None)
    assert answer.status_code == 503
    assert answer.json() == {"status": "unhealthy", "db": "connected", "ledger": "the ledger's buffer is full"}


async def test_health_asked_by_many_at_once_asks_the_database_once(
    proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[AsyncEngine] = []
    connect = AsyncEngine.connect

    def counting(self: AsyncEngine) -> object:
        asked.append(self)
        return connect(self)

    monkeypatch.setattr(AsyncEngine, "connect", counting)
    answers = await asyncio.gather(*(proxy.get("/health/readiness", None) for _ in range(20)))
    assert {answer.status_code for answer in answers} == {200}
    assert len(asked) == 1
