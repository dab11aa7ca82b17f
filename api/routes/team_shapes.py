"""Shapes of what /team takes and answers. What shapes are for: `shapes.py`."""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from api.routes.key_shapes import KeyShape, Text
from api.routes.shapes import Count, Shape, Totals


class TeamShape(Shape):
    """A team; `is_created` false: a name that only keys have. `key_count`: its keys that are not revoked."""

    team_id: str
    team_alias: str
    org: str
    organization_id: str | None
    metadata: dict[str, Any]
    blocked: bool
    is_created: bool
    key_count: Count
    created_at: datetime | None
    created_by: str
    updated_at: datetime | None
    updated_by: str
    revision: Count


class SpendingTeam(TeamShape, Totals):
    """A team, and what was booked to it."""


class TeamInfo(Shape):
    """A team and its keys, at most 1,000, newest first."""

    team_id: str
    team_info: SpendingTeam
    keys: list[KeyShape]


class TeamPage(Shape):
    """Teams by their ids."""

    teams: list[TeamShape]
    total_count: Count
    current_page: Count
    total_pages: Count


class TeamWishShape(Shape):
    """What may be said of a team; of one that is there, what is absent stays and null resets."""

    team_id: Text | None = None
    team_alias: Text | None = None
    org: Text | None = None
    metadata: dict[str, Any] | None = None
    blocked: bool | None = None


class TeamNames(Shape):
    """Which teams."""

    team_ids: Annotated[list[Annotated[str, Field(min_length=1, max_length=200)]], Field(max_length=100)]


class DeletedTeams(Shape):
    """The teams that are deleted now."""

    deleted_teams: list[str]
