"""Every background loop of a proxy outlives a fault that nobody foresaw, says so, and does its work again."""

import asyncio
from typing import Any

import pytest

from api.background_settling import BackgroundSettler
from api.keyring import CachedKeyring
from api.metrics.vitals import Vitals
from api.prices import PriceFollower
from ledger.journal.journals import Journals
from ledger.journal.watch import Watch
from ledger.projections import roller
from ledger.projections.projector import Projector
from tests.acceptance.conftest import MakeProxy
from tests.support.proxy import configuration, deployment
from tests.support.upstream import Upstream

#: What each loop does again and again.
TURNS: dict[str, tuple[type, str]] = {
    "background responses": (BackgroundSettler, "_look"),
    "journal heartbeat": (Journals, "_beat_once"),
    "journal rotation": (Journals, "_tend_once"),
    "keys": (CachedKeyring, "_poll"),
    "prices": (PriceFollower, "refresh"),
    "projections": (Projector, "_round"),
    "rollups": (roller.Roller, "catch_up"),
    "vitals": (Vitals, "publish"),
    "watch": (Watch, "look"),
}


class Faults:
    """Each loop's turn fails once with an error that nobody foresees; afterwards it is what it was."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.failed: set[str] = set()
        self.went_on: set[str] = set()
        for name, (owner, turn) in TURNS.items():
            monkeypatch.setattr(owner, turn, self._breaking(name, getattr(owner, turn)))

    def _breaking(self, name: str, turn: Any) -> Any:
        def broken(*arguments: Any, **keywords: Any) -> Any:
            if name not in self.failed:
                self.failed.add(name)
                raise LookupError(f"a fault of the test in {name}")
            self.went_on.add(name)
            return turn(*arguments, **keywords)

        return broken


async def test_proxy_whose_every_loop_failed_once_says_so_and_works_on(
    make_proxy: MakeProxy, upstream: Upstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(roller, "_FIRST_LOOK_S", 0.01)
    faults = Faults(monkeypatch)
    models = [deployment("gpt-5", f"{upstream.url}/v1")]
    proxy = await make_proxy(configuration(models, general={"settle_background_s": 0.1}))
    async with asyncio.timeout(20):
        while faults.went_on != TURNS.keys():  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.05)
    readiness = (await proxy.client.send(method="GET", path="/health/readiness")).json
    assert (readiness["status"], readiness["failing"]) == ("healthy", sorted(TURNS))
    metrics = (await proxy.client.send(method="GET", path="/metrics")).body.decode()
    assert f'loops_failing{{worker="0"}} {len(TURNS)}.0' in metrics
    assert f"loop_faults_total {len(TURNS)}.0" in metrics
    told = [record.getMessage() for record in caplog.records if record.name == "ledger.loops"]
    assert all(sum(line.startswith(name) for line in told) == 1 for name in TURNS)
    answered = await proxy.client.send({"model": "gpt-5", "input": "hello"})
    (await proxy.book.ended(answered.call_id)).check()
