"""A plain answer: read whole from the upstream, decoded to be judged, recorded as it came.

Streams are relayed chunk by chunk in `relay.py`; what a plain answer means for call and cost is said in `ending.py`.
"""

from typing import Any, Final, NamedTuple

from ledger.events import BODY_RECEIVED
from llm.attempt import Attempt
from llm.encodings import Decoder, EncodingError, decode
from llm.headers import find
from llm.json_text import JsonError
from llm.masking import mask_secrets, may_hold_secret
from llm.record import Record
from llm.relay import is_coded, withheld
from llm.upstream import UpstreamAnswer, UpstreamError

_DECODED_FACTOR_MAX: Final = 4
_LOOK_BYTES_MIN: Final = 1024 * 1024


class PlainAnswer(NamedTuple):
    """An answer and its body: `raw` as it came, `decoded` without content coding, None where that failed."""

    answer: UpstreamAnswer
    raw: bytes
    decoded: bytes | None
    #: The content coding, "" for none.
    coding: str


async def read_plain(answer: UpstreamAnswer, max_bytes: int, pieces: list[bytes]) -> PlainAnswer:
    """Read a plain answer; where it breaks off, what had come is in `pieces`, which is empty otherwise.

    Raises:
        UpstreamError: it broke off, or is larger than `max_bytes`.
    """
    size = 0
    async for piece in answer.pieces():
        size += len(piece)
        if size > max_bytes:
            raise UpstreamError("too_large", f"its answer is larger than {max_bytes} bytes", sent=True)
        pieces.append(piece)
    raw = b"".join(pieces) if len(pieces) != 1 else pieces[0]
    pieces.clear()
    coding = find(answer.headers, "content-encoding")
    if not is_coded(coding):
        return PlainAnswer(answer, raw, raw, "")
    try:
        return PlainAnswer(answer, raw, decode(raw, coding, max_bytes * _DECODED_FACTOR_MAX), coding)
    except EncodingError:
        return PlainAnswer(answer, raw, None, coding)


async def record_body(record: Record, attempt: int, plain: PlainAnswer, key: str = "") -> None:
    """Enqueue `body.received`: the bytes as they came, unless secrets had to be masked in them.

    Raises:
        FencedError: the journal was taken over.
    """
    stored = plain.raw
    facts: dict[str, Any] = {"attempt": attempt}
    if not record.keeps_bodies:
        record.append(BODY_RECEIVED, facts, stored)
        return
    try:
        masked_body, masked = mask_secrets(_looked_into(plain), key=key)
    except JsonError:
        stored, facts = b"", {**facts, **withheld(plain.raw)}
    else:
        if masked:
            stored, facts = masked_body, {**facts, "masked": masked, "decoded": bool(plain.coding)}
    await record.append_large(BODY_RECEIVED, facts, stored)


def _looked_into(plain: PlainAnswer) -> bytes:
    if plain.decoded is None:
        # Whoever can decode it, or as much of it as came, might find a secret.
        raise JsonError("in a content coding that could not be undone")
    return plain.decoded


async def record_part(record: Record, attempt: Attempt) -> None:
    """Enqueue `body.received` with what came of a plain answer before it broke off, if anything did.

    A part of a JSON text cannot be searched for secrets: where it may hold one, or cannot be looked into, only its
    length and hash are kept.

    Raises:
        FencedError: the journal was taken over.
    """
    raw = b"".join(attempt.pieces)
    attempt.pieces.clear()
    if not raw or attempt.answer is None:
        return
    attempt.answer_bytes = len(raw)
    facts: dict[str, Any] = {"attempt": attempt.number, "partial": True}
    try:
        coding = find(attempt.answer.headers, "content-encoding")
        decoded = Decoder(coding, len(raw) * _DECODED_FACTOR_MAX + _LOOK_BYTES_MIN).feed(raw)
        is_withheld = may_hold_secret(decoded, attempt.deployment.api_key)
    except EncodingError:
        is_withheld = True
    if is_withheld and record.keeps_bodies:
        raw, facts = b"", {**facts, **withheld(raw)}
    await record.append_large(BODY_RECEIVED, facts, raw)
