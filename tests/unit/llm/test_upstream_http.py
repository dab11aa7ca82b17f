"""The real upstream: what it remembers of the places that it has sent to."""

import pytest

from llm.deployment import Deployment
from llm.upstream import UpstreamError, UpstreamRequest
from llm.upstream_http import HttpUpstream


async def test_proxies_of_bases_are_remembered_but_not_without_end() -> None:
    asked: list[str] = []

    def proxy_for(url: str) -> None:
        asked.append(url)

    upstream = HttpUpstream(proxy_for)

    async def send(number: int) -> None:
        there = Deployment("id", "gpt-4o", "gpt-4o", f"http://127.0.0.1:1/{number}", "sk-mine")
        with pytest.raises(UpstreamError):
            await upstream.send(UpstreamRequest(there, "GET", "/responses/resp_1", "", [], b"", is_stream=False))

    try:
        for number in (0, 0, *range(1, 300), 0):
            await send(number)
    finally:
        await upstream.aclose()
    assert asked.count("http://127.0.0.1:1/0") == 2
    assert len(asked) == 301
