"""A fault of this program before the engine has a call: the client is told, and no call stays open in the book."""

import asyncpg
import pytest

from api.stored_responses import StoredResponses
from tests.acceptance.conftest import MakeProxy
from tests.support.proxy import configuration, deployment
from tests.support.upstream import Upstream

_OPEN = """
SELECT count(*) FROM ledger.events AS r WHERE r.type = 'call.received' AND NOT EXISTS (
    SELECT FROM ledger.events AS e WHERE e.call_id = r.call_id AND e.type IN ('call.completed', 'call.rejected'))
"""


async def test_fault_after_a_call_was_read_leaves_no_open_call(
    make_proxy: MakeProxy, upstream: Upstream, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    proxy = await make_proxy(configuration([deployment("gpt-5", f"{upstream.url}/v1")]))
    request = {"model": "gpt-5", "input": "hello"}

    def fail(*_arguments: object, **_keywords: object) -> None:
        raise LookupError("a fault of the test")

    with monkeypatch.context() as patch:
        patch.setattr(StoredResponses, "asked_by", fail)
        answer = await proxy.client.send(request)
        assert (answer.status, answer.json["error"]["code"]) == (500, "internal_error")
    sound = await proxy.client.send(request)
    await proxy.book.ended(sound.call_id)
    connection = await asyncpg.connect(database_url)
    assert await connection.fetchval(_OPEN) == 0
    await connection.close()
