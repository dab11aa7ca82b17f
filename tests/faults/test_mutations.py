"""The checks of the kill rounds can fail: six faults, each of them told from the product in a scene of its own."""

from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from tests.support.postgres import Databases, PrivateServer, Run, place, reachable_directory, remove
from tests.support.rounds.scenes import SCENES, stage
from tests.support.rounds.stories import Violation

Play = Callable[[str, str], Awaitable[list[Violation]]]
#: The promise, by its number in the README, that each fault must be seen to break.
BROKEN = {
    "append_after_upstream": 1,
    "release_before_commit": 2,
    "asynchronous_commit": 2,
    "drop_last_flush": 2,
    "close_twice": 4,
    "unknown_as_zero": 4,
}


@pytest.fixture(scope="module")
def server() -> Iterator[PrivateServer]:
    """One server for all scenes, whose asynchronous commits stay in its memory for long."""
    settings = {"wal_writer_delay": "10s", "wal_writer_flush_after": "1GB", "autovacuum": "off"}
    made = PrivateServer(reachable_directory(place()), {**settings, "recovery_init_sync_method": "syncfs"})
    made.start()
    yield made
    made.remove()


@pytest.fixture(scope="module")
def databases(server: PrivateServer) -> Databases:
    """The databases of that server, copies of one that was migrated once."""
    return Databases(Run(), server.url)


@pytest.fixture
def scene_dir() -> Iterator[Path]:
    """Where the proxies of a scene keep their files."""
    directory = reachable_directory()
    yield directory
    remove(directory)


@pytest.fixture
def play(server: PrivateServer, databases: Databases, scene_dir: Path) -> Play:
    """Play a fault's scene in a database of its own, with the fault or without."""

    async def played(fault: str, mutation: str) -> list[Violation]:
        async with stage(scene_dir, server, databases.create(migrated=True), mutation) as made:
            return await SCENES[fault](made)

    return played


@pytest.mark.parametrize("fault", SCENES)
async def test_fault_in_its_scene_breaks_its_promise(play: Play, fault: str) -> None:
    violations = await play(fault, fault)
    assert BROKEN[fault] in {violation.promise for violation in violations}, list(map(str, violations))


@pytest.mark.parametrize("fault", SCENES)
async def test_product_in_the_scene_of_a_fault_keeps_every_promise(play: Play, fault: str) -> None:
    assert list(map(str, await play(fault, ""))) == []
