"""How the book itself fares: its schema, its guards, its server, its journals and their writers, its projections.

What `llm ledger status` shows. `ledger/verification` looks whether what the book holds is sound.
"""

import json
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import asyncpg

from ledger.events import ENDINGS
from ledger.postgres.connect import APP_ROLE
from ledger.projections.catalogue import ALL
from ledger.projections.lag import lag

#: More open journals than these are counted and not listed, the latest first.
JOURNALS_MAX: Final = 50

_SERVER = """
SELECT current_setting('server_version') AS version, current_setting('synchronous_commit') AS synchronous_commit,
    current_setting('fsync') AS fsync, current_setting('full_page_writes') AS full_page_writes,
    pg_is_in_recovery() AS is_standby
"""
_LOGIN = """
SELECT session_user::text AS login, rolsuper AS is_superuser,
    has_table_privilege(session_user, 'ledger.events', 'UPDATE') OR
    has_table_privilege(session_user, 'ledger.events', 'DELETE') OR
    has_table_privilege(session_user, 'ledger.events', 'TRUNCATE') AS login_may_change_events,
    has_table_privilege($1, 'ledger.events', 'UPDATE') OR has_table_privilege($1, 'ledger.events', 'DELETE') OR
    has_table_privilege($1, 'ledger.events', 'TRUNCATE') AS app_may_change_events
FROM pg_roles WHERE rolname = session_user
"""
#: ALWAYS (A): it also fires for a session that calls itself a replica.
_PARTITIONS = """
SELECT c.relname::text AS name, c.relkind = 'p' AS is_parent, c.reltuples::bigint AS events_estimate,
    pg_total_relation_size(c.oid) AS total_bytes,
    EXISTS (
        SELECT FROM pg_trigger t
        WHERE t.tgrelid = c.oid AND t.tgname = 'events_append_only' AND t.tgenabled = 'A'
    ) AS is_guarded
FROM pg_class c
WHERE c.oid = 'ledger.events'::regclass
   OR c.oid IN (SELECT inhrelid FROM pg_inherits WHERE inhparent = 'ledger.events'::regclass)
ORDER BY c.relkind = 'p' DESC, c.relname
"""
_OPEN_JOURNALS = """
SELECT j.journal_id, j.opened_at, j.heartbeat, j.writer::text AS writer, coalesce(e.seq, 0) AS last_seq
FROM ledger.journals j
LEFT JOIN LATERAL (
    SELECT seq FROM ledger.events WHERE events.journal_id = j.journal_id ORDER BY seq DESC LIMIT 1
) e ON true
WHERE j.sealed_at IS NULL ORDER BY j.journal_id DESC LIMIT $1
"""
_JOURNAL_COUNTS = """
SELECT count(*) FILTER (WHERE sealed_at IS NULL) AS open, count(sealed_at) AS sealed,
    coalesce(sum(sealed_seq), 0)::bigint AS sealed_events, max(sealed_at) AS last_sealed_at
FROM ledger.journals
"""
_HEARTBEATS = "SELECT journal_id, heartbeat FROM ledger.journals WHERE journal_id = ANY ($1::uuid[])"
_STOPPED = """
SELECT projection, journal_id, folded_seq + 1 AS seq, stopped_by FROM ledger.checkpoints
WHERE stopped_by IS NOT NULL ORDER BY projection, journal_id LIMIT 50
"""
_VERSIONS = "SELECT name, version FROM ledger.projections ORDER BY name"
#: From the events rather than the projection `calls`: exact although projections lag, and bounded by open journals.
_OPEN_CALLS = """
SELECT count(*) AS calls, min(began) AS oldest
FROM (
    SELECT min(recorded_at) AS began FROM ledger.events
    WHERE journal_id = ANY ($1::uuid[]) AND call_id IS NOT NULL AND type <> 'chunk.received'
    GROUP BY journal_id, call_id
    HAVING bool_or(version = 0) AND NOT bool_or(type = ANY ($2::text[]))
) AS calls
"""
_UNKNOWN = "SELECT coalesce(sum(unknown_calls), 0)::bigint FROM ledger.key_totals"


@dataclass(slots=True)
class OpenJournal:
    """A journal that is being written, or whose writer died. `beats`: its heartbeat moved between the two looks."""

    journal_id: UUID
    opened_at: datetime
    last_seq: int
    writer: dict[str, Any]
    beats: bool | None = None


@dataclass(frozen=True, slots=True)
class ProjectionHealth:
    """One projection: its version there and here, and what it has not folded yet."""

    name: str
    version: int
    version_of_code: int | None
    events_behind: int
    lag_s: float


@dataclass(frozen=True, slots=True)
class Stopped:
    """A projection that stands before an event that it cannot read."""

    projection: str
    journal_id: UUID
    seq: int
    reason: str

    @property
    def commands(self) -> tuple[str, str]:
        """How to go on: by trying the event again, or by passing over it."""
        again = f"llm ledger resume {self.projection} {self.journal_id}"
        return again, f"{again} {self.seq}"


@dataclass(frozen=True, slots=True)
class Partition:
    """A partition of events, or (`is_parent`) the table itself. `events_estimate` is -1 before the first ANALYZE."""

    name: str
    is_parent: bool
    is_guarded: bool
    events_estimate: int
    total_bytes: int


@dataclass(frozen=True, slots=True)
class Health:
    """Everything that `llm ledger status` tells of a book whose schema fits. Times are aware, `_s` are seconds."""

    server: dict[str, Any]
    login: dict[str, Any]
    partitions: list[Partition]
    journals: dict[str, Any]
    open_journals: list[OpenJournal]
    projections: list[ProjectionHealth]
    stopped: list[Stopped]
    open_calls: int
    oldest_open_call_at: datetime | None
    unknown_costs: int
    counters: dict[UUID, int] = field(repr=False)

    @property
    def unguarded(self) -> list[str]:
        """The tables of events that lack their append-only trigger."""
        return [partition.name for partition in self.partitions if not partition.is_guarded]


async def health(connection: asyncpg.Connection) -> Health:
    """Look once. `connection` acts as the login itself, so that its own rights can be judged.

    Raises:
        asyncpg.PostgresError: the database refuses, or something took longer than the session's bounds.
    """
    server, login, counts, calls = [
        dict(row)
        for row in (
            await connection.fetchrow(_SERVER),
            await connection.fetchrow(_LOGIN, APP_ROLE),
            await connection.fetchrow(_JOURNAL_COUNTS),
            await connection.fetchrow(_OPEN_CALLS, await _open_ids(connection), sorted(ENDINGS)),
        )
        if row is not None
    ]
    journals = await connection.fetch(_OPEN_JOURNALS, JOURNALS_MAX)
    return Health(
        server=server,
        login=login,
        partitions=[Partition(**dict(row)) for row in await connection.fetch(_PARTITIONS)],
        journals=counts,
        open_journals=[
            OpenJournal(row["journal_id"], row["opened_at"], row["last_seq"], json.loads(row["writer"]))
            for row in journals
        ],
        projections=await _projections(connection),
        stopped=[
            Stopped(row["projection"], row["journal_id"], row["seq"], row["stopped_by"])
            for row in await connection.fetch(_STOPPED)
        ],
        open_calls=calls["calls"],
        oldest_open_call_at=calls["oldest"],
        unknown_costs=int(await connection.fetchval(_UNKNOWN) or 0),
        counters={row["journal_id"]: row["heartbeat"] for row in journals},
    )


async def beating(connection: asyncpg.Connection, counters: dict[UUID, int]) -> set[UUID]:
    """Look again: return the journals whose counter has moved since `counters` were read."""
    rows = await connection.fetch(_HEARTBEATS, list(counters))
    return {row["journal_id"] for row in rows if row["heartbeat"] != counters[row["journal_id"]]}


async def _open_ids(connection: asyncpg.Connection) -> list[UUID]:
    rows = await connection.fetch("SELECT journal_id FROM ledger.journals WHERE sealed_at IS NULL")
    return [row["journal_id"] for row in rows]


async def _projections(connection: asyncpg.Connection) -> list[ProjectionHealth]:
    behind = {one.projection: one for one in await lag(connection)}
    here = {projection.name: projection.version for projection in ALL}
    return [
        ProjectionHealth(
            name=row["name"],
            version=row["version"],
            version_of_code=here.get(row["name"]),
            events_behind=behind[row["name"]].events_behind if row["name"] in behind else 0,
            lag_s=behind[row["name"]].age_s if row["name"] in behind else 0.0,
        )
        for row in await connection.fetch(_VERSIONS)
    ]
