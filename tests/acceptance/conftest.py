"""A stand-in upstream and proxies in front of it, for the tests of this folder."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from tests.support.proxy import Config, LocalProxy
from tests.support.upstream import Upstream

MakeProxy = Callable[[Config], Awaitable[LocalProxy]]


@pytest.fixture
async def upstream() -> AsyncIterator[Upstream]:
    """A stand-in upstream in the test's loop."""
    async with Upstream() as server:
        yield server


@pytest.fixture
async def make_proxy(database_url: str, tmp_path: Path) -> AsyncIterator[MakeProxy]:
    """Start proxies in the test's loop, on one fresh database; stopped afterwards."""
    async with AsyncExitStack() as stack:

        async def make(config: Config) -> LocalProxy:
            return await stack.enter_async_context(LocalProxy(config, database_url, tmp_path))

        yield make
