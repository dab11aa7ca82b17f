"""A stand-in upstream and proxies in front of it, for the tests of this folder.

A test that needs settings of its own starts a proxy by `make_proxy`. Where many share one, `shared_upstream` and
`make_shared_proxy` live as long as the module, whose tests then run in one loop (`asyncio(loop_scope="module")`).
"""

from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.postgres import Databases
from tests.support.proxy import Config, LocalProxy
from tests.support.upstream import Upstream

MakeProxy = Callable[[Config], Awaitable[LocalProxy]]


@pytest.fixture
async def upstream() -> AsyncGenerator[Upstream]:
    """A stand-in upstream in the test's loop."""
    async with Upstream() as server:
        yield server


@pytest.fixture
async def make_proxy(database_url: str, tmp_path: Path) -> AsyncGenerator[MakeProxy]:
    """Start proxies in the test's loop, on one fresh database; stopped afterwards."""
    async with AsyncExitStack() as stack:

        async def make(config: Config) -> LocalProxy:
            return await stack.enter_async_context(LocalProxy(config, database_url, tmp_path))

        yield make


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared_upstream() -> AsyncGenerator[Upstream]:
    """A stand-in upstream for the tests of a module."""
    async with Upstream() as server:
        yield server


@pytest.fixture(scope="module")
def shared_database_url(databases: Databases) -> Iterator[str]:
    """A migrated database for the tests of a module."""
    url = databases.create(migrated=True)
    yield url
    databases.drop(url)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def make_shared_proxy(
    shared_database_url: str, tmp_path_factory: pytest.TempPathFactory
) -> AsyncGenerator[MakeProxy]:
    """Start proxies for the tests of a module."""
    async with AsyncExitStack() as stack:

        async def make(config: Config) -> LocalProxy:
            directory = tmp_path_factory.mktemp("proxy")
            return await stack.enter_async_context(LocalProxy(config, shared_database_url, directory))

        yield make
