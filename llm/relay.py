"""Brings an upstream's answer to the client and into the book: chunk by chunk, or whole.

What it sees it notes in the `Attempt`; how the attempt ended and what it costs is booked by `engine.py`. Here the
promises about chunks are kept: recorded in order, the end held back, nothing relayed while the book is not written.
"""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from typing import Final

from ledger.errors import FencedError
from ledger.events import CHUNK_RECEIVED, PART_BYTES_MAX
from llm.attempt import Attempt, Call
from llm.encodings import Decoder, EncodingError, UnsupportedEncoding, codings
from llm.errors import STREAM_CUT
from llm.headers import find
from llm.json_text import JsonError
from llm.masking import key_bytes, mask_block
from llm.record import Record
from llm.sse import BlockSplitter, PartialBlock
from llm.terminal import is_plain, read_terminal
from llm.upstream import UpstreamAnswer, UpstreamError

#: A block up to this size is one chunk, whatever the pieces; a larger one is relayed and recorded in parts.
BLOCK_BYTES_MAX: Final = 16 * 1024 * 1024
#: How long the upstream may keep a stream open after its terminal event.
LINGER_S: Final = 1.0
_SUCCESS: Final = range(200, 300)
_NAME_BYTES_MAX: Final = 96
_HEAD_BLOCKS: Final = 3
_ESTIMATE_BYTES_MAX: Final = 8 * 1024 * 1024
_DECODED_BYTES_MAX: Final = 1024 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class RelaySettings:
    """The promises' knobs; times in seconds."""

    every_chunk: bool = False
    ledger_wait_s: float = 30.0
    max_answer_bytes: int = 256 * 1024 * 1024


class StreamRelay:
    """Relays one stream."""

    def __init__(self, call: Call, attempt: Attempt, settings: RelaySettings) -> None:
        self._call = call
        self._attempt = attempt
        self._settings = settings
        self._splitter = BlockSplitter(BLOCK_BYTES_MAX)
        self._key = key_bytes(attempt.deployment.api_key)
        #: The upstream's head has been passed on.
        self.has_begun = False
        #: The call's journal was taken over in the middle.
        self.is_fenced = False

    async def run(self, answer: UpstreamAnswer) -> None:
        """Relay until the upstream ends or breaks off; what is still held then is in `attempt.held`.

        A journal that is taken over meanwhile is noted in `is_fenced`: the client is cut off, the upstream read on.
        """
        coding = find(answer.headers, "content-encoding")
        relay = self._coded(coding) if is_coded(coding) else self._plain
        # A bound that is set once the terminal event has been seen: until then the upstream's own bounds hold.
        linger = asyncio.timeout(None)
        try:
            async with linger:
                async for piece in answer.pieces():
                    await relay(piece)
                    if self._attempt.terminal is not None and linger.when() is None:
                        linger.reschedule(asyncio.get_running_loop().time() + LINGER_S)
        except UpstreamError:
            self._attempt.is_cut = self._attempt.terminal is None
        except TimeoutError:
            if not linger.expired():
                raise
        rest = self._splitter.close()
        if rest and is_coded(coding):
            self._look([rest])
        elif rest:
            await self._take([rest])

    async def _plain(self, piece: bytes) -> None:
        blocks = self._splitter.feed(piece)
        if blocks:
            await self._take(blocks)

    async def _take(self, blocks: list[bytes]) -> None:
        if self.is_fenced:
            self._look(blocks)
            return
        before = self._attempt.chunks
        try:
            await self._record(blocks)
        except FencedError:
            # The record is closed. The upstream is read on all the same: its usage settles what recovery had to guess.
            self.is_fenced = True
            self._look(blocks[self._attempt.chunks - before :])
            await self._cut_off()

    def _look(self, blocks: list[bytes]) -> None:
        for block in blocks:
            self._attempt.terminal = read_terminal(block) or self._attempt.terminal
            self._keep(block)

    async def _record(self, blocks: list[bytes]) -> None:
        attempt, record = self._attempt, self._call.record
        if attempt.first_chunk_us is None:
            attempt.first_chunk_us = self._call.elapsed_us()
        ready: list[bytes] = []
        key = self._key
        for block in blocks:
            if attempt.terminal is None:
                if _is_text_delta(block) and len(block) <= PART_BYTES_MAX and not (key and key in block):
                    # Nearly every block: it ends nothing, and none of its members can hold a tool's secret.
                    ready.append(block)
                    record.chunk(block)
                    self._count(block)
                    continue
                attempt.terminal = read_terminal(block)
            else:
                # `error` may be followed by `response.failed`, which says more.
                later = read_terminal(block)
                if later is not None and later.response is not None:
                    attempt.terminal = later
            (ready if attempt.terminal is None else attempt.held).append(block)
            await record_chunk(record, block, attempt.deployment.api_key)
            self._count(block)
        if ready:
            await self._forward(b"".join(ready) if len(ready) > 1 else ready[0])

    def _repeats_key(self, text: bytes) -> bool:
        return bool(self._key) and self._key in text

    def _count(self, block: bytes) -> None:
        self._attempt.chunks += 1
        self._attempt.answer_bytes += len(block)
        self._keep(block)

    def _keep(self, block: bytes) -> None:
        attempt = self._attempt
        if len(attempt.head_blocks) < _HEAD_BLOCKS:
            attempt.head_blocks.append(block)
        if attempt.blocks is not None:
            attempt.blocks_bytes += len(block)
            if attempt.blocks_bytes > _ESTIMATE_BYTES_MAX:
                attempt.blocks = None
            else:
                attempt.blocks.append(block)

    async def _forward(self, data: bytes) -> None:
        if not self._attempt.is_cut_off and not await self._is_recorded():
            await self._cut_off()
        if not self._attempt.is_cut_off:
            await self._call.client.send(data)
            return
        # Nobody waits for this stream any more: it is read on as far as the buffer has room.
        while not self._call.record.has_room:
            await self._call.record.wait_for_room(self._settings.ledger_wait_s)

    async def _is_recorded(self) -> bool:
        """Wait until what has come may be relayed, at most `ledger_wait_s`; return whether it may."""
        record = self._call.record
        if self._settings.every_chunk:
            return await record.wait_for(self._settings.ledger_wait_s)
        if record.has_room and not record.is_stalled:
            return True
        return await record.wait_for_room(self._settings.ledger_wait_s)

    async def _cut_off(self) -> None:
        """Tell the client that it gets no more of this stream, and why."""
        if not self._attempt.is_cut_off:
            self._attempt.is_cut_off = True
            await self._call.client.send(STREAM_CUT.event(self._attempt.chunks))
            await self._call.client.end()

    def _coded(self, coding: str) -> Callable[[bytes], Awaitable[None]]:
        """Return a relay for a stream that comes compressed although none was asked for.

        It is relayed and recorded as it came, piece by piece; the blocks are only looked at. Where the request held
        secrets that the answer may echo, and where a piece cannot be decoded, it is withheld from the book.
        """
        decoder = None
        with suppress(UnsupportedEncoding):  # then nothing can be seen of its end, and it counts as truncated
            decoder = Decoder(coding, _DECODED_BYTES_MAX)
        #: What was decoded last, as far as the deployment's key may have begun there.
        tail = b""

        async def relay(piece: bytes) -> None:
            nonlocal decoder, tail
            decoded = b""
            try:
                decoded = b"" if decoder is None else decoder.feed(piece)
            except EncodingError:
                decoder = None  # what follows has no beginning
            self._look(self._splitter.feed(decoded))
            seen = tail + decoded
            tail = seen[1 - len(self._key) :] if self._key else b""
            if not self.is_fenced:
                may_hold_secret = decoder is None or self._repeats_key(seen)
                await self._pass_on_coded(piece, coding, may_hold_secret=may_hold_secret)

        return relay

    async def _pass_on_coded(self, piece: bytes, coding: str, *, may_hold_secret: bool) -> None:
        attempt, record = self._attempt, self._call.record
        if attempt.first_chunk_us is None:
            attempt.first_chunk_us = self._call.elapsed_us()
        facts = {"content_encoding": coding[:64]}
        try:
            is_echo = bool(self._call.received.get("masked")) or not self._call.is_billable
            if record.keeps_bodies and (is_echo or may_hold_secret):
                # An answer that is read again may echo what an earlier request held.
                record.append(CHUNK_RECEIVED, {**facts, **withheld(piece)}, b"")
            else:
                await record.append_large(CHUNK_RECEIVED, facts, piece)
        except FencedError:
            self.is_fenced = True
            await self._cut_off()
            return
        attempt.chunks += 1
        attempt.answer_bytes += len(piece)
        if attempt.terminal is None:
            await self._forward(piece)
        else:
            attempt.held.append(piece)


def is_event_stream(answer: UpstreamAnswer) -> bool:
    """Tell whether an answer is to be relayed chunk by chunk."""
    return answer.status in _SUCCESS and find(answer.headers, "content-type").lower().startswith("text/event-stream")


def is_coded(coding: str) -> bool:
    """Tell whether a body is coded at all; an unknown coding counts."""
    try:
        return bool(codings(coding))
    except EncodingError:
        return True


def _is_text_delta(block: bytes) -> bool:
    """Tell whether a block is one event line with a delta's name, one data line, and nothing else."""
    return block.find(b".delta\n", 7, _NAME_BYTES_MAX) > 0 and is_plain(block)


async def record_chunk(record: Record, block: bytes, key: str = "") -> None:
    """Enqueue a `chunk.received` for a block, with its secrets masked; a block that may hold one unread is withheld."""
    if not record.keeps_bodies:
        record.chunk(block)
        return
    try:
        stored, masked = mask_block(block, key)
    except JsonError:
        record.append(CHUNK_RECEIVED, withheld(block), b"")
        return
    if not masked and type(block) is bytes and len(block) <= PART_BYTES_MAX:
        record.chunk(block)
        return
    facts: dict[str, object] = {}
    if masked:
        facts["masked"] = masked
    if isinstance(block, PartialBlock):
        facts["partial"] = True
    await record.append_large(CHUNK_RECEIVED, facts, bytes(stored))


def withheld(body: bytes) -> dict[str, object]:
    """Return the facts that stand for bytes which must not be stored."""
    return {"withheld_bytes": len(body), "withheld_sha256": sha256(body).hexdigest()}
