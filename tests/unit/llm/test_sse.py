"""Blocks of a stream: what is read from one, and recorded streams under every cut."""

import pytest

from llm.sse import BlockSplitter, PartialBlock, data, event_name
from tests.support.corpus import recorded_rows

MIB = 1024 * 1024


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"])
def test_splitter_with_a_crlf_cut_in_two_makes_no_extra_block(line_end: bytes) -> None:
    stream = line_end.join([b"event: a", b"data: 1", b"", b"data: 2", b"", b""])
    whole = BlockSplitter(MIB)
    blocks = [*whole.feed(stream), whole.close()]
    bytewise = BlockSplitter(MIB)
    assert [block for i in range(len(stream)) for block in bytewise.feed(stream[i : i + 1])] == blocks[:-1]
    assert [data(block) for block in blocks] == [b"1", b"2", b""]


@pytest.mark.parametrize("line_end", [b"\n", b"\r", b"\r\n"])
def test_splitter_at_the_blank_line_hands_out_the_block_at_once(line_end: bytes) -> None:
    block = b"data: 1" + line_end * 2
    assert BlockSplitter(MIB).feed(block) == [block]


def test_splitter_without_a_blank_line_returns_the_rest_at_close() -> None:
    splitter = BlockSplitter(MIB)
    assert splitter.feed(b"data: 1\n\ndata: 2\n") == [b"data: 1\n\n"]
    assert splitter.pending_bytes == len(b"data: 2\n")
    assert splitter.close() == b"data: 2\n"
    assert splitter.close() == b""
    assert splitter.feed(b"data: 3\n\n") == [b"data: 3\n\n"]


def test_splitter_with_extra_blank_lines_gives_them_to_the_following_block() -> None:
    splitter = BlockSplitter(MIB)
    assert splitter.feed(b"\n\ndata: 1\n\n\n\n: ping\n\n") == [b"\n\ndata: 1\n\n", b"\n\n: ping\n\n"]


def test_splitter_with_an_oversized_block_hands_out_flagged_pieces_as_they_come() -> None:
    splitter = BlockSplitter(10)
    early = splitter.feed(b"data: " + b"x" * 30)
    assert early
    assert all(isinstance(piece, PartialBlock) and len(piece) == 10 for piece in early)
    late = splitter.feed(b"\n\ndata: y\n\n")
    assert b"".join([*early, *late]) == b"data: " + b"x" * 30 + b"\n\ndata: y\n\n"
    assert [isinstance(block, PartialBlock) for block in late] == [True, False]


def test_splitter_with_no_room_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 1, not 0"):
        BlockSplitter(0)


def test_splitter_fed_a_large_block_in_small_pieces_stays_linear() -> None:
    # 100,000 pieces of 10 bytes: a search from the start each time would look at 50 GB and outlast the test's timeout.
    block = b"data: " + b"x" * MIB + b"\r\n\r\n"
    splitter = BlockSplitter(16 * MIB)
    blocks = [found for i in range(0, len(block), 10) for found in splitter.feed(block[i : i + 10])]
    assert blocks == [block]


@pytest.mark.parametrize(
    ("block", "name"),
    [
        (b"event: error\ndata: {}\n\n", "error"),
        (b"event:error\r\ndata: {}\r\n\r\n", "error"),
        (b"\xef\xbb\xbfevent: a\n\n", "a"),
        (b"\n\nevent: a\n\n", "a"),
        (b"event: a\nevent: b\n\n", "b"),
        (b"event: a\rdata: x\revent: b\r\r", "b"),
        (b"event: \ndata: x\n\n", None),
        (b"event\ndata: x\n\n", None),
        (b"events: a\n\n", None),
        (b"data: event: a\n\n", None),
        (b": event: a\n\n", None),
        (b"event: a", "a"),
        (b"", None),
        (b"event: \xff\n\n", "\ufffd"),
    ],
)
def test_event_name_of_a_block_is_its_last_event_field(block: bytes, name: str | None) -> None:
    assert event_name(block) == name


@pytest.mark.parametrize(
    ("block", "expected"),
    [
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"data:a\r\ndata\r\ndata:  b\r\n\r\n", b"a\n\n b"),
        (b"database: a\ndata: b\n\n", b"b"),
        (b"data:\n\n", b""),
        (b"data: \n\n", b""),
        (b": data: a\n\n", b""),
        (b"\xef\xbb\xbfdata: a", b"a"),
    ],
)
def test_data_of_a_block_joins_its_fields(block: bytes, expected: bytes) -> None:
    assert data(block) == expected


@pytest.mark.corpus
def test_splitter_under_every_cut_of_recorded_streams_gives_the_same_blocks() -> None:
    streams = sorted({row.response_body.encode() for row in recorded_rows() if row.stream}, key=len)[:20]
    assert len(streams) == 20
    cuts = 0
    for stream in streams:
        expected = [block + b"\n\n" for block in stream.split(b"\n\n")[:-1]]
        assert b"".join(expected) == stream
        assert len(expected) >= 3
        for cut in range(len(stream) + 1):
            splitter = BlockSplitter(MIB)
            assert splitter.feed(stream[:cut]) + splitter.feed(stream[cut:]) == expected
            assert splitter.close() == b""
            cuts += 1
    assert cuts > 20_000
