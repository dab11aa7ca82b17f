"""Content codings: reading compressed bodies without being blown up by them.

A body is stored and relayed as it came; it is decoded only to be read. Output is bounded at every step, so that a small
body that unpacks to gigabytes costs no more than the limit. The header that asks the upstream for what can be read here
is made here as well.
"""

import re
import zlib
from dataclasses import dataclass
from typing import Any, Protocol

import brotli
import zstandard

ACCEPTED = "gzip, br, zstd, deflate"
"""What can be decoded, in order of preference: the value of an `accept-encoding` header."""

_CODINGS = tuple(ACCEPTED.split(", "))
_ALIASES = {"x-gzip": "gzip"}
_STACK_MAX = 3
# RFC 9659 bounds the window of zstd as a content coding to 8 MiB.
_ZSTD_WINDOW_BYTES_MAX = 8 * 1024 * 1024
# zstandard knows no bound of its own for the output of a call. Four bytes of input make at most one block of 128 KiB,
# so that a step this small overshoots a limit by 4 MiB at most.
_ZSTD_STEP_BYTES = 128
_FRAMING_BYTES = 4096
_ZLIB_HEADER_BYTES = 2
_Q_VALUE = re.compile(r"(?:0(?:\.\d{0,3})?|1(?:\.0{0,3})?)")


class EncodingError(ValueError):
    """A content coding that cannot be read.

    EncodingError
     +-- UnsupportedEncoding    we have no decoder: 415 to a client
     +-- BadEncoding            the bytes are not what the header says: 400 to a client
     +-- BodyTooLarge           more than the limit once decoded: 413 to a client
    """


class UnsupportedEncoding(EncodingError):  # noqa: N818 - the tree's root says that it is an error
    """No decoder for this content coding."""

    def __init__(self, coding: str) -> None:
        self.coding = coding
        super().__init__(f"content-encoding {coding!r} is not supported; send one of: {ACCEPTED}, identity")


class BadEncoding(EncodingError):  # noqa: N818 - the tree's root says that it is an error
    """The bytes are not a complete body in the content coding that the header names."""

    def __init__(self, coding: str, reason: str) -> None:
        self.coding = coding
        super().__init__(f"the body is not valid {coding}: {reason}")


class BodyTooLarge(EncodingError):  # noqa: N818 - the tree's root says that it is an error
    """The decoded body is larger than the limit."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(f"the body is larger than {limit_bytes} bytes once decoded")


class Decoder:
    """Decodes a streamed body piece by piece.

    Args:
        content_encoding: the header's value; several codings in the order applied; None or "" is identity.
        limit_bytes: most bytes that may come out in all.

    Raises:
        UnsupportedEncoding: a coding is unknown, or more than three are stacked.
    """

    __slots__ = ("_layers", "limit_bytes")

    def __init__(self, content_encoding: str | None, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        names = codings(content_encoding)
        # What lies between two codings is compressed still: larger than the body by framing only, never by a factor.
        limits = [limit_bytes, *[2 * limit_bytes + _FRAMING_BYTES] * (len(names) - 1)]
        self._layers = [_Layer(_STEPS[name](), limit) for name, limit in zip(names, limits, strict=False)][::-1]
        if not names:
            self._layers = [_Layer(_Identity(), limit_bytes)]

    def feed(self, data: bytes) -> bytes:
        """The decoded bytes that these bytes complete; may be b"".

        Raises:
            BadEncoding: the bytes are not in the coding.
            BodyTooLarge: more than `limit_bytes` in all; nothing of this piece is returned.
        """
        for layer in self._layers:
            data = layer.step.feed(data, layer.room_bytes)
            layer.room_bytes -= len(data)
            if layer.room_bytes < 0:
                raise BodyTooLarge(self.limit_bytes)
        return data

    def finish(self) -> None:
        """Say that the body has ended.

        Raises:
            BadEncoding: it is cut off.
        """
        for layer in self._layers:
            layer.step.finish()


def decode(body: bytes, content_encoding: str | None, limit_bytes: int) -> bytes:
    """The decoded body; the same object where no coding is named.

    Raises:
        UnsupportedEncoding, BadEncoding, BodyTooLarge: see there.
    """
    decoder = Decoder(content_encoding, limit_bytes)
    decoded = decoder.feed(body)
    decoder.finish()
    return decoded


def codings(content_encoding: str | None) -> list[str]:
    """The codings that a `content-encoding` header names, in the order applied, without identity.

    Raises:
        UnsupportedEncoding: one is unknown, or more than three are stacked.
    """
    names = [name.strip().lower() for name in (content_encoding or "").split(",")]
    names = [_ALIASES.get(name, name) for name in names if name not in {"", "identity"}]
    for name in names:
        if name not in _STEPS:
            raise UnsupportedEncoding(name)
    if len(names) > _STACK_MAX:
        raise UnsupportedEncoding(", ".join(names))
    return names


def narrow_accept_encoding(client_value: str | None) -> str:
    """The `accept-encoding` to send upstream: what the client accepts and we can read, with the client's weights.

    A client that sends no such header gets identity: it may take anything by RFC 9110, but many cannot. `*` stands for
    every coding of `ACCEPTED` that is not named. Where nothing is left, "identity".
    """
    weights: dict[str, float] = {}
    for item in (client_value or "").lower().split(","):
        name, _, parameters = item.partition(";")
        name = name.strip()
        if name:
            weights.setdefault(_ALIASES.get(name, name), _weight(parameters))
    rest = weights.get("*", 0.0)
    wanted = [(name, weights.get(name, rest)) for name in _CODINGS]
    wanted = sorted((pair for pair in wanted if pair[1] > 0), key=lambda pair: -pair[1])
    if not wanted:
        return "identity"
    return ", ".join(name if weight == 1 else f"{name};q={weight:g}" for name, weight in wanted)


def _weight(parameters: str) -> float:
    """The q of an item; 1 without one, 0 for one that is not readable: then the coding is not asked for."""
    name, _, value = parameters.partition("=")
    if name.strip() != "q":
        return 1.0
    return float(value) if _Q_VALUE.fullmatch(value := value.strip()) else 0.0


class _Step(Protocol):
    """Undoes one coding; stops soon after `room_bytes` have come out of a call: the body is too large by then."""

    def feed(self, data: bytes, room_bytes: int) -> bytes: ...

    def finish(self) -> None: ...


@dataclass(slots=True)
class _Layer:
    step: _Step
    room_bytes: int  # what may still come out; below 0 the body is too large


class _Identity:
    def feed(self, data: bytes, room_bytes: int) -> bytes:  # noqa: ARG002 - the caller counts
        return data

    def finish(self) -> None:
        """Nothing can be missing."""


class _Gzip:
    """gzip, also of several members (RFC 1952, 2.2)."""

    _coding = "gzip"

    def __init__(self) -> None:
        self._decompressor: Any = None

    def feed(self, data: bytes, room_bytes: int) -> bytes:
        pieces: list[bytes] = []
        while data and room_bytes >= 0:
            if self._decompressor is None or self._decompressor.eof:
                self._decompressor = self._open(data)
            try:
                # One byte more than there is room for tells a body that is too large from one that fits exactly.
                piece: bytes = self._decompressor.decompress(data, room_bytes + 1)
            except zlib.error as error:
                raise BadEncoding(self._coding, str(error)) from None
            pieces.append(piece)
            room_bytes -= len(piece)
            data = self._decompressor.unused_data or self._decompressor.unconsumed_tail
        return b"".join(pieces)

    def finish(self) -> None:
        if self._decompressor is not None and not self._decompressor.eof:
            raise BadEncoding(self._coding, "it is cut off")

    def _open(self, data: bytes) -> Any:  # noqa: ARG002 - deflate looks at the data
        return zlib.decompressobj(zlib.MAX_WBITS | 16)


class _Deflate(_Gzip):
    """deflate: zlib's format as RFC 9110, 8.4.1.2 says, or without its header, as some servers send it."""

    _coding = "deflate"

    def __init__(self) -> None:
        super().__init__()
        self._first = b""

    def feed(self, data: bytes, room_bytes: int) -> bytes:
        if self._decompressor is None:
            data = self._first + data
            self._first = data if len(data) < _ZLIB_HEADER_BYTES else b""
            data = b"" if self._first else data
        return super().feed(data, room_bytes)

    def finish(self) -> None:
        if self._first:
            raise BadEncoding(self._coding, "it is cut off")
        super().finish()

    def _open(self, data: bytes) -> Any:
        if self._decompressor is not None:
            raise BadEncoding(self._coding, "bytes follow its end")
        # RFC 1950, 2.2: method 8, and both bytes together a multiple of 31.
        has_header = data[0] & 15 == zlib.DEFLATED and (data[0] << 8 | data[1]) % 31 == 0
        return zlib.decompressobj(zlib.MAX_WBITS if has_header else -zlib.MAX_WBITS)


class _Brotli:
    """br; bytes behind its end are a fault."""

    def __init__(self) -> None:
        self._decompressor: Any = brotli.Decompressor()
        self._begun = False

    def feed(self, data: bytes, room_bytes: int) -> bytes:
        self._begun = self._begun or bool(data)
        pieces: list[bytes] = []
        try:
            while room_bytes >= 0 and (data or not self._decompressor.can_accept_more_data()):
                piece: bytes = self._decompressor.process(data, output_buffer_limit=room_bytes + 1)
                pieces.append(piece)
                room_bytes -= len(piece)
                data = b""
        except brotli.error as error:
            raise BadEncoding("br", str(error)) from None
        return b"".join(pieces)

    def finish(self) -> None:
        if self._begun and not self._decompressor.is_finished():
            raise BadEncoding("br", "it is cut off")


class _Zstd:
    """zstd, also of several frames (RFC 8878, 3)."""

    def __init__(self) -> None:
        self._decompressor: Any = None

    def feed(self, data: bytes, room_bytes: int) -> bytes:
        pieces: list[bytes] = []
        for start in range(0, len(data), _ZSTD_STEP_BYTES):
            rest = data[start : start + _ZSTD_STEP_BYTES]
            while rest and room_bytes >= 0:
                if self._decompressor is None or self._decompressor.eof:
                    self._decompressor = zstandard.ZstdDecompressor(
                        max_window_size=_ZSTD_WINDOW_BYTES_MAX
                    ).decompressobj()
                try:
                    piece: bytes = self._decompressor.decompress(rest)
                except zstandard.ZstdError as error:
                    raise BadEncoding("zstd", str(error)) from None
                pieces.append(piece)
                room_bytes -= len(piece)
                rest: bytes = self._decompressor.unused_data
        return b"".join(pieces)

    def finish(self) -> None:
        if self._decompressor is not None and not self._decompressor.eof:
            raise BadEncoding("zstd", "it is cut off")


_STEPS: dict[str, type[_Gzip | _Brotli | _Zstd]] = {
    "gzip": _Gzip,
    "br": _Brotli,
    "zstd": _Zstd,
    "deflate": _Deflate,
}
