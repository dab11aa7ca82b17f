"""Keeps the projections up to date: finds news, takes the right to fold, folds batch after batch.

Every process runs one; the lock on a projection's row decides which of them folds. `fold.py` knows what a batch is,
`rebuild.py` starts over.
"""

import asyncio
import logging
import time
from collections.abc import Iterable
from uuid import UUID

import asyncpg

from ledger.postgres.connect import CONNECTION_LOST, connect
from ledger.projections.catalogue import by_names
from ledger.projections.definition import Projection
from ledger.projections.fold import UNREADABLE, fold, spans
from ledger.projections.together import fold_together

log = logging.getLogger(__name__)

#: A batch is small enough to commit in some 50 ms, so that nobody waits long for the row's lock.
BATCH_EVENTS = 2_000
_RETRY_FIRST_S, _RETRY_MOST_S = 0.1, 5.0
_GATHER_S = 0.05
#: A fold that hangs must not hold its lock, or its snapshot, for ever.
_SESSION = {
    "statement_timeout": "120s",
    "lock_timeout": "20s",
    "idle_in_transaction_session_timeout": "60s",
    # Plans made for the journals at hand leave out the partitions of all other days.
    "plan_cache_mode": "force_custom_plan",
    # Compiling takes longer than a batch.
    "jit": "off",
}

#: Projections with something to fold, found without taking a lock.
_NEWS = """
SELECT DISTINCT c.projection
FROM unnest($1::text[], $2::uuid[], $3::bigint[]) AS c (projection, journal_id, folded_seq)
CROSS JOIN LATERAL (
    SELECT seq FROM ledger.events
    WHERE journal_id = c.journal_id AND journal_id = ANY ($2::uuid[]) ORDER BY seq DESC LIMIT 1
) AS head
WHERE head.seq > c.folded_seq
"""
_UNFINISHED = """
SELECT projection, journal_id, folded_seq FROM ledger.checkpoints
WHERE projection = ANY ($1::text[]) AND NOT finished AND stopped_by IS NULL
"""
#: NO KEY: opening a journal refers to this row, and must not wait for a batch.
_RIGHT_TO_FOLD = "SELECT version, batch FROM ledger.projections WHERE name = $1 FOR NO KEY UPDATE SKIP LOCKED"
_NUMBER = "UPDATE ledger.projections SET batch = $2 WHERE name = $1"
_WHERE = "SELECT folded_seq, stopped_by FROM ledger.checkpoints WHERE projection = $1 AND journal_id = $2"


class ProjectionLagError(Exception):
    """A projection did not pass an event in time; the event is durable and will be folded."""


class ProjectionStoppedError(Exception):
    """A projection stands before an event that it cannot read; see `llm ledger status`."""


class Projector:
    """Folds new events into the projections, for as long as `run` runs.

    `wake` is set by whoever appended in this process; without it news are found every `poll_s` seconds.
    """

    def __init__(
        self,
        url: str,
        wake: asyncio.Event | None = None,
        *,
        poll_s: float = 0.1,
        names: Iterable[str] | None = None,
        batch_events: int = BATCH_EVENTS,
    ) -> None:
        self._url = url
        self._wake = wake or asyncio.Event()
        self._poll_s = poll_s
        self._projections = by_names(names)
        self._batch_events = batch_events
        self._connection: asyncpg.Connection | None = None
        # One connection serves the loop and the requests that wait for a fold; a batch is short.
        self._turn = asyncio.Lock()
        self._unfit: set[str] = set()

    async def run(self) -> None:
        """Fold until cancelled; a lost database is waited for."""
        retry_s = _RETRY_FIRST_S
        try:
            while True:
                self._wake.clear()
                try:
                    busy = await self._round()
                except (*CONNECTION_LOST, asyncpg.PostgresError) as error:
                    log.warning("projections pause for %.1f s: %s: %s", retry_s, type(error).__name__, error)
                    # In its turn: a request may be using it, made anew already.
                    await self.close()
                    await asyncio.sleep(retry_s)
                    retry_s = min(retry_s * 2, _RETRY_MOST_S)
                    continue
                retry_s = _RETRY_FIRST_S
                if busy:
                    # Under load a round costs the same for one call as for a hundred: let some gather.
                    await asyncio.sleep(_GATHER_S)
                else:
                    await self._rest()
        finally:
            await self.close()

    async def close(self) -> None:
        """Give the connection back."""
        async with self._turn:
            await self._drop_connection()

    async def catch_up(self) -> int:
        """Fold until nothing is left that can be folded; return the number of batches.

        Where another process folds, its batches are waited for.
        """
        batches = 0
        while names := await self._news():
            folded = [await self.fold(projection) for projection in self._projections if projection.name in names]
            batches += sum(folded)
            if not any(folded):
                if names <= self._unfit:
                    break
                await asyncio.sleep(0.01)
        return batches

    async def passed(self, projection: str, journal_id: UUID, seq: int, *, timeout_s: float = 5.0) -> None:
        """Return when `projection` has folded `journal_id` up to `seq`; fold it here when nobody else does.

        Raises:
            ProjectionStoppedError: it stands before an event that it cannot read.
            ProjectionLagError: `timeout_s` went by.
        """
        deadline = time.monotonic() + timeout_s
        (definition,) = by_names([projection])
        while True:
            async with self._turn:
                row = await (await self._connected()).fetchrow(_WHERE, projection, journal_id)
            if row is not None and row["folded_seq"] >= seq:
                return
            if row is not None and row["stopped_by"] is not None:
                raise ProjectionStoppedError(
                    f"Projection {projection} stopped in journal {journal_id}: {row['stopped_by']}"
                )
            if not await self.fold(definition):
                if time.monotonic() > deadline:
                    raise ProjectionLagError(
                        f"Projection {projection} has not passed event {seq} of journal {journal_id} "
                        f"within {timeout_s} s; the event is durable and will be folded."
                    )
                await asyncio.sleep(0.005)

    async def fold(self, projection: Projection) -> bool:
        """Fold one batch; False when there was nothing to fold, or another process is folding."""
        async with self._turn:
            connection = await self._connected()
            try:
                return await self._fold(connection, projection, careful=False)
            except UNREADABLE as error:
                log.error("projection %s met an event that it cannot read: %s", projection.name, error)  # noqa: TRY400 the trace says nothing that the message does not
                return await self._fold(connection, projection, careful=True)

    async def _fold(self, connection: asyncpg.Connection, projection: Projection, *, careful: bool) -> bool:
        async with connection.transaction():
            row = await connection.fetchrow(_RIGHT_TO_FOLD, projection.name)
            if row is None or not self._fits(projection, row["version"]):
                return False
            work = await spans(connection, projection, batch_events=self._batch_events)
            if not work:
                return False
            batch = row["batch"] + 1
            await fold(connection, projection, work, batch=batch, careful=careful)
            await connection.execute(_NUMBER, projection.name, batch)
        return True

    def _fits(self, projection: Projection, version: int) -> bool:
        if version == projection.version:
            self._unfit.discard(projection.name)
            return True
        if projection.name not in self._unfit:
            log.warning(
                "projection %s is at version %d in the database and %d here: this process does not fold it (%s)",
                projection.name,
                version,
                projection.version,
                "a newer process does" if version > projection.version else "run `llm ledger rebuild`",
            )
        self._unfit.add(projection.name)
        return False

    async def _round(self) -> bool:
        """Fold one batch of each projection that has news; return whether anything was folded."""
        names = await self._news()
        with_news = [projection for projection in self._projections if projection.name in names]
        if not with_news:
            return False
        try:
            async with self._turn:
                return await fold_together(
                    await self._connected(), with_news, self._fits, batch_events=self._batch_events
                )
        except UNREADABLE as error:
            log.debug("projections are folded one by one, since one cannot read an event: %s", error)
        folded = [await self.fold(projection) for projection in with_news]
        return any(folded)

    async def _news(self) -> set[str]:
        async with self._turn:
            connection = await self._connected()
            unfinished = await connection.fetch(_UNFINISHED, [projection.name for projection in self._projections])
            if not unfinished:
                return set()
            columns = [list(column) for column in zip(*unfinished, strict=True)]
            return {row["projection"] for row in await connection.fetch(_NEWS, *columns)}

    async def _rest(self) -> None:
        try:
            await asyncio.wait_for(self._wake.wait(), self._poll_s)
        except TimeoutError:
            return

    async def _connected(self) -> asyncpg.Connection:
        if self._connection is None or self._connection.is_closed():
            self._connection = await connect(self._url, purpose="projector", **_SESSION)
        return self._connection

    async def _drop_connection(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()


async def resume(
    connection: asyncpg.Connection, projection: str, journal_id: UUID, *, skip_seq: int | None = None
) -> bool:
    """Let a stopped projection go on in a journal; return whether it was stopped there.

    With `skip_seq` it passes over that event if it still cannot read it, now and in every rebuild; without, it tries
    again, for example after an upgrade.

    Raises:
        ValueError: `skip_seq` is not the event that it stands before.
    """
    by_names([projection])
    async with connection.transaction():
        row = await connection.fetchrow(f"{_WHERE} FOR UPDATE", projection, journal_id)
        if row is None or row["stopped_by"] is None:
            return False
        if skip_seq is not None:
            if skip_seq != row["folded_seq"] + 1:
                raise ValueError(
                    f"Projection {projection} stands before event {row['folded_seq'] + 1} of journal {journal_id}, "
                    f"not before {skip_seq}: {row['stopped_by']}"
                )
            await connection.execute(
                "INSERT INTO ledger.skipped_events (projection, journal_id, seq) VALUES ($1, $2, $3)"
                " ON CONFLICT DO NOTHING",
                projection,
                journal_id,
                skip_seq,
            )
        await connection.execute(
            "UPDATE ledger.checkpoints SET stopped_by = NULL WHERE projection = $1 AND journal_id = $2",
            projection,
            journal_id,
        )
    return True
