"""What the book keeps of a call before the engine has it: the facts of `call.received`, and of a refusal.

What a request says is read in `call_reading.py`; what follows is `llm/booking.py`'s.
"""

from typing import Any, Final
from uuid import UUID

from api.asgi_client import Scope
from api.auth import Caller, presented_key
from api.call_reading import MODEL_CHARS_MAX
from api.identity import end_user_of, tags_of_call
from ledger.events import CALL_RECEIVED, CALL_REJECTED
from llm.encodings import EncodingError, decode
from llm.errors import LEDGER_UNAVAILABLE, ApiError
from llm.headers import of_request
from llm.json_text import JsonError
from llm.masking import mask_headers, mask_query, mask_secrets
from llm.outcome import Outcome
from llm.record import Record
from llm.relay import withheld
from llm.request import ClientRequest

_QUERY_CHARS_MAX: Final = 4_096
_LEDGER_WAIT_S: Final = 5.0
#: A refused body that decodes to more than this is withheld rather than searched for secrets.
_REFUSED_BYTES_MAX: Final = 64 * 1024 * 1024


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
        "headers": mask_headers(of_request(headers), key),
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
    facts["model"] = request.model[:MODEL_CHARS_MAX]
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


async def record_rejected(record: Record, facts: dict[str, Any], body: bytes, error: ApiError) -> ApiError:
    """Record a refused call; return what to tell the client: another error where it is not durable in time."""
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
    return error


def rejected_outcome(call_id: UUID, facts: dict[str, Any], error: ApiError, duration_us: int) -> Outcome:
    """Return how a refused call went, for those who count."""
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
        duration_us=duration_us,
    )
