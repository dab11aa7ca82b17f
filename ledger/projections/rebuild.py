"""Computes projections anew from all events, beside the live tables, and exchanges them in one short transaction.

Readers see the old tables until the new ones are complete; live folding goes on meanwhile. `compare.py` computes anew
only to look for differences; `shadow.py` handles the tables.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from uuid import UUID

import asyncpg

from ledger.postgres.connect import connect
from ledger.projections.catalogue import by_names
from ledger.projections.definition import Projection
from ledger.projections.fold import UNREADABLE, fold, spans
from ledger.projections.shadow import ExchangeError, complete, create, exchange

SCHEMA = "ledger_rebuild"

#: Large batches: a call then lies mostly within one, and is written once.
BATCH_EVENTS = 100_000
#: What the last transaction may still fold while live folding waits for it.
_LAST_EVENTS = 5_000
#: Below deadlock_timeout, so that of a reader and this the reader never is the one that is cancelled.
_LOCK_TIMEOUT = "500ms"
_EXCHANGE_WITHIN_S = 120.0
_LOCK_KEY = 7_311_942_007_002
#: Rows of a rebuild carry a batch number that live folding will not have reached, so that everybody who asks for
#: `batch > n` reads them all after the exchange.
_BATCHES_AHEAD = 1_000_000_000

_SESSION = {
    "work_mem": "128MB",
    "maintenance_work_mem": "256MB",
    "synchronous_commit": "off",
    # Grouping by hash and sorting the groups is a sixth faster than sorting the events, which the planner prefers.
    "enable_sort": "off",
    "plan_cache_mode": "force_custom_plan",
    "jit": "off",
    "lock_timeout": "20s",
}

#: Journals that were opened meanwhile have a checkpoint too.
_CHECKPOINTS = """
INSERT INTO @target@.checkpoints (projection, journal_id, folded_seq, finished)
SELECT projection, journal_id, 0, false FROM ledger.checkpoints WHERE projection = $1
ON CONFLICT (projection, journal_id) DO NOTHING
"""
_TOTAL = """
SELECT coalesce(sum(head.seq), 0)::bigint FROM ledger.checkpoints AS c
CROSS JOIN LATERAL (SELECT seq FROM ledger.events WHERE journal_id = c.journal_id ORDER BY seq DESC LIMIT 1) AS head
WHERE c.projection = $1
"""
_BEHIND = """
SELECT live.journal_id, live.folded_seq AS live_seq, coalesce(anew.folded_seq, 0) AS seq, anew.stopped_by
FROM ledger.checkpoints AS live
LEFT JOIN @target@.checkpoints AS anew USING (projection, journal_id)
WHERE live.projection = $1 AND live.folded_seq > coalesce(anew.folded_seq, 0)
ORDER BY live.journal_id LIMIT 1
"""
_TAKE_CHECKPOINTS = """
UPDATE ledger.checkpoints AS live
SET folded_seq = anew.folded_seq, finished = anew.finished, stopped_by = anew.stopped_by
FROM @target@.checkpoints AS anew
WHERE live.projection = $1 AND anew.projection = $1 AND anew.journal_id = live.journal_id
"""


class RebuildError(Exception):
    """A projection was not rebuilt; the live tables are as they were."""


async def rebuild(
    url: str, projections: Iterable[str] | None = None, progress: Callable[[int, int], None] | None = None
) -> None:
    """Compute the named projections (all of them for None) anew and put the result in place.

    `url` is the owner's: tables are made and exchanged. `progress` gets events done and events in all, from 0 on.

    Raises:
        RebuildError: another rebuild runs, the code is older than the projection, or the result is not as complete as
            what is there.
        asyncpg.PostgresError, OSError: the database refuses or is lost; the live tables are as they were.
    """
    chosen = by_names(projections)
    main = await connect(url, purpose="rebuild", role=None, **_SESSION)
    try:
        if not await main.fetchval("SELECT pg_try_advisory_lock($1)", _LOCK_KEY):
            raise RebuildError(
                "Another rebuild is running (application_name 'responses-ledger rebuild'): let it finish."
            )
        await _prepare(main, chosen)
        meter = _Meter([int(await main.fetchval(_TOTAL, projection.name) or 0) for projection in chosen], progress)
        # The three that read every call take about as long; each alone keeps a core busy.
        gate = asyncio.Semaphore(3)
        try:
            async with asyncio.TaskGroup() as group:
                for projection in sorted(chosen, key=lambda projection: projection.name):
                    group.create_task(_load(url, projection, gate, meter))
        except ExceptionGroup as several:
            raise several.exceptions[0] from None
        for projection in chosen:
            await _put_in_place(main, projection)
        await main.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
        meter.finish()
    finally:
        await main.close()


class _Meter:
    """Adds up what several loads have done."""

    def __init__(self, totals: list[int], progress: Callable[[int, int], None] | None) -> None:
        self._total = sum(totals)
        self._done = 0
        self._progress = progress
        self.add(0)

    def add(self, events: int) -> None:
        self._done += events
        # Events that came meanwhile count too.
        self._total = max(self._total, self._done)
        if self._progress is not None:
            self._progress(self._done, self._total)

    def finish(self) -> None:
        self.add(self._total - self._done)


async def _prepare(connection: asyncpg.Connection, projections: tuple[Projection, ...]) -> None:
    """Clear away what a rebuild that died left, and make empty tables."""
    await connection.execute(f"DROP SCHEMA IF EXISTS {SCHEMA} CASCADE")
    await connection.execute(f"CREATE SCHEMA {SCHEMA}")
    await connection.execute(
        f"COMMENT ON SCHEMA {SCHEMA} IS 'Where projections are computed anew; may be dropped when no rebuild runs.'"
    )
    await connection.execute(f"CREATE TABLE {SCHEMA}.checkpoints (LIKE ledger.checkpoints INCLUDING ALL)")
    for projection in projections:
        version = await connection.fetchval("SELECT version FROM ledger.projections WHERE name = $1", projection.name)
        if version is None or version > projection.version:
            raise RebuildError(
                f"Projection {projection.name} is at version {version} in the database and {projection.version} here: "
                "rebuild with the newer version of the program."
            )
        await create(connection, projection, SCHEMA)


async def _load(url: str, projection: Projection, gate: asyncio.Semaphore, meter: _Meter) -> None:
    async with gate:
        connection = await connect(url, purpose="rebuild", role=None, **_SESSION)
        try:
            await catch_up(connection, projection, SCHEMA, meter=meter.add)
            await complete(connection, projection, SCHEMA)
            await catch_up(connection, projection, SCHEMA, meter=meter.add)
        finally:
            await connection.close()


async def catch_up(
    connection: asyncpg.Connection,
    projection: Projection,
    target: str,
    *,
    up_to: dict[UUID, int] | None = None,
    most_events: int | None = None,
    meter: Callable[[int], None] | None = None,
) -> None:
    """Fold into the tables of schema `target` until nothing is left below `up_to`.

    Raises:
        RebuildError: `most_events` did not suffice.
    """
    batch = await connection.fetchval(_AHEAD, projection.name)
    if batch is None:
        raise RebuildError(f"Projection {projection.name} is not registered: run `llm ledger migrate`.")
    while True:
        await connection.execute(_CHECKPOINTS.replace("@target@", target), projection.name)
        work = await spans(connection, projection, batch_events=BATCH_EVENTS, target=target, up_to=up_to, in_turn=True)
        if not work:
            return
        events = sum(span.hi - span.lo for span in work)
        if most_events is not None and events > most_events:
            raise RebuildError(f"Projection {projection.name}: {events} new events are too many for the last step.")
        try:
            async with connection.transaction():
                await fold(connection, projection, work, batch=batch, target=target)
        except UNREADABLE:
            async with connection.transaction():
                await fold(connection, projection, work, batch=batch, careful=True, target=target)
        if meter is not None:
            meter(events)


_AHEAD = f"SELECT batch + {_BATCHES_AHEAD} FROM ledger.projections WHERE name = $1"  # noqa: S608 a number of this file


async def _put_in_place(connection: asyncpg.Connection, projection: Projection) -> None:
    """Exchange the tables as soon as no reader is in the way; each try holds readers up for half a second at most."""
    deadline = time.monotonic() + _EXCHANGE_WITHIN_S
    while True:
        await catch_up(connection, projection, SCHEMA)
        try:
            async with connection.transaction():
                await connection.execute(f"SET LOCAL lock_timeout = '{_LOCK_TIMEOUT}'")
                await _exchange(connection, projection)
        except (asyncpg.LockNotAvailableError, RebuildError) as error:
            if isinstance(error, _IncompleteError) or time.monotonic() > deadline:
                raise RebuildError(f"Projection {projection.name} was not exchanged: {error}") from error
            await asyncio.sleep(0.2)
        except ExchangeError as error:
            raise RebuildError(str(error)) from error
        else:
            return


class _IncompleteError(RebuildError):
    """Trying again would not help."""


async def _exchange(connection: asyncpg.Connection, projection: Projection) -> None:
    # From here on nobody else folds this projection.
    await connection.execute("SELECT FROM ledger.projections WHERE name = $1 FOR NO KEY UPDATE", projection.name)
    await catch_up(connection, projection, SCHEMA, most_events=_LAST_EVENTS)
    behind = await connection.fetchrow(_BEHIND.replace("@target@", SCHEMA), projection.name)
    if behind is not None:
        raise _IncompleteError(
            f"it got to event {behind['seq']} of journal {behind['journal_id']}, the live tables hold "
            f"{behind['live_seq']} ({behind['stopped_by'] or 'the events are not there any more'})."
        )
    await connection.execute(_TAKE_CHECKPOINTS.replace("@target@", SCHEMA), projection.name)
    await connection.execute(
        f"UPDATE ledger.projections SET version = $2, batch = batch + {_BATCHES_AHEAD} WHERE name = $1",  # noqa: S608 a number of this file
        projection.name,
        projection.version,
    )
    await exchange(connection, projection, SCHEMA)
