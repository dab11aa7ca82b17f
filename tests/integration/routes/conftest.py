"""A proxy for each test of the routes."""

from collections.abc import AsyncIterator

import pytest

from tests.support.routes import Proxy, proxy_at


@pytest.fixture
async def proxy(database_url: str) -> AsyncIterator[Proxy]:
    async with proxy_at(database_url) as proxy:
        yield proxy
