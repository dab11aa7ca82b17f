"""A record that keeps no bodies: what a call says stays out of the book, that it happened and what it cost stays in it.

Wrapped around the log of a call whose bodies are not to be stored (`store_bodies: none`). Everything that may quote a
request or an answer is left out here, in one place, whoever records it. `masking.py` is about secrets instead.
"""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any, Final

from ledger.events import (
    ATTEMPT_ANSWERED,
    ATTEMPT_FAILED,
    ATTEMPT_STARTED,
    BODY_RECEIVED,
    CALL_RECEIVED,
    CHUNK_RECEIVED,
    ENDINGS,
)
from llm.record import Record

STORE_BODIES: Final = ("all", "none")
STORE_BODIES_HEADER: Final = "x-llm-store-bodies"

#: Headers whose values are bookkeeping; what else begins with x-llm- or x-litellm- may say anything.
_KEPT_OWN_HEADERS: Final = frozenset(
    {
        "x-llm-end-user-id", "x-litellm-end-user-id", "x-litellm-customer-id", "x-llm-tags", "x-litellm-tags",
        "x-llm-store-bodies",
    }
)  # fmt: skip
_OWN_PREFIXES: Final = ("x-llm-", "x-litellm-")
_OF_WITHHELD: Final = ("withheld_bytes", "withheld_sha256", "masked", "decoded")


def wish_of(headers: Iterable[tuple[str, str]]) -> str | None:
    """Return what a request's headers (names in lower case) ask for, of several the strictest; None where none asks.

    A value that is neither of STORE_BODIES is returned as it came.
    """
    given = [value for name, value in headers if name == STORE_BODIES_HEADER]
    if not given:
        return None
    return next((value for value in given if value not in STORE_BODIES), "none" if "none" in given else "all")


class RecordWithoutBodies:
    """Records through another record, without bodies and without what quotes them; a `llm.record.Record`."""

    keeps_bodies = False

    def __init__(self, record: Record) -> None:
        self.call_id = record.call_id
        self.journal_id = record.journal_id
        self._record = record

    def append(
        self, type_: str, facts: Mapping[str, Any], body: bytes | None = None, *, with_next: bool = False
    ) -> None:
        """Enqueue an event without its body."""
        self._record.append(type_, _bare(type_, facts, body), with_next=with_next)

    def chunk(self, body: bytes) -> None:
        """Enqueue a `chunk.received` that says how many bytes came."""
        self._record.append(CHUNK_RECEIVED, {"bytes": len(body)})

    async def append_large(self, type_: str, facts: Mapping[str, Any], body: bytes) -> None:
        """Enqueue an event that says how large its body was."""
        self.append(type_, facts, body)

    async def durable(self) -> None:
        """Wait until all that was enqueued is committed."""
        await self._record.durable()

    async def wait_for(self, seconds: float) -> bool:
        """The same, at most `seconds`; tell whether it is committed."""
        return await self._record.wait_for(seconds)

    @property
    def has_room(self) -> bool:
        """Whether another piece fits into the bounds."""
        return self._record.has_room

    @property
    def is_stalled(self) -> bool:
        """Whether the book is not being written at this moment."""
        return self._record.is_stalled

    async def wait_for_room(self, seconds: float) -> bool:
        """Wait until there is room and the book is being written, at most `seconds`; tell whether it is so."""
        return await self._record.wait_for_room(seconds)

    @property
    def received_at(self) -> datetime:
        """When the call was received."""
        return self._record.received_at

    def close(self) -> None:
        """Note that nothing more will be enqueued."""
        self._record.close()


def _bare(type_: str, facts: Mapping[str, Any], body: bytes | None) -> dict[str, Any]:
    """Return facts that quote nothing. Sizes, hashes of the whole request, names and codes are bookkeeping and stay."""
    bare = {name: value for name, value in facts.items() if name not in _OF_WITHHELD}
    if type_ == CHUNK_RECEIVED:
        bare["bytes"] = facts.get("withheld_bytes", len(body or b""))
    elif type_ == BODY_RECEIVED:
        bare |= {"body_bytes": len(body or b""), "parts": 1}
    elif type_ == CALL_RECEIVED:
        kept = [pair for pair in facts["headers"] if _is_kept(pair[0])]
        bare |= {"query": "", "headers": kept, "store_bodies": "none"}
    elif type_ == ATTEMPT_STARTED:
        bare["url"] = facts["url"].partition("?")[0]
    elif type_ == ATTEMPT_ANSWERED:
        # A redirect repeats the query.
        bare["headers"] = [
            [name, value.partition("?")[0] if name == "location" else value] for name, value in facts["headers"]
        ]
    elif type_ == ATTEMPT_FAILED and facts.get("reason") == "status":
        # The upstream's own words; what the proxy says of a connection quotes nobody.
        bare["message"] = ""
    elif type_ in ENDINGS and facts.get("error"):
        bare["error"] = {**facts["error"], "message": ""}
    return bare


def _is_kept(header: str) -> bool:
    return not header.startswith(_OWN_PREFIXES) or header in _KEPT_OWN_HEADERS
