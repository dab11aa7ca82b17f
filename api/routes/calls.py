"""HTTP for audits of one call: /ledger/calls/{call_id} and its /events; `replay.py` gives its answer back.

A key sees its own calls; another's is a 404, as if it were not there.
"""

from typing import Annotated, Any, Final
from uuid import UUID

import asyncpg
from fastapi import APIRouter, Depends, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from api.audit import note_reads
from api.auth import Caller
from api.context import Context, caller, context
from api.errors import ApiFailure, not_found
from api.exact_answer import ExactJson
from api.routes.call_shapes import CallEvents, CallStory
from api.routes.event_row import shown_correction, shown_event, shown_step
from api.routes.log_row import shown_call, spend_of
from api.routes.parameters import Parameter, Parameters, read_uuid
from api.routes.paths import read_by_get
from api.routes.reading import snapshot
from ledger.events import COST_CORRECTED, COST_RECORDED
from ledger.postgres.connect import CONNECTION_LOST
from ledger.projections.projector import ProjectionLagError, ProjectionStoppedError
from ledger.reports.calls import call
from ledger.reports.events import Place, Reception, corrections_of, find, receptions_of
from ledger.reports.pages import EVENTS_MAX, Page, page_of_call
from ledger.reports.timeline import Chunks, Step, chunks_of, ending_of, steps_of

router = APIRouter(tags=["calls"])

BODIES: Final = ("text", "base64", "none")
_FOLD_WAIT_S: Final = 2.0
_VERSION_MAX: Final = 2**31 - 1
_NONE: Final = Parameters()
EVENTS: Final = Parameters(
    Parameter("after", "Events with a version above this one; usually -1, from the beginning."),
    Parameter("limit", f"Events a page: 1 to {EVENTS_MAX}, usually 100. A page also ends at about 1 MiB of bodies."),
    Parameter("bodies", f"One of {', '.join(BODIES)}: text (usually; base64 where it is no UTF-8), base64, or none."),
)

Running = Annotated[Context, Depends(context)]
Anybody = Annotated[Caller, Depends(caller)]


@read_by_get(router, "/ledger/calls/{call_id}", response_model=CallStory, openapi_extra=_NONE.openapi)
async def get_call(call_id: str, request: Request, running: Running, who: Anybody) -> ExactJson:
    """Return what the book says of a call: its row, attempts, costs with their line items, and what happened when."""
    _NONE.read(request)
    async with snapshot(running.reads) as connection:
        place = await find_place(connection, call_id, who)
        steps = await steps_of(connection, place)
    is_folded = await _fold(running, place, steps[-1].seq)
    async with snapshot(running.reads) as connection:
        row = await call(connection, place.call_id, scope=who.scope)
        corrections = await corrections_of(connection, place, scope=who.scope)
        chunks = await chunks_of(connection, place)
    costs = [shown_step(step, steps[0]) for step in steps if step.type in {COST_RECORDED, COST_CORRECTED}]
    return ExactJson(
        {
            "call_id": place.call_id,
            "journal_id": place.journal_id,
            "is_open": ending_of(steps) is None,
            "is_folded": is_folded,
            "call": None if row is None else {**shown_call(row), "spend": spend_of(row)},
            "attempts": _attempts(steps),
            "costs": costs + [shown_correction(event) for event in corrections],
            "timeline": [_happened(step, steps[0]) for step in steps],
            "chunks": _shown_chunks(chunks, steps[0]),
        }
    )


@read_by_get(router, "/ledger/calls/{call_id}/events", response_model=CallEvents, openapi_extra=EVENTS.openapi)
async def list_events_of_call(call_id: str, request: Request, running: Running, who: Anybody) -> ExactJson:
    """List a call's events in order, a page at a time; `next_after` is null on the last page.

    Corrections of its cost that lie in other journals are in `corrections`, on the last page.
    """
    given = EVENTS.read(request)
    after = given.integer("after", -1, least=-1, most=_VERSION_MAX)
    limit = given.integer("limit", 100, least=1, most=EVENTS_MAX)
    bodies = given.choice("bodies", BODIES, "text") or "text"
    async with snapshot(running.reads) as connection:
        place = await find_place(connection, call_id, who)
        page = await page_of_call(connection, place, after=after, limit=limit, bodies=bodies != "none")
        corrections = [] if page.has_more else await corrections_of(connection, place, scope=who.scope)
        shown = await shown_calls(connection, page)
    if request.method != "HEAD":
        await note_reads(running.book.journals, who.key_id, shown, shown="events", through=request.url.path)
    return ExactJson(
        {
            "call_id": place.call_id,
            "journal_id": place.journal_id,
            "data": [shown_event(event, bodies) for event in page.events],
            "next_after": page.events[-1].version if page.has_more else None,
            "corrections": [shown_correction(event) for event in corrections],
        }
    )


async def shown_calls(connection: AsyncConnection, page: Page) -> dict[UUID, Reception]:
    """Return the calls of which a page shows bodies, and whose they are."""
    places = {Place(event.journal_id, event.call_id) for event in page.events if event.body and event.call_id}
    return await receptions_of(connection, places) if places else {}


async def find_place(connection: AsyncConnection, call_id: str, who: Caller) -> Place:
    """Return where a call's events are.

    Raises:
        ApiFailure: 404 for what is no call, or not this key's.
    """
    found = read_uuid(call_id)
    place = None if found is None else await find(connection, found, scope=who.scope)
    if place is None:
        raise no_call(call_id)
    return place


def no_call(call_id: str | UUID) -> ApiFailure:
    """404: no such call, or another key's."""
    return not_found(f"There is no call {str(call_id)[:80]!r}.", "call_not_found", "call_id")


async def _fold(running: Context, place: Place, seq: int) -> bool:
    """Have the call's row catch up with its events; return whether it did in time."""
    try:
        await running.book.projector.passed("calls", place.journal_id, seq, timeout_s=_FOLD_WAIT_S)
    except (ProjectionLagError, ProjectionStoppedError, *CONNECTION_LOST, asyncpg.PostgresError):
        return False
    return True


def _attempts(steps: list[Step]) -> list[dict[str, Any]]:
    """Put together what the events say of each attempt."""
    attempts: dict[int, dict[str, Any]] = {}
    for step in steps:
        if step.type == "attempt.started":
            attempts[step.facts["attempt"]] = {**step.facts, "started_at": step.recorded_at}
        elif step.type in {"attempt.answered", "attempt.failed"} and step.facts["attempt"] in attempts:
            name = step.type.partition(".")[2]
            said = {key: value for key, value in step.facts.items() if key != "attempt"}
            attempts[step.facts["attempt"]][name] = {"at": step.recorded_at, **said}
    return list(attempts.values())


def _happened(step: Step, first: Step) -> dict[str, Any]:
    shown = shown_step(step, first)
    return {name: shown[name] for name in ("version", "type", "at", "after_us")}


def _shown_chunks(chunks: Chunks, first: Step) -> dict[str, Any]:
    def after_us(at: Any) -> int | None:
        return None if at is None else round((at - first.recorded_at).total_seconds() * 1_000_000)

    return {
        "count": chunks.chunks,
        "bytes": chunks.bytes,
        "first_after_us": after_us(chunks.first_at),
        "last_after_us": after_us(chunks.last_at),
    }
