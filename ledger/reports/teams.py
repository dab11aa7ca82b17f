"""Teams: those that were created, and those that exist as names on keys only. State for changes, rows for people."""

from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Select, and_, column, func, literal, or_, select, table
from sqlalchemy.ext.asyncio import AsyncConnection

from ledger.encoding import rfc3339
from ledger.reports.tables import KEYS, TEAMS

TEAM_SUBJECT: Final = "team"
PAGE_MAX: Final = 1_000

_SUBJECTS = table("subjects", column("kind"), column("id"), column("revision"), schema="ledger")
_SHOWN: Final = [each for each in TEAMS.c if each.name not in {"team_id", "deleted"}]


@dataclass(frozen=True, slots=True)
class RecordedTeam:
    """A team's state in the shape of the fact `team` (None: never created), its revision and the latest given out."""

    state: dict[str, Any] | None
    revision: int
    claimed_revision: int


@dataclass(frozen=True, slots=True)
class TeamPage:
    """Teams by their ids, and how many there are on all pages."""

    rows: tuple[dict[str, Any], ...]
    count: int


async def find_team(connection: AsyncConnection, team_id: str) -> RecordedTeam:
    """Return what is recorded of a team, a deleted one too."""
    claimed = select(_SUBJECTS.c.revision).where(_SUBJECTS.c.kind == TEAM_SUBJECT, _SUBJECTS.c.id == team_id)
    latest = int(await connection.scalar(claimed) or 0)
    row = (await connection.execute(select(TEAMS).where(TEAMS.c.team_id == team_id))).mappings().one_or_none()
    if row is None:
        return RecordedTeam(None, 0, latest)
    same = ("team_id", "team_alias", "org", "metadata", "blocked", "deleted", "created_by")
    state = {**{name: row[name] for name in same}, "created_at": rfc3339(row["created_at"])}
    return RecordedTeam(state, row["revision"], max(row["revision"], latest))


async def standing_keys(connection: AsyncConnection, team_id: str) -> int:
    """Return how many keys of a team are not revoked."""
    found = select(func.count()).select_from(KEYS).where(_of_team(team_id), KEYS.c.revoked.is_(False))
    return int(await connection.scalar(found) or 0)


async def team_info(connection: AsyncConnection, team_id: str) -> dict[str, Any] | None:
    """Return a team as in `team_list`; None where it was not created and no key names it."""
    rows = (await connection.execute(_teams([literal(team_id)]))).mappings().all()
    return dict(rows[0]) if rows else None


async def team_list(
    connection: AsyncConnection, *, search: str | None = None, page: int = 1, size: int = 100
) -> TeamPage:
    """List teams: the columns of reporting.teams (null where a team was not created), `is_created`, `keys`.

    Raises:
        ValueError: `page` or `size` is out of range.
    """
    if page < 1 or not 1 <= size <= PAGE_MAX:
        raise ValueError(f"Pages count from 1 and have from 1 to {PAGE_MAX} rows: got page {page}, size {size}.")
    teams = _teams(None).subquery()
    query = select(teams)
    if search is not None:
        wanted = search.lower()
        names = (func.lower(func.coalesce(teams.c[name], "")) for name in ("team_id", "team_alias", "org"))
        query = query.where(or_(*(func.strpos(name, wanted) > 0 for name in names)))
    count = await connection.scalar(select(func.count()).select_from(query.subquery()))
    rows = await connection.execute(query.order_by(teams.c.team_id).limit(size).offset((page - 1) * size))
    return TeamPage(tuple(dict(row) for row in rows.mappings()), int(count or 0))


def _teams(only: list[ColumnElement[str]] | None) -> Select[Any]:
    """Select teams that were created, and those that keys name, with how many keys each has that are not revoked."""
    named = select(KEYS.c.team.label("team_id"), func.count().filter(KEYS.c.revoked.is_(False)).label("keys"))
    named = named.where(KEYS.c.team != literal("")).group_by(KEYS.c.team)
    created = select(TEAMS).where(TEAMS.c.deleted.is_(False))
    if only is not None:
        named, created = named.where(KEYS.c.team.in_(only)), created.where(TEAMS.c.team_id.in_(only))
    of_keys, of_teams = named.subquery("n"), created.subquery("t")
    return select(
        func.coalesce(of_teams.c.team_id, of_keys.c.team_id).label("team_id"),
        *(of_teams.c[each.name] for each in _SHOWN),
        of_teams.c.team_id.is_not(None).label("is_created"),
        func.coalesce(of_keys.c["keys"], 0).label("keys"),
    ).select_from(of_teams.join(of_keys, of_keys.c.team_id == of_teams.c.team_id, full=True))


def _of_team(team_id: str) -> ColumnElement[bool]:
    return and_(KEYS.c.team == team_id, KEYS.c.team != literal(""))
