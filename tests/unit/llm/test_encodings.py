"""Content codings: bombs, cuts and lies first, then the round trip."""

import gzip
import zlib
from collections.abc import Callable

import brotli
import pytest
import zstandard

from llm.encodings import (
    ACCEPTED,
    BadEncoding,
    BodyTooLarge,
    Decoder,
    UnsupportedEncoding,
    codings,
    decode,
    narrow_accept_encoding,
)

MIB = 1024 * 1024


def raw_deflate(data: bytes) -> bytes:
    compressor = zlib.compressobj(wbits=-15)
    return compressor.compress(data) + compressor.flush()


def zstd(data: bytes) -> bytes:
    return zstandard.ZstdCompressor().compress(data)


def feed_in_pieces(decoder: Decoder, body: bytes) -> bytes:
    return b"".join([decoder.feed(body[start : start + 100]) for start in range(0, len(body), 100)])


ENCODERS: list[tuple[str, Callable[[bytes], bytes]]] = [
    ("gzip", gzip.compress),
    ("x-gzip", gzip.compress),
    ("br", brotli.compress),
    ("zstd", zstd),
    ("deflate", zlib.compress),
    ("deflate", raw_deflate),
]


@pytest.mark.parametrize(("coding", "encode"), ENCODERS)
def test_decode_of_a_bomb_stops_at_the_limit(coding: str, encode: Callable[[bytes], bytes]) -> None:
    bomb = encode(bytes(64 * MIB))
    with pytest.raises(BodyTooLarge, match=f"larger than {MIB} bytes"):
        decode(bomb, coding, MIB)
    with pytest.raises(BodyTooLarge):
        feed_in_pieces(Decoder(coding, MIB), bomb)


def test_decode_of_stacked_bombs_stops_at_the_limit() -> None:
    bomb = gzip.compress(gzip.compress(gzip.compress(bytes(512 * MIB), 9), 9), 9)
    with pytest.raises(BodyTooLarge):
        decode(bomb, "gzip, gzip, gzip", MIB)
    with pytest.raises(BodyTooLarge):
        decode(gzip.compress(bytes(64 * MIB)), "br, gzip", MIB)


@pytest.mark.parametrize(("coding", "encode"), ENCODERS)
def test_decode_at_the_limit_is_whole_and_one_byte_more_is_refused(
    coding: str, encode: Callable[[bytes], bytes]
) -> None:
    body = b"ab" * 50_000
    assert decode(encode(body), coding, len(body)) == body
    with pytest.raises(BodyTooLarge):
        decode(encode(body), coding, len(body) - 1)


@pytest.mark.parametrize(("coding", "encode"), ENCODERS)
def test_decode_of_a_cut_body_is_refused(coding: str, encode: Callable[[bytes], bytes]) -> None:
    whole = encode(b'{"input": "story"}' * 10)
    for cut in range(1, len(whole)):
        with pytest.raises(BadEncoding):
            decode(whole[:cut], coding, MIB)


@pytest.mark.parametrize("coding", ["gzip", "br", "zstd", "deflate"])
def test_decode_of_a_body_that_is_not_encoded_is_refused(coding: str) -> None:
    with pytest.raises(BadEncoding, match=f"not valid {coding}"):
        decode(b'{"input": "story"}', coding, MIB)


@pytest.mark.parametrize(("coding", "encode"), ENCODERS)
def test_decode_with_bytes_behind_the_end_is_refused(coding: str, encode: Callable[[bytes], bytes]) -> None:
    with pytest.raises(BadEncoding):
        decode(encode(b"body") + b"tail", coding, MIB)


def test_decode_of_plain_bytes_keeps_the_object_and_the_limit() -> None:
    body = b"x" * 10
    assert decode(body, None, 10) is body
    assert decode(body, "identity", 10) == body
    with pytest.raises(BodyTooLarge):
        decode(body, None, 9)


@pytest.mark.parametrize(("coding", "encode"), ENCODERS)
def test_decode_of_an_empty_body_is_empty(coding: str, encode: Callable[[bytes], bytes]) -> None:
    assert decode(b"", coding, 0) == b""
    assert decode(encode(b""), coding, 0) == b""


@pytest.mark.parametrize("name", ["compress", "gzip, compress", "*", "gzip;q=1", "gzip, gzip, gzip, gzip"])
def test_codings_that_we_cannot_read_are_refused_by_name(name: str) -> None:
    with pytest.raises(UnsupportedEncoding, match="send one of: gzip, br, zstd, deflate, identity"):
        codings(name)


def test_decode_of_several_members_reads_all() -> None:
    assert decode(gzip.compress(b"a") + gzip.compress(b"b"), "gzip", 2) == b"ab"
    assert decode(zstd(b"a" * 500) + zstd(b"b" * 500), "zstd", 1_000) == b"a" * 500 + b"b" * 500


def test_decoder_fed_bytewise_gives_what_has_arrived() -> None:
    for coding, encode in ENCODERS:
        decoder = Decoder(f"gzip, {coding}", MIB)
        body = b"event: a\n\n" * 100
        encoded = encode(gzip.compress(body))
        assert b"".join(decoder.feed(encoded[i : i + 1]) for i in range(len(encoded))) == body
        decoder.finish()


@pytest.mark.parametrize(
    ("client", "expected"),
    [
        (None, "identity"),
        ("", "identity"),
        ("gzip, deflate, br", "gzip, br, deflate"),
        ("GZIP ; Q=0.5 , br", "br, gzip;q=0.5"),
        ("compress, br;q=0", "identity"),
        ("*", ACCEPTED),
        ("*;q=0.1, gzip;q=0", "br;q=0.1, zstd;q=0.1, deflate;q=0.1"),
        ("identity", "identity"),
        ("x-gzip", "gzip"),
        ("gzip;q=nan, br;q=7, zstd;q=0.123", "zstd;q=0.123"),
    ],
)
def test_narrow_accept_encoding_keeps_what_both_can_read(client: str | None, expected: str) -> None:
    assert narrow_accept_encoding(client) == expected
