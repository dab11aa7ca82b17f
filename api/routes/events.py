"""HTTP for the book as a whole: /ledger/events, for those who read everything, by journal and seq."""

from typing import Annotated, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Request

from api.audit import note_reads
from api.auth import Caller
from api.context import Context, context, reader
from api.errors import bad_request
from api.exact_answer import ExactJson
from api.routes.call_shapes import BookEvents
from api.routes.calls import BODIES, shown_calls
from api.routes.event_row import shown_event
from api.routes.parameters import Parameter, Parameters, read_uuid
from api.routes.paths import read_by_get
from api.routes.reading import snapshot
from ledger.reports.pages import EVENTS_MAX, page_of_book

router = APIRouter(tags=["events"])

_FIRST: Final = UUID(int=0)
_SEQ_MAX: Final = 2**63 - 1
_PARAMETERS: Final = Parameters(
    Parameter("after", "Events behind this one, as journal_id:seq; what `next_after` said."),
    Parameter("journal_id", "Events of this journal only."),
    Parameter("type", "Events of this type only, such as key.issued."),
    Parameter("limit", f"Events a page: 1 to {EVENTS_MAX}, usually 100. A page also ends at about 1 MiB of bodies."),
    Parameter("bodies", f"One of {', '.join(BODIES)}; usually none."),
)


@read_by_get(router, "/ledger/events", response_model=BookEvents, openapi_extra=_PARAMETERS.openapi)
async def list_events(
    request: Request, running: Annotated[Context, Depends(context)], who: Annotated[Caller, Depends(reader)]
) -> ExactJson:
    """List events by journal and seq; `next_after` is null on the last page.

    Journals are written at the same time. To follow the book, keep a place in each journal (`journal_id` and `after`).
    """
    given = _PARAMETERS.read(request)
    journal_id = given.uuid("journal_id")
    after = _read_place(given.text("after")) or (journal_id or _FIRST, 0)
    if journal_id is not None and after[0] != journal_id:
        raise bad_request(f"after lies in journal {after[0]}, not in {journal_id}.", param="after")
    limit = given.integer("limit", 100, least=1, most=EVENTS_MAX)
    bodies = given.choice("bodies", BODIES, "none") or "none"
    async with snapshot(running.reads) as connection:
        page = await page_of_book(
            connection,
            after=after,
            limit=limit,
            bodies=bodies != "none",
            one_journal=journal_id is not None,
            type_=given.text("type"),
        )
        shown = await shown_calls(connection, page)
    if request.method != "HEAD":
        await note_reads(running.book.journals, who.key_id, shown, shown="events", through=request.url.path)
    last = page.events[-1] if page.has_more else None
    return ExactJson(
        {
            "data": [shown_event(event, bodies) for event in page.events],
            "next_after": None if last is None else f"{last.journal_id}:{last.seq}",
        }
    )


def _read_place(text: str | None) -> tuple[UUID, int] | None:
    if text is None:
        return None
    journal, _, seq = text.partition(":")
    journal_id = read_uuid(journal)
    if journal_id is None or not (seq.isascii() and seq.isdecimal() and len(seq) < len(str(_SEQ_MAX))):
        raise bad_request(f"after must be journal_id:seq: got {text[:80]!r}.", param="after")
    return journal_id, int(seq)
