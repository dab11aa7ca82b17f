"""A plain answer: read whole from the upstream, decoded to be judged, recorded as it came.

Streams are relayed chunk by chunk in `relay.py`; what a plain answer means for call and cost is said in `ending.py`.
"""

from dataclasses import dataclass
from typing import Any, Final

from ledger.events import BODY_RECEIVED
from llm.encodings import EncodingError, decode
from llm.headers import find
from llm.json_text import JsonError
from llm.masking import mask_secrets
from llm.record import Record
from llm.relay import is_coded, withheld
from llm.upstream import UpstreamAnswer, UpstreamError

_DECODED_FACTOR_MAX: Final = 4


@dataclass(frozen=True, slots=True)
class PlainAnswer:
    """An answer and its body: `raw` as it came, `decoded` without content coding, None where that failed."""

    answer: UpstreamAnswer
    raw: bytes
    decoded: bytes | None
    #: The content coding, "" for none.
    coding: str


async def read_plain(answer: UpstreamAnswer, max_bytes: int) -> PlainAnswer:
    """Read a plain answer.

    Raises:
        UpstreamError: it broke off, or is larger than `max_bytes`.
    """
    pieces: list[bytes] = []
    size = 0
    async for piece in answer.pieces():
        size += len(piece)
        if size > max_bytes:
            raise UpstreamError("too_large", f"its answer is larger than {max_bytes} bytes", sent=True)
        pieces.append(piece)
    raw = b"".join(pieces) if len(pieces) != 1 else pieces[0]
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
        masked_body, masked = mask_secrets(plain.raw if plain.decoded is None else plain.decoded, key=key)
    except JsonError:
        stored, facts = b"", {**facts, **withheld(plain.raw)}
    else:
        if masked:
            stored, facts = masked_body, {**facts, "masked": masked, "decoded": bool(plain.coding)}
    await record.append_large(BODY_RECEIVED, facts, stored)
