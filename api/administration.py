"""Records administrative changes: one event each, with the revision that it makes, in force when the call returns.

What a change is made of lies in `key_changes.py`, `team_changes.py` and others. The proxy's book holds one of these;
commands open one for themselves (`cli/administering.py`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Iterable, Mapping
from typing import Any, Final, Protocol

import asyncpg

from api.errors import unavailable
from ledger.errors import LedgerUnavailableError
from ledger.events import Position
from ledger.journal.journals import Journals
from ledger.postgres.connect import CONNECTION_LOST, connect
from ledger.projections.projector import ProjectionLagError, ProjectionStoppedError, Projector

#: Raises a subject's counter by one, if it stands where the caller believes.
NEXT_REVISION: Final = """
INSERT INTO ledger.subjects (kind, id, revision) VALUES ($1, $2, $3)
ON CONFLICT (kind, id) DO UPDATE SET revision = subjects.revision + 1
WHERE subjects.revision = $3 - 1
RETURNING revision
"""
#: The first revisions of many subjects at once.
FIRST_REVISIONS: Final = """
INSERT INTO ledger.subjects (kind, id, revision) SELECT $1, id, 1 FROM unnest($2::text[]) AS id
ON CONFLICT (kind, id) DO NOTHING RETURNING id
"""
#: A projection folds a few thousand events in this time many times over.
_FOLD_MANY_S: Final = 30.0


class ConflictError(Exception):
    """Two changes of one subject met; this one was not recorded."""


class Administers(Protocol):
    """Whoever records administrative changes: the proxy's book, or an `Administration` of a command."""

    @property
    def journals(self) -> Journals:
        """Where the events go."""
        ...

    async def claim(self, kind: str, subject: str, revision: int) -> None:
        """Obtain a revision by compare-and-set; raises ConflictError."""
        ...

    async def administer(
        self, kind: str, subject: str, revision: int, type_: str, facts: Mapping[str, Any], projection: str
    ) -> Position:
        """Record a change under a revision that is obtained here; see `Administration`."""
        ...


class Administration:
    """Claims revisions, appends the events, waits until a projection has passed them."""

    def __init__(self, url: str, journals: Journals, projector: Projector) -> None:
        self._url = url
        self.journals = journals
        self._projector = projector

    async def claim(self, kind: str, subject: str, revision: int) -> None:
        """Obtain `revision` of a subject: of two rivals one fails.

        Raises:
            ConflictError: somebody else changed the subject first.
        """
        async with asyncio.timeout(10):
            connection = await connect(self._url, purpose="administration", statement_timeout="5s")
            try:
                if await connection.fetchval(NEXT_REVISION, kind, subject, revision) is None:
                    raise ConflictError(
                        f"{kind} {subject} was changed by somebody else meanwhile; read it and try again"
                    )
            finally:
                connection.terminate()

    async def administer(
        self, kind: str, subject: str, revision: int, type_: str, facts: Mapping[str, Any], projection: str
    ) -> Position:
        """Record an administrative event and return once its projection has passed it.

        `revision` is the one that this change makes.

        Raises:
            ConflictError: somebody else changed the subject first.
            LedgerUnavailableError: it could not be made durable, or not folded in time.
        """
        await self.claim(kind, subject, revision)
        position = await self.journals.administer(type_, {**facts, "revision": revision})
        await self._passed(projection, position)
        return position

    async def claim_first(self, connection: asyncpg.Connection, kind: str, subjects: Collection[str]) -> set[str]:
        """Obtain the first revision of each subject that has none, in the connection's transaction; return those.

        Rivals wait for the end of the transaction.
        """
        # In one order, so that two who want the same subjects do not wait for each other.
        return {row["id"] for row in await connection.fetch(FIRST_REVISIONS, kind, sorted(subjects))}

    async def publish_first(self, type_: str, many: Iterable[Mapping[str, Any]], projection: str) -> None:
        """Record an event for each of these facts, of a subject's first revision, as `administer` records one.

        Raises:
            LedgerUnavailableError: they could not all be made durable, or not folded in time; some may be.
        """
        position = await self.journals.publish(type_, [{**facts, "revision": 1} for facts in many])
        if position is not None:
            await self._passed(projection, position, timeout_s=_FOLD_MANY_S)

    async def _passed(self, projection: str, position: Position, **timeout: float) -> None:
        try:
            await self._projector.passed(projection, position.journal_id, position.seq, **timeout)
        except (ProjectionLagError, ProjectionStoppedError) as error:
            raise LedgerUnavailableError(f"recorded, but not yet in force: {error}") from error


async def recorded(book: Administers, change: Callable[[], Awaitable[Any]]) -> None:
    """Do `change`, which records something, and tell a client what kept it from being recorded.

    Raises:
        ApiFailure: 503; ConflictError passes.
    """
    try:
        # Asked first, because a revision that was given out without an event delays every later change.
        book.journals.require_available()
        await change()
    except LedgerUnavailableError as error:
        raise unavailable(f"The change could not be recorded, or is not in force yet: {error}.") from error
    except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
        raise unavailable("The ledger's database was lost; look whether the change was recorded.") from error
