"""Shapes of what /key and /customer take and answer. What shapes are for: `shapes.py`.

What is accepted of a new key, and what is refused, is the matter of `key_fields.py`.
"""

from datetime import datetime
from typing import Annotated, Any

from pydantic import Field

from api.routes.shapes import Count, Shape, Totals

Text = Annotated[str, Field(max_length=200)]


class KeyShape(Totals):
    """A virtual key, and what it has spent."""

    key_id: str
    key_name: str
    key_alias: str
    org: str
    team: str
    user: str
    end_user: str
    organization_id: str | None
    team_id: str | None
    user_id: str | None
    models: list[str]
    metadata: dict[str, Any]
    tags: list[str]
    expires: datetime | None
    blocked: bool
    revoked: bool
    created_at: datetime | None
    created_by: str
    updated_at: datetime | None
    updated_by: str
    revision: Count


class IssuedKeyShape(KeyShape):
    """A new key: its text is in this answer and nowhere else."""

    key: str
    token: str
    token_id: str


class KeyInfo(Shape):
    """A key by its key_id."""

    key: str
    info: KeyShape


class KeyPage(Shape):
    """Keys, newest first."""

    keys: list[KeyShape]
    total_count: Count
    current_page: Count
    total_pages: Count


class KeyWishShape(Shape):
    """What may be said of a new key; null is the same as absent."""

    key: Annotated[str, Field(pattern=r"^sk-[\x21-\x7e]{13,253}$")] | None = None
    key_alias: Text | None = None
    models: Annotated[list[Text], Field(max_length=100)] | None = None
    tags: Annotated[list[Text], Field(max_length=8)] | None = None
    metadata: dict[str, Any] | None = None
    duration: str | None = Field(None, description="such as 30s, 30m, 30h, 30d, 1w, 1mo")
    expires: str | None = Field(None, description="a UTC day or a moment")
    org: Text | None = None
    team: Text | None = None
    user: Text | None = None
    end_user: Text | None = None


class KeyName(Shape):
    """A key by its text, its hash or its key_id."""

    key: Annotated[str, Field(min_length=1)]


class KeyNames(Shape):
    """Keys by text, hash or key_id, or by alias; from 1 to 100 in all."""

    keys: list[str] | None = None
    key_aliases: list[str] | None = None


class DeletedKeys(Shape):
    """The key_ids of keys that are revoked now."""

    deleted_keys: list[str]


class EndUser(Totals):
    """What was spent for an end user."""

    user_id: str
    end_user: str
