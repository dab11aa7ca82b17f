"""Who was shown bodies of others' calls: durable before they are shown, one event a call, none for one's own."""

import os
import pwd
from typing import Any

import httpx
import pytest
from uuid_utils.compat import uuid7

from ledger.errors import LedgerUnavailableError
from tests.support.cli import ledger
from tests.support.proxy_book import Book
from tests.support.routes import MASTER_KEY, Proxy, make_call, refusal

EVENT = b"data: 1\n\n"
BODIES = (
    ("/ledger/calls/{}/replay", "replay"),
    ("/ledger/calls/{}/events", "events"),
    ("/ledger/calls/{}/events?bodies=base64&limit=2", "events"),
)


async def get(proxy: Proxy, path: str, key: str | None = MASTER_KEY) -> httpx.Response:
    """GET a path with its query."""
    async with proxy.client(key) as client:
        return await client.get(path)


async def reads(proxy: Proxy) -> list[dict[str, Any]]:
    """The facts of all audit.read events, as the route lists them."""
    answer = await proxy.get("/ledger/events", type="audit.read")
    assert all(event["call_id"] is None for event in answer.json()["data"])
    return [event["facts"] for event in answer.json()["data"]]


@pytest.mark.parametrize(("path", "shown"), BODIES)
async def test_reading_another_keys_bodies_is_recorded(proxy: Proxy, path: str, shown: str) -> None:
    owner = await proxy.issue()
    call_id = await make_call(proxy, [EVENT], key_id=owner["key_id"])
    assert (await get(proxy, path.format(call_id))).status_code == 200
    (read,) = await reads(proxy)
    through = path.format(call_id).partition("?")[0]
    assert read == {
        "actor": "master", "call_id": str(call_id), "key_id": owner["key_id"], "shown": shown, "through": through,
    }  # fmt: skip
    book = Book(proxy.book.url)
    (row,) = await book.fetch("SELECT actor, call_id, key_id, shown, through FROM reporting.audit_reads")
    await book.close()
    assert dict(row) == {**read, "call_id": call_id}


@pytest.mark.parametrize(("path", "shown"), BODIES)
async def test_reading_ones_own_bodies_or_none_is_not_recorded(proxy: Proxy, path: str, shown: str) -> None:
    del shown
    owner = await proxy.issue()
    own = await make_call(proxy, [EVENT], key_id=owner["key_id"])
    assert (await get(proxy, path.format(own), owner["key"])).status_code == 200
    masters = await make_call(proxy, [EVENT])
    assert (await get(proxy, path.format(masters))).status_code == 200
    for bare in (f"/ledger/calls/{own}", f"/ledger/calls/{own}/events?bodies=none", "/ledger/events"):
        assert (await get(proxy, bare)).status_code == 200
    async with proxy.client() as client:
        assert (await client.head(path.format(own))).status_code == 200
    assert await reads(proxy) == []


async def test_reading_the_book_with_bodies_is_recorded_for_each_call(proxy: Proxy) -> None:
    owner = await proxy.issue()
    calls = {str(await make_call(proxy, [EVENT] * 3, key_id=owner["key_id"])) for _ in range(3)}
    await make_call(proxy, [EVENT])
    assert (await proxy.get("/ledger/events", bodies="text", limit=1000)).status_code == 200
    found = await reads(proxy)
    assert len(found) == 3
    assert {read["call_id"] for read in found} == calls


@pytest.mark.parametrize(("path", "shown"), BODIES)
async def test_what_cannot_be_recorded_is_not_shown(
    proxy: Proxy, path: str, shown: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    del shown
    call_id = await make_call(proxy, [EVENT], key_id="key_other")

    async def fails(*_: object) -> None:
        raise LedgerUnavailableError("no database")

    monkeypatch.setattr(proxy.book.journals, "administer", fails)
    answer = await get(proxy, path.format(call_id))
    assert refusal(answer)[:2] == (503, "ledger_unavailable")
    assert "data: 1" not in answer.text


@pytest.mark.parametrize("arguments", [("replay",), ("events", "--bodies"), ("events", "--bodies", "--json")])
async def test_command_that_shows_bodies_is_recorded_with_its_user(proxy: Proxy, arguments: tuple[str, ...]) -> None:
    call_id = await make_call(proxy, [EVENT])
    command = await ledger(*arguments, str(call_id), url=proxy.book.url)
    assert (command.exit_code, "data: 1" in command.stdout) == (0, True)
    (read,) = await reads(proxy)
    assert (read["actor"], read["key_id"]) == (f"cli:{pwd.getpwuid(os.getuid()).pw_name}", "master")
    assert (read["call_id"], read["through"]) == (str(call_id), f"llm ledger {arguments[0]}")


async def test_command_that_shows_no_body_leaves_no_trace(proxy: Proxy) -> None:
    call_id = await make_call(proxy, [EVENT], store_bodies="none")
    assert (await ledger("events", str(call_id), url=proxy.book.url)).exit_code == 0
    assert (await ledger("events", "--bodies", str(call_id), url=proxy.book.url)).exit_code == 0
    assert (await ledger("events", "--bodies", str(uuid7()), url=proxy.book.url)).exit_code == 1
    replayed = await ledger("replay", str(call_id), url=proxy.book.url)
    assert (replayed.exit_code, "were not stored" in replayed.stderr) == (1, True)
    assert await reads(proxy) == []
