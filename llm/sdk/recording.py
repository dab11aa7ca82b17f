"""How the SDK records: the protocol of a book, the way to one, and what stands in its place when there is none.

The engine's floor knows no SQL. Who configures a ledger gets `api.sdk_book`, loaded by its name at the first call: an
import that exists at run time only, so that a program without a book loads no database driver.
"""

import asyncio
from collections.abc import Mapping
from importlib import import_module
from typing import Any, Final, Protocol, cast
from uuid import UUID

from ledger.money.book import PriceBook
from ledger.money.cost import Charge
from llm.no_record import NoRecord
from llm.record import Bookkeeper, Record
from llm.request import ClientRequest
from llm.sdk.settings import Identity

_BOOK: Final = "api.sdk_book"
_DIMENSIONS: Final = ("key_id", "key_alias", "org", "team", "user", "end_user")


class Recorder(Bookkeeper, Protocol):
    """A book as the SDK needs it."""

    async def open(self) -> None:
        """Make ready to record.

        Raises:
            RecordingError: there is no book there, or it is out of reach.
        """
        ...

    def prices(self) -> PriceBook:
        """Return the prices in force."""
        ...

    def begin(self, call_id: UUID) -> Record:
        """Give a call its log.

        Raises:
            RecordingError: nothing can be recorded now.
        """
        ...

    async def received(self, record: Record, request: ClientRequest, identity: Identity) -> dict[str, Any]:
        """Enqueue `call.received`, and return its facts.

        Raises:
            UsageError: the request cannot be booked as it stands.
        """
        ...

    async def close(self, timeout_s: float) -> None:
        """End the book's part in this process."""
        ...


async def open_recorder(ledger_url: str | None) -> Recorder:
    """Return the book at a URL, opened; None: what records nothing.

    Raises:
        RecordingError: there is no book there, or it is out of reach.
    """
    recorder: Recorder = Unrecorded()
    if ledger_url is not None:
        module = await asyncio.to_thread(import_module, _BOOK)
        recorder = cast("Recorder", module.SdkBook(ledger_url))
    await recorder.open()
    return recorder


class Unrecorded:
    """Keeps nothing. Prices are those of the installed price list."""

    def __init__(self) -> None:
        self._prices = PriceBook()

    async def open(self) -> None:
        """Load the price list."""
        self._prices = await asyncio.to_thread(_installed_prices)

    def prices(self) -> PriceBook:
        """Return the installed price list."""
        return self._prices

    def begin(self, call_id: UUID) -> Record:
        """Return a log that keeps nothing."""
        return NoRecord(call_id)

    async def received(self, record: Record, request: ClientRequest, identity: Identity) -> dict[str, Any]:  # noqa: ARG002 - the protocol's
        """Return what the engine asks of `call.received`."""
        return {**dict.fromkeys(_DIMENSIONS, ""), "model": request.model, "tags": []}

    def settle_fenced(self, record: Record, attempt: int, charge: Charge) -> None:
        """Do nothing: no journal, no takeover."""

    async def settle_response(self, response: Mapping[str, Any]) -> None:
        """Do nothing: nothing was booked."""

    async def close(self, timeout_s: float) -> None:
        """Do nothing."""


def _installed_prices() -> PriceBook:
    from ledger.money.seed import seed_prices  # noqa: PLC0415 - a quarter of a second

    return PriceBook(seed_prices())
