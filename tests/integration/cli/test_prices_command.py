"""`llm prices`: what is set by a command holds, is shown, compared and withdrawn; unknown costs are settled by it."""

import json
from pathlib import Path

import uuid_utils.compat

from api.cli.administering import administering
from api.prices import load_prices
from ledger import events
from ledger.facts import cost_recorded, dimensions
from ledger.journal.journals import Journals
from ledger.money.answer import charge_answer
from ledger.money.request import NO_REQUEST
from ledger.postgres.connect import connect
from ledger.projections.projector import Projector
from llm.deployment import Deployment
from tests.support.cli import prices
from tests.support.journal import RECEIVED, journals_at

ANSWER = {"model": "gpt-9", "service_tier": "default", "usage": {"input_tokens": 1000, "output_tokens": 100}}
STARTED = {"attempt": 1, "kind": "first", "deployment": "d", "model": "gpt-9", "upstream_model": "gpt-9", "money": {}}


async def _seeded(url: str, journals: Journals) -> Projector:
    projector = Projector(url)
    await load_prices(url, journals, projector, ())
    return projector


async def test_prices_set_by_a_command_are_listed_shown_compared_and_withdrawn(
    database_url: str, tmp_path: Path
) -> None:
    async with journals_at(database_url) as journals:
        await (await _seeded(database_url, journals)).close()
    listed = await prices("list", "gpt-4o", "--tier", "fast", url=database_url)
    assert listed.exit_code == 0, listed.output
    assert "gpt-4o                           priority         4.25" in listed.output
    refused = await prices("set", "gpt-4o", "output", "0.0000000000001", url=database_url)
    assert (refused.exit_code, "more than 12 decimals" in refused.output) == (1, True)
    made = await prices("set", "gpt-4o", "output", "0.000001", "--from", "2026-11-01", url=database_url)
    assert made.exit_code == 0, made.output
    price_id = made.output.rpartition(": ")[2].strip()
    shown = await prices("show", "gpt-4o-2024-08-06", url=database_url)
    assert f"{price_id}, override" in shown.output
    assert "output                   1/1M" in shown.output
    wishes = tmp_path / "prices.json"
    exported = await prices("list", "gpt-4o", "--json", url=database_url)
    wishes.write_text(exported.stdout)
    assert len(json.loads(exported.stdout)) > 3
    same = await prices("import", str(wishes), "--dry-run", url=database_url)
    assert same.output.strip() == "0 new, 0 changed"
    compared = await prices("diff", "--seed", url=database_url)
    assert "changed  gpt-4o (default)\n         output 1/1M -> 10/1M" in compared.output
    ended = await prices("withdraw", price_id, url=database_url)
    assert ended.exit_code == 0, ended.output
    assert (await prices("diff", "--seed", url=database_url)).output.strip() == "0 new, 0 changed, 0 absent"


async def test_prices_import_of_a_list_with_a_mistake_sets_nothing_of_it(database_url: str, tmp_path: Path) -> None:
    async with journals_at(database_url) as journals:
        await (await _seeded(database_url, journals)).close()
    file = tmp_path / "prices.json"
    good = {"model": "gpt-4.1", "rates": {"output": "0.0000081"}}
    for mistake, said in (
        ({"model": "gpt-4o", "rates": {"output": "0.0000000000001"}}, "more than 12 decimals"),
        ({"model": "gpt-4o", "rates": {"output": "much"}}, "skipped entry 2: rates.output"),
    ):
        file.write_text(json.dumps([good, mistake]))
        for options in ((), ("--dry-run",)):
            refused = await prices("import", str(file), *options, url=database_url)
            assert (refused.exit_code, said in refused.output) == (1, True), refused.output
    assert (await prices("diff", "--seed", url=database_url)).output.strip() == "0 new, 0 changed, 0 absent"


async def test_prices_of_a_deployment_are_listed_and_not_exported(database_url: str, tmp_path: Path) -> None:
    texts = {"input_cost_per_token": "0.000009", "output_cost_per_token": "0.00009"}
    own = Deployment("mine", "gpt-4o", "gpt-4o", "", "", mock_response="hello", prices=texts)
    async with journals_at(database_url) as journals:
        projector = Projector(database_url)
        await load_prices(database_url, journals, projector, (own,))
        await projector.close()
    assert "deployment mine" in (await prices("list", "gpt-4o", url=database_url)).output
    file = tmp_path / "prices.json"
    file.write_text((await prices("list", "gpt-4o", "--json", url=database_url)).stdout)
    imported = await prices("import", str(file), url=database_url)
    assert (imported.exit_code, imported.output.strip()) == (0, "0 new, 0 changed")


async def test_prices_settle_books_what_lacked_a_price_once(database_url: str) -> None:
    async with journals_at(database_url) as journals:
        projector = await _seeded(database_url, journals)
        log = journals.begin_call(uuid_utils.compat.uuid7())
        log.append(events.CALL_RECEIVED, RECEIVED, b"{}")
        log.append(events.ATTEMPT_STARTED, STARTED)
        await log.durable()
        book = await load_prices(database_url, journals, projector, ())
        charge = charge_answer(ANSWER, request=NO_REQUEST, at=log.received_at, prices=book)
        dims = dimensions(RECEIVED, journal_id=log.journal_id, received_at=log.received_at, deployment="d")
        log.append(events.CALL_COMPLETED, {"attempt": 1, "attempts": 1, "chunks": 0}, with_next=True)
        log.append(events.COST_RECORDED, cost_recorded(charge, attempt=1, final=True, dims=dims))
        await log.durable()
        log.close()
        await projector.catch_up()
        await projector.close()
    nothing = await prices("settle", url=database_url)
    assert nothing.output.strip() == "0 costs were corrected, by 0 USD in all."
    wish = ("gpt-9", "input_uncached", "0.000002", "output", "0.00001", "--from", "2026-01-01")
    assert (await prices("set", *wish, url=database_url)).exit_code == 0
    tried = await prices("settle", "--dry-run", url=database_url)
    assert tried.output.splitlines()[-1] == "1 costs would be corrected, by 0.003 USD in all."
    for expected in ("1 costs were corrected, by 0.003 USD in all.", "0 costs were corrected, by 0 USD in all."):
        async with administering(database_url) as administration:
            await administration._projector.catch_up()
        settled = await prices("settle", url=database_url)
        assert settled.output.splitlines()[-1] == expected, settled.output
    connection = await connect(database_url, purpose="test")
    query = "SELECT facts->>'billed_usd' AS usd FROM ledger.events WHERE type = 'cost.corrected'"
    assert [row["usd"] for row in await connection.fetch(query)] == ["0.003"]
    connection.terminate()
