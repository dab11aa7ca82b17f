"""Shapes of what /key and /customer take and answer. What shapes are for: `shapes.py`.

What is accepted of a new key, and what is refused, is the matter of `key_fields.py`.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

from pydantic import Field

from api.routes.shapes import Count, Shape, Totals

Secret = Annotated[str, Field(pattern=r"^sk-[\x21-\x7e]{13,253}$")]
Permission = Literal["admin", "view"]
NoMember = Annotated[dict[str, Any], Field(max_length=0)]
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
    allowed_routes: list[str]
    permissions: list[str]
    store_bodies: Literal["all", "none"] | None
    former_until: datetime | None
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


class KeyInfos(Shape):
    """Keys by their key_ids, and the names under which none was found."""

    key: list[str]
    info: list[KeyShape]
    not_found: list[str]


class NamedKeyShape(KeyShape):
    """A key after a change; `key` is its key_id."""

    key: str


class Aliases(Shape):
    """Aliases of keys that are not revoked."""

    aliases: list[str]
    total_count: Count
    current_page: Count
    total_pages: Count
    size: Count


class KeyPage(Shape):
    """Keys, newest first; their key_ids only where no objects were asked for."""

    keys: list[KeyShape] | list[str]
    total_count: Count
    current_page: Count
    total_pages: Count


class KeyFieldsShape(Shape):
    """What may be said of a key."""

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
    blocked: bool | None = None
    allowed_routes: Annotated[list[Text], Field(max_length=50)] | None = None
    permissions: (
        Literal["admin", "view"]
        | list[Literal["admin", "view"]]
        | Annotated[dict[str, Any], Field(max_length=0)]
        | None
    ) = None
    store_bodies: Literal["all", "none"] | None = None


class KeyWishShape(KeyFieldsShape):
    """What may be said of a new key; null is the same as absent."""

    key: Secret | None = None


class KeyUpdateShape(KeyFieldsShape):
    """What is to be another: what is absent stays, null resets."""

    key: Annotated[str, Field(min_length=1, description="the key, its hash or its key_id")]


class NamedKeyRegenerationShape(KeyFieldsShape):
    """The new secret of a key, and what else is to be another."""

    new_key: Secret | None = None
    grace_period: str | None = Field(None, description="such as 0, 30m, 24h; at most 30d")


class KeyRegenerationShape(NamedKeyRegenerationShape, KeyUpdateShape):
    """Which key gets a new secret, and what else is to be another."""


class BulkUpdate(Shape):
    """Bodies of /key/update."""

    keys: Annotated[list[KeyUpdateShape], Field(min_length=1, max_length=100)]


class UpdatedKey(Shape):
    """A key that was changed."""

    key: str
    key_info: KeyShape


class FailedUpdate(Shape):
    """Which of `keys`, from 0, was not changed, and why."""

    position: Count
    failed_reason: str
    code: str | None


class BulkUpdated(Shape):
    """What became of each update."""

    total_requested: Count
    successful_updates: list[UpdatedKey]
    failed_updates: list[FailedUpdate]


class ManyKeys(Shape):
    """Keys by text, hash or key_id."""

    keys: Annotated[list[Annotated[str, Field(min_length=1, max_length=256)]], Field(max_length=100)]


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
