"""The hot route: `/responses` and what lies below it, from ASGI to the engine, without a framework in between.

Reads and admits a call, writes `call.received`, hands over to `llm.engine`. What is refused after its key is known is
in the book too, as `call.rejected`.
"""

import asyncio
import logging
import re
import time
from typing import Any, Final
from uuid import UUID

from uuid_utils.compat import uuid7

from api.affinity import Affinity, Pinned
from api.asgi_client import AsgiClient, ClientGoneError, Receive, Scope, Send, headers_of, read_body
from api.audit import note_reads
from api.auth import Authenticator, Caller, KeyRefusedError, presented_key, require_call
from api.book import Book
from api.config_settings import GeneralSettings
from api.errors import ApiFailure, bad_request, unavailable, wrong_method
from api.identity import end_user_of, tags_of_call
from api.keyring import CachedKeyring
from api.observing import CallObserver
from api.stored_responses import StoredResponses
from ledger.errors import FencedError, LedgerUnavailableError
from ledger.events import CALL_RECEIVED, CALL_REJECTED
from ledger.reports.events import Reception
from llm.attempt import Call
from llm.client import Head
from llm.encodings import BodyTooLarge, EncodingError, UnsupportedEncoding, decode
from llm.engine import Engine
from llm.errors import INTERNAL, LEDGER_UNAVAILABLE, ApiError
from llm.estimates import is_billable
from llm.headers import as_json, is_json, of_request
from llm.json_text import JsonError
from llm.masking import mask_query, mask_secrets, mask_text
from llm.outcome import Outcome
from llm.record import Record
from llm.relay import withheld
from llm.request import ClientRequest, read_client_request
from llm.without_bodies import STORE_BODIES, STORE_BODIES_HEADER, RecordWithoutBodies, wish_of

logger = logging.getLogger(__name__)

PREFIXES: Final = ("/openai/v1", "/v1", "")
_NEEDS_JSON: Final = frozenset({"/responses", "/responses/compact", "/responses/input_tokens"})
#: What the API takes at a path, and at every other one below /responses.
_METHODS: Final = dict.fromkeys(_NEEDS_JSON, ("POST",))
_METHODS_BELOW: Final = ("GET", "POST", "DELETE")
_QUERY_CHARS_MAX: Final = 4_096
_MODEL_CHARS_MAX: Final = 256
_LEDGER_WAIT_S: Final = 5.0
#: A refused body that decodes to more than this is withheld rather than searched for secrets.
_REFUSED_BYTES_MAX: Final = 64 * 1024 * 1024


#: What may lie below /responses. Anything else (dots that lead upwards, a question mark, an escaped slash) would
#: be another path at the upstream than the one whose owner was checked here.
_PATH: Final = re.compile(r"/responses(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9_.:~-]{1,512}){0,4}/?")


def path_of_call(path: str) -> str | None:
    """Return the path of a call below its prefix (`/responses...`); None for a path that is no call."""
    for prefix in PREFIXES:
        if path.startswith(prefix) and _PATH.fullmatch(rest := path[len(prefix) :]):
            return rest.rstrip("/")
    return None


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
            _check_store_bodies(wish_of(headers))
            request = self._read(method, path, scope, headers, body)
            complete_facts(facts, request, caller, dict(headers))
            require_call(caller, method, scope["path"])
            self._admit(request, caller)
            pinned = await self._affinity.pinned(request, caller)
            await self._note_reading(pinned, request, caller)
        except ApiFailure as failure:
            await _reject(record, client, facts, body, failure.error)
            self._observer.ended(_rejected(call_id=record.call_id, facts=facts, error=failure.error, client=client))
            return
        if record.keeps_bodies and not pinned.keeps_bodies:
            # Else reading a response would store what making it was to leave out.
            record = RecordWithoutBodies(record)
        await record_received(record, facts, request)
        is_noted = pinned.shown_call_id is not None
        stored = None if self._stored is None else self._stored.asked_by(request, caller, is_noted=is_noted)
        call = Call(record, request, client, facts, is_billable(method, path), pinned.deployment, stored)
        await self._engine.serve(call)

    async def _note_reading(self, pinned: Pinned, request: ClientRequest, caller: Caller) -> None:
        """Record that another key's response is about to be shown, whether the upstream gives it or the book."""
        if pinned.shown_call_id is not None:
            whose = {pinned.shown_call_id: Reception(pinned.shown_key_id, has_bodies=True)}
            await note_reads(self._book.journals, caller.key_id, whose, shown="response", through=request.path)

    def _read(self, method: str, path: str, scope: Scope, headers: list[tuple[str, str]], body: bytes) -> ClientRequest:
        allowed = _METHODS.get(path, _METHODS_BELOW)
        if method not in allowed:
            raise ApiFailure(wrong_method(method, path, allowed))
        needs_json = method == "POST" and path in _NEEDS_JSON
        try:
            return read_client_request(
                method,
                path,
                scope.get("query_string", b"").decode("latin-1"),
                as_json(headers) if needs_json else headers,
                body,
                limit_bytes=self._max_request_bytes,
                needs_json=needs_json,
            )
        except JsonError as error:
            hint = "" if is_json(headers) else " Send it with content-type: application/json."
            raise bad_request(f"We could not parse the JSON body of your request: {error}.{hint}") from error
        except BodyTooLarge as error:
            raise ApiFailure(ApiError(413, f"{error}.", code="request_too_large")) from error
        except UnsupportedEncoding as error:
            raise ApiFailure(ApiError(415, f"{error}.", code="unsupported_content_encoding")) from error
        except EncodingError as error:
            raise bad_request(f"The request body is not what its content-encoding says: {error}.") from error

    def _admit(self, request: ClientRequest, caller: Caller) -> None:
        """Check that the model is served and the key may use it."""
        if request.method != "POST" or request.path not in _NEEDS_JSON:
            return
        model = request.member("model")
        if not isinstance(model, str) or not model:
            raise bad_request("Missing required parameter: 'model'.", param="model", code="missing_required_parameter")
        if len(model) > _MODEL_CHARS_MAX:
            raise bad_request("The model's name is too long.", param="model", code="model_not_found")
        if not self._engine.router.has(model) or (caller.models and model not in caller.models):
            served = [name for name in self._engine.router.model_names if not caller.models or name in caller.models]
            shown = model if model.isprintable() else ascii(model)[1:-1]
            message = f"The requested model '{shown}' does not exist. Served here: {', '.join(served[:50])}."
            raise bad_request(message, param="model", code="model_not_found")


def keeps_bodies(configured: str, caller: Caller, wish: str | None) -> bool:
    """Tell whether a call's bodies are stored: only if neither config nor key nor header (`wish`) says otherwise.

    A header that cannot be read counts as a wish not to have them stored; the call is then refused.
    """
    return configured != "none" and caller.store_bodies != "none" and wish in {None, "all"}


def _check_not_refused(error: ApiError | None) -> None:
    if error is not None:
        raise ApiFailure(error)


def _check_store_bodies(wish: str | None) -> None:
    if wish is not None and wish not in STORE_BODIES:
        message = f"{STORE_BODIES_HEADER} takes {' or '.join(STORE_BODIES)}: got {wish[:40]!r}."
        raise bad_request(message, param=STORE_BODIES_HEADER)


def received_facts(
    scope: Scope, path: str, headers: list[tuple[str, str]], caller: Caller, body: bytes
) -> dict[str, Any]:
    """Return what is known of a call before its body is read."""
    address = scope.get("client")
    given = dict(headers)
    key = presented_key(headers)
    retry = given.get("x-stainless-retry-count", "")
    return {
        "method": scope["method"],
        "path": path,
        "query": mask_query(scope.get("query_string", b"").decode("latin-1"), key)[:_QUERY_CHARS_MAX],
        "headers": [[name, mask_text(value, key)] for name, value in of_request(headers)],
        "key_id": caller.key_id,
        "key_alias": caller.key_alias,
        "org": caller.org,
        "team": caller.team,
        "user": caller.user,
        "end_user": caller.end_user,
        "tags": sorted(caller.tags),
        "model": "",
        "stream": False,
        "client_address": address[0] if address else "",
        "client_retry": int(retry) if retry.isdecimal() and len(retry) < 4 else None,  # noqa: PLR2004 - a small count
        "content_encoding": given.get("content-encoding", "")[:64],
        "body_bytes": len(body),
        "parts": 1,
    }


def complete_facts(facts: dict[str, Any], request: ClientRequest, caller: Caller, headers: dict[str, str]) -> None:
    """Add to the facts of `call.received` what the request's body says: model, stream, end user, tags.

    Raises:
        ApiFailure: too many tags, or a name that is too long.
    """
    facts["model"] = request.model[:_MODEL_CHARS_MAX]
    facts["stream"] = request.is_stream
    facts["end_user"] = end_user_of(caller, headers, request.members)
    facts["tags"] = tags_of_call(caller, headers, request.members)


async def record_received(record: Record, facts: dict[str, Any], request: ClientRequest) -> None:
    """Enqueue `call.received` with the request's bytes, secrets masked."""
    stored = request.raw_body
    if record.keeps_bodies:
        try:
            masked_body, masked = mask_secrets(request.body, request.members)
        except JsonError:
            # No JSON was needed here, and none came; what it may hold cannot be seen.
            stored, masked_body, masked = b"", b"", 0
            facts.update(withheld(request.raw_body))
        if masked:
            facts["masked"] = masked
            facts["content_encoding"] = ""
            stored = masked_body
    await record.append_large(CALL_RECEIVED, facts, stored)


async def _reject(record: Record, client: AsgiClient, facts: dict[str, Any], body: bytes, error: ApiError) -> None:
    """Record a refused call, and refuse it."""
    stored = body
    if record.keeps_bodies:
        try:
            plain = decode(body, facts["content_encoding"], _REFUSED_BYTES_MAX)
            masked_body, masked = mask_secrets(plain)
            if masked:
                stored, facts = masked_body, {**facts, "masked": masked, "content_encoding": ""}
        except (JsonError, EncodingError):
            stored, facts = b"", {**facts, **withheld(body)}
    await record.append_large(CALL_RECEIVED, facts, stored)
    rejected = {"status": error.status, "error": error.facts(), "reason": error.code or "invalid_request"}
    record.append(CALL_REJECTED, rejected, error.body())
    if not await record.wait_for(_LEDGER_WAIT_S):
        error = LEDGER_UNAVAILABLE
    record.close()
    await _refuse(client, error)


def _rejected(*, call_id: UUID, facts: dict[str, Any], error: ApiError, client: AsgiClient) -> Outcome:
    return Outcome(
        call_id=call_id,
        key_id=facts["key_id"],
        model=facts["model"],
        deployment_id="",
        is_stream=facts["stream"],
        terminal=CALL_REJECTED,
        status=error.status,
        charge=None,
        attempts=0,
        chunks=0,
        request_bytes=facts["body_bytes"],
        answer_bytes=0,
        first_chunk_us=None,
        upstream_us=0,
        duration_us=client.elapsed_us(),
    )


async def _refuse(client: AsgiClient, error: ApiError) -> None:
    await client.answer(Head(error.status, error.headers()), error.body())
