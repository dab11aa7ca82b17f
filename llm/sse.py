"""Server-sent events as bytes: a stream cut into blocks, and what is read from a block.

No I/O, and no byte is changed: the blocks, concatenated, are the stream. A block runs through the blank line that ends
it (WHATWG HTML, 9.2.6); a comment alone is a block. The JSON in a block is not read here: how a call ended is the
business of `llm.terminal`, secrets that of `llm.masking`.
"""

import re

_LINE_END = re.compile(rb"\r\n|\n|\r")
_NOT_LINE_END = re.compile(rb"[^\r\n]")
# A blank line that ends in CR is complete with the LF that may follow, so that "LF CR" waits for the next byte. Lines
# that end in bare CR do not wait, or each block of such a stream would be relayed one block late.
_BLOCK_END = re.compile(rb"\n(?:\n|\r\n|\r(?=[^\n]))|\r\r")
_STRADDLE_BYTES = 2  # longest start of a block's end that a cut can leave behind: "LF CR"

_CR, _LF = b"\r\n"
_EVENT = b"event: "
_BOM = b"\xef\xbb\xbf"


class PartialBlock(bytes):
    """A piece of a block that is larger than the splitter's maximum; only all its pieces together are the block."""

    __slots__ = ()


class BlockSplitter:
    """Cuts a stream into blocks; the cuts depend on the stream alone, never on the pieces in which it arrives.

    - Blank lines beyond the one that ends a block belong to the block that follows.
    - An LF directly after "CR CR" belongs to the block that follows: that block has been handed out already.
    - A block larger than `max_block_bytes` is handed out as `PartialBlock` pieces of that size, the last one shorter:
      bytes flow and memory stays bounded.

    Time is linear in the stream, however small the pieces are.
    """

    __slots__ = ("_cr", "_cut", "_pending", "_scanned", "_started", "max_block_bytes")

    def __init__(self, max_block_bytes: int) -> None:
        if max_block_bytes < 1:
            raise ValueError(f"max_block_bytes must be at least 1, not {max_block_bytes}")
        self.max_block_bytes = max_block_bytes
        self._pending = bytearray()  # the start of a block that has not ended
        self._scanned = 0  # before here no end of the block starts
        self._started = False  # whether the block has a byte that is no line end
        self._cr = False  # whether a CR is pending, so that a search for LF LF is not enough
        self._cut = False  # whether a piece of the block was handed out already

    @property
    def pending_bytes(self) -> int:
        """Bytes fed and not handed out yet; at most `max_block_bytes` + 2."""
        return len(self._pending)

    def feed(self, data: bytes) -> list[bytes]:
        """Take the next bytes of the stream and return the blocks that they complete, in order."""
        if not self._pending and len(data) <= self.max_block_bytes and _CR not in data:
            if _is_one_block(data):
                return [data]
            pieces = data.split(b"\n\n")
            rest = pieces.pop()
            if b"" not in pieces:
                if rest:
                    self._keep(rest)
                return [piece + b"\n\n" for piece in pieces]
        return self._feed_any(data)

    def close(self) -> bytes:
        """The rest that no blank line ends, b"" if there is none; the splitter is then as new."""
        rest = bytes(self._pending)
        self._pending.clear()
        self._scanned, self._started, self._cr, self._cut = 0, False, False, False
        return rest

    def _keep(self, rest: bytes) -> None:
        """Start a block with LF-only bytes that hold no end of it."""
        self._pending += rest
        self._started = rest != b"\n"
        self._scanned = max(0, len(rest) - _STRADDLE_BYTES) if self._started else len(rest)

    def _feed_any(self, data: bytes) -> list[bytes]:
        pending = self._pending
        pending += data
        self._cr = self._cr or _CR in data
        blocks: list[bytes] = []
        taken = 0
        while (end := self._find_end()) is not None:
            self._hand_out(memoryview(pending)[taken:end], blocks, complete=True)
            taken = self._scanned = end
            self._started = self._cut = False
        if taken:
            del pending[:taken]
            self._scanned -= taken
            self._cr = self._cr and _CR in pending
        if len(pending) >= self.max_block_bytes + _STRADDLE_BYTES + 1:
            whole = (len(pending) - _STRADDLE_BYTES - 1) // self.max_block_bytes * self.max_block_bytes
            self._hand_out(memoryview(pending)[:whole], blocks, complete=False)
            del pending[:whole]
            self._scanned -= whole
            self._cut = True
        return blocks

    def _find_end(self) -> int | None:
        """The position behind the end of the block under way, from `_scanned` on; moves `_scanned`."""
        pending = self._pending
        if not self._started:
            first = _NOT_LINE_END.search(pending, self._scanned)
            if first is None:
                self._scanned = len(pending)
                return None
            self._started = True
            self._scanned = first.start()
        if self._cr:
            match = _BLOCK_END.search(pending, self._scanned)
            end = -1 if match is None else match.end()
        else:
            end = pending.find(b"\n\n", self._scanned) + 2
            end = -1 if end == 1 else end
        if end >= 0:
            return end
        self._scanned = max(self._scanned, len(pending) - _STRADDLE_BYTES)
        return None

    def _hand_out(self, piece: memoryview, blocks: list[bytes], *, complete: bool) -> None:
        if complete and not self._cut and len(piece) <= self.max_block_bytes:
            blocks.append(bytes(piece))
        else:
            size = self.max_block_bytes
            blocks += [PartialBlock(piece[at : at + size]) for at in range(0, len(piece), size)]
        piece.release()


def _is_one_block(data: bytes) -> bool:
    """Whether LF-only bytes are one block of two lines, as the usual read is; false where more must be looked at.

    A search for one byte costs a tenth of a search for two.
    """
    first = data.find(_LF)
    if first <= 0:
        return False
    second = data.find(_LF, first + 1)
    return second > first + 1 and second == len(data) - 2 and data[-1] == _LF


def event_name(block: bytes) -> str | None:
    """The value of the block's last `event:` field; None without one or with an empty one (a "message")."""
    if block.startswith(_EVENT) and _CR not in block:
        end = block.find(b"\n")
        if end >= 0 and block.find(b"\nevent", end) < 0:
            return block[len(_EVENT) : end].decode("utf-8", "replace") or None
    values = [block[start:end] for start, end in _field_spans(block, b"event")]
    return (values[-1].decode("utf-8", "replace") or None) if values else None


def data(block: bytes) -> bytes:
    """The values of the block's `data:` fields, joined by LF; b"" without one."""
    return b"\n".join([block[start:end] for start, end in data_spans(block)])


def data_spans(block: bytes) -> list[tuple[int, int]]:
    """Where the values of the block's `data:` fields lie, in order; `data` joins them by one byte."""
    return _field_spans(block, b"data")


def _field_spans(block: bytes, name: bytes) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    cr = _CR in block
    start = len(_BOM) if block.startswith(_BOM) else 0
    while start < len(block):
        end, following = _line_end(block, start, cr=cr)
        if block.startswith(name, start):
            value = start + len(name)
            if value == end:
                spans.append((end, end))  # a field name alone: an empty value
            elif block[value] == ord(":"):
                value += 1
                spans.append((value + 1 if block[value : value + 1] == b" " and value < end else value, end))
        start = following
    return spans


def _line_end(block: bytes, start: int, *, cr: bool) -> tuple[int, int]:
    """Where the line that starts at `start` ends, without and with its line end."""
    if not cr:  # many times faster on a terminal event, whose one line can be megabytes
        end = block.find(b"\n", start)
        return (len(block), len(block)) if end < 0 else (end, end + 1)
    match = _LINE_END.search(block, start)
    return (len(block), len(block)) if match is None else match.span()
