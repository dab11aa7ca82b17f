"""What people change about prices: set one over the list, withdraw it. Used by the routes and by the command line.

A change is an event `price.published` with its actor and a revision by compare-and-set; it holds for attempts that
start after it was folded, on every proxy within a second. Charges of the past stay as they are.
"""

import hashlib
from typing import Final

from api.administration import Administers, ConflictError, recorded
from api.errors import ApiFailure, bad_request
from ledger.events import PRICE_PUBLISHED
from ledger.money.price import Price
from llm.errors import ApiError

SUBJECT_KIND: Final = "price"


async def publish(book: Administers, price: Price, actor: str) -> None:
    """Record a price of revision 1, or the next one in its slot, and return once it is folded.

    Raises:
        ApiFailure: 409 when somebody else set the same price first, 503 when it could not be recorded.
    """
    subject = hashlib.sha256(price.slot.encode()).hexdigest()
    facts = {"actor": actor, "price": price.to_facts()}
    try:
        await recorded(
            book, lambda: book.administer(SUBJECT_KIND, subject, price.revision, PRICE_PUBLISHED, facts, "prices")
        )
    except ConflictError as error:
        message = f"The price of {price.model!r} was set by somebody else meanwhile; look at it and try again."
        raise ApiFailure(ApiError(409, message, code="conflict", param="model")) from error


def refused(error: ValueError) -> ApiFailure:
    """Return the refusal of a price that cannot be published."""
    return bad_request(f"{error}.", code="invalid_price")
