"""HTTP for those who watch the process: /health/liveliness (it runs) and /health/readiness (it can serve calls).

Without a key, and so without anything that is not everybody's to know.
"""

import asyncio
import time
from typing import Annotated, Any, Final

import asyncpg
from fastapi import APIRouter, Depends, Request
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.context import Context, context
from api.exact_answer import ExactJson
from api.routes.paths import read_by_get
from api.routes.shapes import Shape
from ledger.errors import LedgerUnavailableError
from ledger.postgres.connect import CONNECTION_LOST

router = APIRouter(tags=["health"])

_PROBE_S: Final = 2.0
#: However often readiness is asked for, the database is asked this often at most.
_FRESH_S: Final = 0.5


class DatabaseProbe:
    """Whether the database answers; asked by one request at a time, on behalf of all that wait."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._answered: bool = False
        self._asked_at_s: float | None = None

    async def answers(self, running: Context) -> bool:
        """Return whether the database answered within the last `_FRESH_S`, or does now."""
        async with self._turn:
            if self._asked_at_s is None or time.monotonic() - self._asked_at_s > _FRESH_S:
                self._answered = await _ask(running)
                self._asked_at_s = time.monotonic()
            return self._answered


async def _ask(running: Context) -> bool:
    try:
        async with asyncio.timeout(_PROBE_S), running.reads.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except (*CONNECTION_LOST, asyncpg.PostgresError, SQLAlchemyError):
        return False
    return True


class Readiness(Shape):
    """Whether calls can be served, and what is in the way."""

    status: str
    db: str = ""
    ledger: str = ""
    failing: list[str] | None = None


@read_by_get(router, "/health/liveliness", "/health/liveness", response_model=str)
async def is_alive() -> ExactJson:
    """Say that the process runs."""
    return ExactJson("I'm alive!")


@read_by_get(
    router,
    "/health/readiness",
    response_model=Readiness,
    responses={503: {"model": Readiness, "description": "Calls cannot be served now."}},
)
async def is_ready(request: Request, running: Annotated[Context, Depends(context)]) -> ExactJson:
    """Say whether calls can be served: 200, or 503 with what is in the way."""
    if running.book.journals.is_closing:
        return _answer({"status": "shutting_down"})
    state = request.app.state
    probe: DatabaseProbe | None = getattr(state, "database_probe", None)
    if probe is None:
        probe = state.database_probe = DatabaseProbe()
    if not await probe.answers(running):
        return _answer({"status": "unhealthy", "db": "disconnected"})
    try:
        running.book.journals.require_available()
    except LedgerUnavailableError as error:
        return _answer({"status": "unhealthy", "db": "connected", "ledger": str(error)})
    state = {"status": "healthy", "db": "connected", "ledger": "writing"}
    failing = running.book.failing()
    return ExactJson({**state, "failing": failing} if failing else state)


def _answer(body: dict[str, Any]) -> ExactJson:
    return ExactJson(body, status_code=503, headers={"retry-after": "2"})
