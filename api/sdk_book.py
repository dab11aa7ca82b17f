"""The book of a program that uses the SDK: what `llm.configure(ledger=URL)` finds by its name (`llm/sdk/recording.py`).

The same journals, facts, prices and promises as a proxy's; `book.py` holds the parts. The program folds, too, while it
runs: which process does is decided by a lock, so a proxy on the same database and a program do not get in each other's
way. It does not migrate.
"""

import asyncio
import logging
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, Final
from uuid import UUID

import asyncpg

from api.auth import Caller
from api.book import Book
from api.call_recording import complete_facts, received_facts, record_received
from api.cli.ledger_options import require_schema
from api.errors import ApiFailure
from api.prices import load_prices
from api.version import VERSION
from ledger.errors import LedgerUnavailableError
from ledger.journal.journals import JournalSettings
from ledger.money.book import PriceBook
from ledger.money.cost import Charge
from ledger.postgres.connect import CONNECTION_LOST
from ledger.postgres.migrate import SchemaMismatchError
from ledger.postgres.url import DatabaseUrlError, parse
from ledger.projections.projector import ProjectionLagError, ProjectionStoppedError
from llm.record import Record
from llm.request import ClientRequest
from llm.sdk.errors import RecordingError, UsageError
from llm.sdk.settings import Identity

logger = logging.getLogger(__name__)

LEASE_S: Final = 15.0
#: How long the end of a program waits for its last calls to be folded; otherwise another process does it.
_FOLD_S: Final = 2.0
_OPEN_S: Final = 60.0


class SdkBook:
    """Implements `llm.sdk.recording.Recorder`."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._book: Book | None = None

    async def open(self) -> None:
        """Open a journal, load the prices, take over what ended processes of this machine left open.

        Raises:
            RecordingError: the URL cannot be read, there is no book of this version, or it is out of reach.
        """
        try:
            shown = parse(self._url).redacted()
        except DatabaseUrlError as error:
            raise RecordingError(f"the ledger's URL cannot be used: {error}") from error
        try:
            async with asyncio.timeout(_OPEN_S):
                self._book = await self._opened()
        except SchemaMismatchError as error:
            raise RecordingError(f"nothing was sent, because {shown} cannot record it: {error}") from error
        except (
            *CONNECTION_LOST,
            asyncpg.PostgresError,
            LedgerUnavailableError,
            ProjectionLagError,
            ProjectionStoppedError,
        ) as error:
            said = f"{type(error).__name__}: {error}"
            raise RecordingError(f"nothing was sent, because the ledger {shown} cannot be used: {said}") from error

    async def _opened(self) -> Book:
        await require_schema(self._url)
        book = Book(self._url, JournalSettings(), lease_s=LEASE_S, version=VERSION)
        try:
            await book.journals.open()
            book.prices = await load_prices(self._url, book.journals, book.projector, ())
            book.follow_prices(())
            await book.open()
        except BaseException:
            await book.close(1.0)
            raise
        return book

    @property
    def _opened_book(self) -> Book:
        if self._book is None:
            raise RecordingError("the ledger is not open")
        return self._book

    def prices(self) -> PriceBook:
        """Return the prices of the book."""
        return self._opened_book.prices

    def begin(self, call_id: UUID) -> Record:
        """Give a call its log.

        Raises:
            RecordingError: nothing can be recorded now.
        """
        try:
            return self._opened_book.begin_call(call_id)
        except LedgerUnavailableError as error:
            raise RecordingError(f"nothing was sent, because nothing can be recorded now: {error}") from error

    async def received(self, record: Record, request: ClientRequest, identity: Identity) -> dict[str, Any]:
        """Enqueue `call.received` as the proxy does, and return its facts.

        Raises:
            UsageError: too many tags, or a name that is too long.
        """
        caller = Caller(identity.key, key_alias=identity.key, user=identity.user, tags=identity.tags)
        scope = {"method": request.method, "query_string": request.query.encode("latin-1")}
        facts = received_facts(scope, request.path, request.headers, caller, request.raw_body)
        try:
            complete_facts(facts, request, caller, dict(request.headers))
        except ApiFailure as failure:
            raise UsageError(failure.error.message) from failure
        # What is configured stands for calls that name nobody: here nobody but the program itself can say.
        facts["end_user"] = facts["end_user"] or identity.end_user
        await record_received(record, facts, request)
        return facts

    def settle_fenced(self, record: Record, attempt: int, charge: Charge) -> None:
        """Book a real cost after recovery has closed its call with a guess; in the background."""
        self._opened_book.settle_fenced(record, attempt, charge)

    async def settle_response(self, response: Mapping[str, Any]) -> None:
        """Settle the attempt that made a response which the program read."""
        await self._opened_book.settle_response(response)

    async def close(self, timeout_s: float) -> None:
        """Fold what is left, if that is soon done, and seal the journal."""
        book, self._book = self._book, None
        if book is None:
            return
        with suppress(TimeoutError, *CONNECTION_LOST, asyncpg.PostgresError):
            async with asyncio.timeout(_FOLD_S):
                await book.projector.catch_up()
        await book.close(timeout_s)
