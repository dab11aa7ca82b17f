"""The splitter against a state machine that reads one byte at a time, and against itself under every cut."""

from hypothesis import example, given, settings
from hypothesis import strategies as st

from llm.sse import BlockSplitter, PartialBlock

STREAMS = st.lists(
    st.sampled_from([b"\n", b"\r", b"\r\n", b"\n\n", b":", b"d", b"data: a", b"\xef\xbb\xbf"]), max_size=14
)


def blocks_by_definition(stream: bytes) -> list[bytes]:
    """The blocks and the rest, from the definition: no search, no buffer, the whole stream at once."""
    blocks: list[bytes] = []
    start = position = 0
    content = False  # the block has a line that is not blank
    line_has_bytes = False
    previous_end = b""
    while position < len(stream):
        byte = stream[position : position + 1]
        position += 1
        if byte not in {b"\r", b"\n"}:
            line_has_bytes = content = True
            continue
        waits = byte == b"\r" and (line_has_bytes or previous_end != b"\r")
        line_end = byte
        if waits and stream[position : position + 1] == b"\n":
            position += 1
            line_end = b"\r\n"
        elif waits and not line_has_bytes and position == len(stream):
            break  # the next byte may be the LF of this CR
        if content and not line_has_bytes:
            blocks.append(stream[start:position])
            start, content = position, False
        line_has_bytes, previous_end = False, line_end
    return [*blocks, stream[start:]]


def split(pieces: list[bytes], max_block_bytes: int = 1_000) -> list[bytes]:
    splitter = BlockSplitter(max_block_bytes)
    blocks = [block for piece in pieces for block in splitter.feed(piece)]
    assert splitter.pending_bytes <= max_block_bytes + 2
    return [*blocks, splitter.close()]


@settings(deadline=None)
@given(STREAMS)
@example([b"data: a", b"\r\n", b"\r", b"\n"])
@example([b"d", b"\r", b"\r", b"\n", b"d", b"\n\n"])
@example([b"\n\n", b"\n", b"d", b"\n\n"])
def test_splitter_under_every_cut_gives_the_blocks_of_the_definition(parts: list[bytes]) -> None:
    stream = b"".join(parts)
    expected = blocks_by_definition(stream)
    assert b"".join(expected) == stream
    assert split([stream]) == expected
    assert split([stream[i : i + 1] for i in range(len(stream))]) == expected
    for first in range(len(stream) + 1):
        for second in range(first, len(stream) + 1):
            assert split([stream[:first], stream[first:second], stream[second:]]) == expected


@settings(deadline=None)
@given(STREAMS, st.integers(1, 6))
def test_splitter_with_oversized_blocks_cuts_the_same_under_every_cut(parts: list[bytes], max_bytes: int) -> None:
    stream = b"".join(parts)
    expected = split([stream], max_bytes)
    assert b"".join(expected) == stream
    assert split([stream[i : i + 1] for i in range(len(stream))], max_bytes) == expected
    for cut in range(len(stream) + 1):
        assert split([stream[:cut], stream[cut:]], max_bytes) == expected
    *blocks, rest = expected
    assert all(len(block) <= max_bytes for block in blocks)
    assert len(rest) <= max_bytes + 2


@settings(deadline=None)
@given(STREAMS, st.integers(1, 6))
def test_splitter_with_oversized_blocks_flags_their_pieces_only(parts: list[bytes], max_bytes: int) -> None:
    stream = b"".join(parts)
    *blocks, rest = split([stream], max_bytes)
    *whole, whole_rest = blocks_by_definition(stream)
    expected: list[tuple[bytes, bool]] = []
    for block in whole:
        pieces = [block[at : at + max_bytes] for at in range(0, len(block), max_bytes)]
        expected += [(piece, len(pieces) > 1) for piece in pieces]
    complete = len(expected)
    assert [(bytes(block), isinstance(block, PartialBlock)) for block in blocks[:complete]] == expected
    assert all(isinstance(block, PartialBlock) and len(block) == max_bytes for block in blocks[complete:])
    assert b"".join(blocks[complete:]) + rest == whole_rest
