"""HTTP for replays: /ledger/calls/{call_id}/replay gives a recorded answer back, byte for byte.

It is read page by page, each over a connection of its own that is given back at once: a slow reader, or a replay at the
recorded pace, keeps neither memory nor the database busy.
"""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import StreamingResponse

from api.audit import note_reads
from api.auth import Caller
from api.context import Context, caller, context
from api.errors import ApiFailure, not_found
from api.routes.calls import find_place
from api.routes.parameters import Parameter, Parameters
from api.routes.paths import read_by_get
from api.routes.reading import reading, snapshot
from ledger.reports.events import Answer, Place, answer, receptions_of, source_of
from ledger.reports.pages import page_of_answer
from ledger.reports.timeline import Holdings, Step, ending_of, holdings_of, steps_of
from llm.errors import ApiError

router = APIRouter(tags=["calls"])

_PACES: Final = ("none", "recorded")
_PARAMETERS: Final = Parameters(Parameter("pace", "none (usually): at once; recorded: as it came."))
_REPLAYED: Final = ("content-type", "content-encoding")
_JSON: Final = "application/json"
#: The answer of whichever upstream, as it was.
_ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {"description": "The answer, byte for byte.", "content": {"*/*": {"schema": {}}}},
    "default": {"description": "The answer, byte for byte, of whichever status.", "content": {"*/*": {"schema": {}}}},
}


@read_by_get(
    router,
    "/ledger/calls/{call_id}/replay",
    response_class=Response,
    responses=_ANSWER,
    openapi_extra=_PARAMETERS.openapi,
)
async def replay_call(
    call_id: str,
    request: Request,
    running: Annotated[Context, Depends(context)],
    who: Annotated[Caller, Depends(caller)],
) -> Response:
    """Answer as the call was answered: same status, content type and bytes.

    The header x-llm-replay says `exact`, or `masked` where secrets were kept out of the book.
    """
    pace = _PARAMETERS.read(request).choice("pace", _PACES, "none")
    async with snapshot(running.reads) as connection:
        place = await find_place(connection, call_id, who)
        ending = ending_of(await steps_of(connection, place))
        if ending is None:
            raise _conflict(f"The call {place.call_id} is still running; replay it when it has ended.", "call_running")
        first = (await receptions_of(connection, [place]))[place.call_id]
        if not first.has_bodies:
            message = f"The bodies of the call {place.call_id} were not stored, so there is nothing to replay."
            raise not_found(message, "bodies_not_stored", "call_id")
        if (source := await source_of(connection, place)) is not None:
            message = f"The call {place.call_id} was answered from the book, as the call {source} was: replay that one."
            raise not_found(message, "served_from_book", "call_id")
        head = await answer(connection, place, scope=who.scope)
        if head is None:
            raise not_found(f"The call {place.call_id} ended without an answer: {ending.type}.", "no_answer", "call_id")
        held = await holdings_of(connection, place, head=head.after)
    if request.method != "HEAD":
        await note_reads(
            running.book.journals, who.key_id, {place.call_id: first}, shown="replay", through=request.url.path
        )
    own = own_body(head)
    headers = _headers(place, ending, head, held, own)
    if own is not None:
        return Response(own, head.status, headers)
    if request.method == "HEAD":
        return Response(status_code=head.status, headers=headers)
    pieces = _pieces(running, place, head, is_paced=pace == "recorded")
    return StreamingResponse(pieces, head.status, headers)


def own_body(head: Answer) -> bytes | None:
    """Return the body of an answer that the proxy gave itself; None for an upstream's."""
    if head.own is None and head.rejection is not None:
        return json.dumps({"error": head.rejection}).encode()
    return head.own


def _headers(place: Place, ending: Step, head: Answer, held: Holdings, own: bytes | None) -> dict[str, str]:
    headers = {name: value for name, value in head.headers if name in _REPLAYED}
    if own is not None:
        headers.setdefault("content-type", _JSON)
    if held.is_decoded:
        headers.pop("content-encoding", None)
    return {
        **headers,
        "content-length": str(held.bytes if own is None else len(own)),
        "cache-control": "no-store",
        "x-content-type-options": "nosniff",
        "x-llm-call-id": str(place.call_id),
        "x-llm-call-status": ending.type.partition(".")[2],
        "x-llm-replay": "masked" if own is None and held.is_altered else "exact",
    }


async def _pieces(running: Context, place: Place, head: Answer, *, is_paced: bool) -> AsyncIterator[bytes]:
    began_s = time.monotonic()
    after, has_more = head.after, True
    while has_more:
        async with reading(running.reads) as connection:
            page = await page_of_answer(connection, place, head=head.after, after=after)
        has_more = page.has_more
        for event in page.events:
            after = event.version or 0
            if is_paced:
                due_s = (event.recorded_at - head.answered_at).total_seconds()
                await asyncio.sleep(max(0.0, due_s - (time.monotonic() - began_s)))
            if event.body:
                yield event.body


def _conflict(message: str, code: str) -> ApiFailure:
    return ApiFailure(ApiError(409, message, code=code, param="call_id"))
