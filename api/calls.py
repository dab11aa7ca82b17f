"""The hot route: `/responses` and what lies below it, from ASGI to the engine, without a framework in between.

Who calls, what is asked (`call_reading.py`), what is written down of it (`call_recording.py`), and on to `llm.engine`.
What is refused after its key is known is in the book too, as `call.rejected`.
"""

import asyncio
import logging
import time

from uuid_utils.compat import uuid7

from api.affinity import Affinity, Pinned
from api.asgi_client import AsgiClient, ClientGoneError, Receive, Scope, Send, headers_of, read_body
from api.audit import note_reads
from api.auth import Authenticator, Caller, KeyRefusedError, require_call
from api.book import Book
from api.call_reading import check_store_bodies, keeps_bodies, read_call, require_model
from api.call_recording import complete_facts, received_facts, record_received, record_rejected, rejected_outcome
from api.config_settings import GeneralSettings
from api.errors import ApiFailure, unavailable
from api.keyring import CachedKeyring
from api.observing import CallObserver
from api.stored_responses import StoredResponses
from ledger.errors import FencedError, LedgerUnavailableError
from ledger.reports.events import Reception
from llm.attempt import Call
from llm.client import Head
from llm.engine import Engine
from llm.errors import INTERNAL, LEDGER_UNAVAILABLE, ApiError
from llm.estimates import is_billable
from llm.record import Record
from llm.request import ClientRequest
from llm.without_bodies import RecordWithoutBodies, wish_of

logger = logging.getLogger(__name__)


class Calls:
    """Serves calls."""

    def __init__(
        self,
        book: Book,
        engine: Engine,
        authenticator: Authenticator,
        keyring: CachedKeyring,
        affinity: Affinity,
        general: GeneralSettings,
        observer: CallObserver,
        stored: StoredResponses,
    ) -> None:
        self._book = book
        self._engine = engine
        self._authenticator = authenticator
        self._keyring = keyring
        self._affinity = affinity
        self._general = general
        self._stored = stored if general.serve_from_book else None
        self._max_request_bytes = general.max_request_bytes
        self._observer = observer
        self._body_timeout_s = general.body_timeout_s

    async def serve(self, scope: Scope, receive: Receive, send: Send, path: str) -> None:
        """Serve one call to its end."""
        began_s = time.monotonic()
        client = AsgiClient(receive, send, None, began_s)
        try:
            headers = headers_of(scope)
            caller, error = await self._who(headers)
            body = b""
            if error is None:
                self._require_ledger()
                body, error = await self._body(receive, dict(headers))
        except ApiFailure as failure:
            await self._turn_away(client, failure.error)
            return
        except ClientGoneError:
            return
        client = AsgiClient(receive, send, call_id := uuid7(), began_s)
        client.key_spend = self._keyring.spend(caller.key_id)
        try:
            record: Record = self._book.begin_call(call_id)
        except LedgerUnavailableError:
            await self._turn_away(client, error or LEDGER_UNAVAILABLE)
            return
        if not keeps_bodies(self._general.store_bodies, caller, wish_of(headers)):
            record = RecordWithoutBodies(record)
        # Of a request that is refused already nothing more is read: `expect: 100-continue` asks for just that.
        watch = asyncio.create_task(client.watch()) if error is None else None
        try:
            await self._serve(scope, path, headers, body, caller, record, client, error)
        except FencedError:
            record.close()
            await self._turn_away(client, LEDGER_UNAVAILABLE)
        except Exception:  # the edge: a fault of this program before the engine took the call
            logger.exception("call %s failed before it was forwarded", call_id)
            record.close()
            await self._turn_away(client, INTERNAL)
        finally:
            if watch is not None:
                watch.cancel()

    async def _who(self, headers: list[tuple[str, str]]) -> tuple[Caller, ApiError | None]:
        """Return whose key it is, and why it is refused, if it is.

        Raises:
            ApiFailure: nobody's.
        """
        try:
            return await self._authenticator.caller(headers), None
        except KeyRefusedError as refused:
            return refused.caller, refused.error

    async def _body(self, receive: Receive, headers: dict[str, str]) -> tuple[bytes, ApiError | None]:
        """Return the body, or why it was not taken.

        Raises:
            ClientGoneError: the client left.
        """
        try:
            return await read_body(receive, headers, self._max_request_bytes, self._body_timeout_s), None
        except ApiFailure as failure:
            return b"", failure.error

    async def _turn_away(self, client: AsgiClient, error: ApiError) -> None:
        """Refuse what did not become a call: nothing tells of it in the book."""
        self._observer.refused(error.status)
        await _refuse(client, error)

    def _require_ledger(self) -> None:
        try:
            self._book.journals.require_available()
        except LedgerUnavailableError as error:
            raise unavailable(f"Nothing can be recorded now, so nothing is forwarded: {error}.") from error

    async def _serve(
        self,
        scope: Scope,
        path: str,
        headers: list[tuple[str, str]],
        body: bytes,
        caller: Caller,
        record: Record,
        client: AsgiClient,
        error: ApiError | None,
    ) -> None:
        method: str = scope["method"]
        facts = received_facts(scope, path, headers, caller, body)
        try:
            _check_not_refused(error)
            check_store_bodies(wish_of(headers))
            request = read_call(scope, path, headers, body, limit_bytes=self._max_request_bytes)
            complete_facts(facts, request, caller, dict(headers))
            require_call(caller, method, scope["path"])
            require_model(request, caller, self._engine.router)
            pinned = await self._affinity.pinned(request, caller)
            await self._note_reading(pinned, request, caller)
        except ApiFailure as failure:
            await _refuse(client, await record_rejected(record, facts, body, failure.error))
            self._observer.ended(rejected_outcome(record.call_id, facts, failure.error, client.elapsed_us()))
            return
        if record.keeps_bodies and not pinned.keeps_bodies:
            # Else reading a response would store what making it was to leave out.
            record = RecordWithoutBodies(record)
        is_noted = pinned.shown_call_id is not None
        stored = None if self._stored is None else self._stored.asked_by(request, caller, is_noted=is_noted)
        call = Call(record, request, client, facts, is_billable(method, path), pinned.deployment, stored)
        # From here on the call stands in the book, and the engine is who ends it, whatever happens.
        await record_received(record, facts, request)
        await self._engine.serve(call)

    async def _note_reading(self, pinned: Pinned, request: ClientRequest, caller: Caller) -> None:
        """Record that another key's response is about to be shown, whether the upstream gives it or the book."""
        if pinned.shown_call_id is not None:
            whose = {pinned.shown_call_id: Reception(pinned.shown_key_id, has_bodies=True)}
            await note_reads(self._book.journals, caller.key_id, whose, shown="response", through=request.path)


def _check_not_refused(error: ApiError | None) -> None:
    if error is not None:
        raise ApiFailure(error)


async def _refuse(client: AsgiClient, error: ApiError) -> None:
    await client.answer(Head(error.status, error.headers()), error.body())
