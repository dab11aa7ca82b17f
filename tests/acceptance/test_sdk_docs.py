"""docs/SDK.md followed word by word: each of its blocks runs, against a stand-in upstream, a proxy and a book."""

import re
from decimal import Decimal
from uuid import UUID

from tests.acceptance.conftest import MakeProxy
from tests.support.documents import ROOT, blocks
from tests.support.proxy import MASTER_KEY, configuration, deployment
from tests.support.sdk import beside, ended, program
from tests.support.upstream import Upstream

SDK = ROOT / "docs" / "SDK.md"


async def test_blocks_of_the_sdks_page_run_as_they_stand(
    upstream: Upstream, make_proxy: MakeProxy, database_url: str
) -> None:
    proxy = await make_proxy(configuration([deployment("gpt-4o", f"{upstream.url}/v1")]))
    *straight, through = (block.text for block in blocks(SDK, "python"))
    environment = {
        "OPENAI_API_KEY": "sk-mine",
        "OPENAI_BASE_URL": f"{upstream.url}/v1",
        "LLM_MASTER_KEY": MASTER_KEY,
        "BOOK_URL": database_url,
    }
    printed = await beside(lambda: ended(program("\n".join(straight), **environment), 90))
    assert re.search(r"^0\.\d+ billed [0-9a-f-]{36}$", printed, re.MULTILINE), printed
    assert "echo: Tell me about Ada." in printed
    assert "response.completed" in printed
    code = through.replace("http://127.0.0.1:4000", proxy.url)
    printed = await beside(lambda: ended(program(code, **environment), 90))
    call_id, cost = printed.split()
    story = await proxy.book.ended(UUID(call_id))
    assert story.billed_usd == Decimal(cost)
    assert (story.events[0].facts["key_id"], story.events[0].facts["end_user"]) == ("master", "alice")
    booked = await proxy.book.fetch(
        "SELECT facts->>'user' AS who, facts->>'end_user' AS whom FROM ledger.events "
        "WHERE type = 'call.received' AND facts->>'key_id' = 'nightly-batch'"
    )
    assert [(row["who"], row["whom"]) for row in booked] == [("carol", "alice")]
