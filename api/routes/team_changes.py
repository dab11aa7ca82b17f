"""Creates, changes and deletes teams: each change is one event with the whole state, in force when it returns.

A team is for booking and listing: an id that keys name, with an alias, an organisation and metadata. While it is
blocked, its keys are refused (`api/keyring.py`). `teams.py` is the HTTP.
"""

import asyncio
import json
import secrets
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from sqlalchemy.ext.asyncio import AsyncEngine
from uuid_utils.compat import uuid7

from api.administration import Administers, ConflictError, recorded
from api.auth import Caller
from api.errors import bad_request, not_found
from api.routes.field_values import asks_nothing, read_flag, read_metadata, read_name, unknown_field
from api.routes.key_changes import conflict
from api.routes.reading import reading
from ledger.encoding import encode_facts, rfc3339
from ledger.events import TEAM_CREATED, TEAM_DELETED, TEAM_UPDATED
from ledger.reports.teams import TEAM_SUBJECT, RecordedTeam, find_team, standing_keys

_TRIES: Final = 8
_SETTLE_S: Final = 3.0
_SAME: Final = {"organization_id": "org"}
_VALUES: Final[dict[str, Callable[[Any, str], Any]]] = {
    "team_alias": read_name,
    "org": read_name,
    "metadata": read_metadata,
    "blocked": read_flag,
}
_DEFAULTS: Final[Mapping[str, Any]] = {"team_alias": "", "org": "", "metadata": {}, "blocked": False}
#: Known from LiteLLM and not enforced here.
_NOT_ENFORCED: Final = frozenset(
    {
        "admins", "allowed_passthrough_routes", "budget_duration", "guardrails", "max_budget", "max_parallel_requests",
        "members", "members_with_roles", "model_aliases", "model_rpm_limit", "model_tpm_limit", "models",
        "object_permission", "prompts", "rpm_limit", "soft_budget", "tags", "team_member_budget",
        "team_member_key_duration", "team_member_permissions", "team_member_rpm_limit", "team_member_tpm_limit",
        "tpm_limit",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TeamDesk:
    """What changes of teams need. `forget` is told of each team that has changed."""

    reads: AsyncEngine
    book: Administers
    forget: Callable[[str], None]


def read_team(body: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Read the body of /team/new or /team/update: the team's id ("" for none) and what is given; null resets.

    Raises:
        ApiFailure: 400 naming the field that is unknown, not enforced, of the wrong type or out of bounds.
    """
    team_id = read_name(body.get("team_id") or "", "team_id")
    given: dict[str, Any] = {}
    for name, value in body.items():
        known = _SAME.get(name, name)
        if name in _NOT_ENFORCED:
            if not asks_nothing(name, value):
                message = f"{name} of a team is not enforced by this proxy. Leave it out."
                raise bad_request(message, param=name, code="unsupported_parameter")
        elif known in given:
            raise bad_request(f"{name} means the same as {known}, which is given too; keep one.", param=name)
        elif known in _VALUES:
            given[known] = _DEFAULTS[known] if value is None else _VALUES[known](value, name)
        elif name != "team_id":
            raise unknown_field(name, {*_VALUES, *_SAME, "team_id"}, _SAME)
    return team_id, given


async def create(desk: TeamDesk, actor: Caller, team_id: str, given: dict[str, Any]) -> str:
    """Create a team and return its id, which is made where none is given. One that was deleted comes back anew.

    Raises:
        ApiFailure: 409 for a team that exists, 503.
    """
    team_id = team_id or f"team_{uuid7().hex}"
    made = {"deleted": False, "created_at": rfc3339(datetime.now(UTC)), "created_by": actor.key_id}

    def alter(state: dict[str, Any] | None) -> dict[str, Any]:
        if state is not None and not state["deleted"]:
            raise conflict(f"The team {team_id[:80]!r} exists already; change it by /team/update.", "team_id")
        return {"team_id": team_id, **_DEFAULTS, **given, **made}

    await _change(desk, actor, team_id, TEAM_CREATED, alter)
    return team_id


async def update(desk: TeamDesk, actor: Caller, team_id: str, given: dict[str, Any]) -> None:
    """Change what is given of a team.

    Raises:
        ApiFailure: 404 for a team that was not created, 409, 503.
    """
    await _change(desk, actor, team_id, TEAM_UPDATED, lambda state: {**_existing(state, team_id), **given})


async def delete(desk: TeamDesk, actor: Caller, team_ids: Sequence[str]) -> None:
    """Delete teams that have no key left; what was booked under their ids stays booked.

    All are looked at before the first is deleted, so that a wrong name leaves all of them.

    Raises:
        ApiFailure: 404 for a team that was not created, 409 for one with keys that are not revoked, 503.
    """
    for team_id in team_ids:
        _existing((await _settled(desk, team_id)).state, team_id)
        await _require_no_keys(desk, team_id)
    for team_id in team_ids:
        await _require_no_keys(desk, team_id)
        await _change(
            desk, actor, team_id, TEAM_DELETED, lambda state, team=team_id: {**_existing(state, team), "deleted": True}
        )


async def _require_no_keys(desk: TeamDesk, team_id: str) -> None:
    async with reading(desk.reads) as connection:
        left = await standing_keys(connection, team_id)
    if left:
        raise conflict(
            f"The team {team_id[:80]!r} still has keys ({left}): revoke them, or give them another team.", "team_ids"
        )


def _existing(state: dict[str, Any] | None, team_id: str) -> dict[str, Any]:
    if state is None or state["deleted"]:
        raise not_found(
            f"There is no team {team_id[:80]!r}; a name that only keys have is created by /team/new.",
            "team_not_found",
            "team_id",
        )
    return state


async def _change(
    desk: TeamDesk,
    actor: Caller,
    team_id: str,
    type_: str,
    alter: Callable[[dict[str, Any] | None], dict[str, Any]],
) -> None:
    for _ in range(_TRIES):
        found = await _settled(desk, team_id)
        state = alter(found.state)
        if state == found.state:
            return
        facts = {"actor": actor.key_id, "team": state}
        if "altered" in json.loads(encode_facts(facts)):
            raise bad_request("The team's metadata and names together are too large for the book.")
        try:
            await _record(desk, team_id, found.claimed_revision + 1, type_, facts)
        except ConflictError:
            await asyncio.sleep(0.05 + secrets.randbelow(50) / 1000)
            continue
        desk.forget(team_id)
        return
    raise conflict(f"The team {team_id[:80]!r} is being changed by others; try again.", "team_id")


async def _settled(desk: TeamDesk, team_id: str) -> RecordedTeam:
    """Read a team, once a change that is under way has come; one whose writer died is waited for in vain."""
    deadline = time.monotonic() + _SETTLE_S
    while True:
        async with reading(desk.reads) as connection:
            found = await find_team(connection, team_id)
        if found.claimed_revision <= found.revision or time.monotonic() >= deadline:
            return found
        await asyncio.sleep(0.05)


async def _record(desk: TeamDesk, team_id: str, revision: int, type_: str, facts: dict[str, Any]) -> None:
    await recorded(desk.book, lambda: desk.book.administer(TEAM_SUBJECT, team_id, revision, type_, facts, "keys"))
