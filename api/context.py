"""What the routes are handed: one object, made by `app.py` when the process starts, with everything that is wired."""

from dataclasses import dataclass, field

from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncEngine

from api.auth import Authenticator, Caller, require_route
from api.book import Book
from api.config import Config
from api.errors import forbidden
from api.keyring import CachedKeyring
from api.metrics.instruments import Instruments
from api.metrics.vitals import Vitals
from api.routes.key_changes import KeyDesk
from api.routes.team_changes import TeamDesk
from llm.engine import Engine


@dataclass(slots=True)
class Context:
    """The running proxy, as its routes see it."""

    config: Config
    #: Appending, folding, prices, corrections.
    book: Book
    #: Pooled connections for reading, as the application's role, with a statement timeout.
    reads: AsyncEngine
    authenticator: Authenticator
    keyring: CachedKeyring
    engine: Engine
    instruments: Instruments
    vitals: Vitals

    #: What changes of keys need.
    keys: KeyDesk = field(init=False)
    #: What changes of teams need.
    teams: TeamDesk = field(init=False)

    def __post_init__(self) -> None:
        self.keys = KeyDesk(self.reads, self.book, self.authenticator.is_master, self.keyring.forget)
        self.teams = TeamDesk(self.reads, self.book, self.keyring.forget_team)


def context(request: Request) -> Context:
    """Return the running proxy; a FastAPI dependency."""
    return request.app.state.context


async def caller(request: Request) -> Caller:
    """Return who calls; a FastAPI dependency.

    Raises:
        ApiFailure: as `Authenticator.caller`, and 403 for a route that this key may not use.
    """
    headers = [(name.decode("latin-1"), value.decode("latin-1")) for name, value in request.scope["headers"]]
    who = await context(request).authenticator.caller(headers)
    require_route(who, request.url.path)
    return who


async def admin(request: Request) -> Caller:
    """Return who calls, if that is an administrator; a FastAPI dependency.

    Raises:
        ApiFailure: 403 for every other key.
    """
    who = await caller(request)
    if not who.is_admin:
        raise forbidden("Only the master key, or a key with the permission admin, may do this.")
    return who


async def reader(request: Request) -> Caller:
    """Return who calls, if that is somebody who may read everything; a FastAPI dependency.

    Raises:
        ApiFailure: 403 for every other key.
    """
    who = await caller(request)
    if not who.may_read_all:
        raise forbidden("Only the master key, or a key with the permission view or admin, may do this.")
    return who


async def metrics_reader(request: Request) -> None:
    """Let those in who may read everything, or everybody where the config says so; a FastAPI dependency.

    Raises:
        ApiFailure: as `reader`.
    """
    if context(request).config.general.metrics_require_key:
        await reader(request)
