"""Gives an answer from the book: which answers of an upstream leave room for it, and how the call then ends.

What the book holds is looked up through `stored.py`; here nothing is read.
"""

from typing import Final

from ledger.events import CALL_COMPLETED
from ledger.money.cost import Charge, no_charge
from llm.attempt import Attempt, Call
from llm.booking import CallBook, cost_header, own_head
from llm.client import Head
from llm.ending import Ending
from llm.errors import LEDGER_UNAVAILABLE
from llm.stored import StoredAnswer

_SERVER_ERROR: Final = 500
_NOT_FOUND: Final = 404
_OK: Final = 200


async def stored_answer(call: Call, status: int | None) -> StoredAnswer | None:
    """Return what the book gives in place of an answer with this status (None: there was no answer), if anything."""
    if call.stored is None or call.client.is_gone:
        return None
    if status is not None and status < _SERVER_ERROR and status != _NOT_FOUND:
        return None
    return await call.stored.find(is_refused=status == _NOT_FOUND)


async def serve_stored(call: Call, book: CallBook, attempt: Attempt, stored: StoredAnswer) -> None:
    """End a call with an answer from the book; its attempt has failed and is booked as failed."""
    attempt.http_status = _OK
    attempt.answer_bytes = len(stored.body)
    attempt.first_chunk_us = call.elapsed_us()
    charge = no_charge("a read does not charge", request=attempt.pricing.request)
    book.ended(attempt, Ending(CALL_COMPLETED, stored.response, None, charge), charge, source=stored.source)
    if not await book.settled(attempt, charge):
        await call.client.answer(own_head(attempt, LEDGER_UNAVAILABLE), LEDGER_UNAVAILABLE.body())
        return
    await call.client.answer(_head(attempt, stored, charge), stored.body)


def _head(attempt: Attempt, stored: StoredAnswer, charge: Charge) -> Head:
    head = own_head(attempt, None)
    head.status = _OK
    head.headers = [("content-type", stored.content_type), ("x-llm-served-from", "book")]
    if stored.is_masked:
        head.headers.append(("x-llm-replay", "masked"))
    head.cost_usd, head.cost_state = cost_header(charge), charge.state
    return head
