"""Who read what of others: an `audit.read` event, durable before a body is shown to anybody but the key it belongs to.

The routes and commands that show bodies call this; what is read in SQL cannot be seen here.
"""

import asyncio
from collections.abc import Mapping
from typing import Final
from uuid import UUID

from api.errors import unavailable
from ledger.errors import LedgerUnavailableError
from ledger.events import AUDIT_READ
from ledger.journal.journals import Journals
from ledger.reports.events import Reception

_THROUGH_CHARS_MAX: Final = 256


async def note_reads(
    journals: Journals, actor: str, calls: Mapping[UUID, Reception], *, shown: str, through: str
) -> None:
    """Record that `actor` (a key's id) is shown bodies of these calls; for its own calls nothing is recorded.

    Args:
        journals: of this process.
        actor: who reads.
        calls: whose they are, by call id.
        shown: what is shown: events, replay or response.
        through: the route or command.

    Raises:
        ApiFailure: 503 when it cannot be recorded; nothing may be shown then.
    """
    facts = [
        {
            "actor": actor,
            "call_id": str(call_id),
            "key_id": first.key_id,
            "shown": shown,
            "through": through[:_THROUGH_CHARS_MAX],
        }
        for call_id, first in calls.items()
        if first.key_id != actor
    ]
    try:
        await asyncio.gather(*(journals.administer(AUDIT_READ, read) for read in facts))
    except LedgerUnavailableError as error:
        raise unavailable("That this is read cannot be recorded now, so it is not shown.") from error
