"""Reading JSON bytes strictly, whatever a client or an upstream sends.

Every JSON text of the engine is read here: bounded in depth, exact in numbers, and failing with `JsonError` only, where
the standard library also knows RecursionError, UnicodeDecodeError and a limit on digits. Editing JSON by spans is the
neighbour `llm.json_spans`.
"""

import itertools
import json
import re
from typing import Any, NoReturn

import orjson

DEPTH_MAX = 256
"""Deepest nesting of arrays and objects that is read; later code may recurse over a value without a guard."""

_BOM = b"\xef\xbb\xbf"
# Possessive, and matching an unterminated string up to the end: nothing is tried twice, whatever the input.
_STRING = re.compile(rb'"[^"]*+"?')
_NO_STRUCTURE = bytes(set(range(256)) - set(b'[]{}"'))
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")


class JsonError(ValueError):
    """The bytes are not a JSON text that can be read; says where and why."""

    def __init__(self, reason: str, position: int | None = None) -> None:
        self.reason = reason
        self.position = position
        """Byte offset of the fault, counted in the body as it came; None where no single byte is at fault."""
        super().__init__(reason if position is None else f"{reason} (at byte {position})")


class NumberText(str):
    """A number kept as the text that was sent: 1.10 stays 1.10, and an integer of a million digits stays harmless."""

    __slots__ = ()


def refuse_constant(name: str) -> NoReturn:
    """Refuse NaN, Infinity and -Infinity, which Python reads and JSON (RFC 8259) does not know.

    Raises:
        JsonError: always.
    """
    raise JsonError(f"{name} is not a JSON value; use null or a number")


_DECODER = json.JSONDecoder(parse_float=NumberText, parse_constant=refuse_constant)


def _integer(text: str) -> int | NumberText:
    return int(text) if len(text) <= _DIGITS_MAX else NumberText(text)


# int() refuses more than 4,300 digits with a ValueError; the text then stands for the number. A parser of our own is
# slower for every integer, so that it is only used when the first pass has met such a number.
_DIGITS_MAX = 640
_TOLERANT_DECODER = json.JSONDecoder(parse_float=NumberText, parse_int=_integer, parse_constant=refuse_constant)


def utf8(body: bytes) -> str:
    """Decode a JSON body, without its byte order mark.

    Raises:
        JsonError: it is not UTF-8 (RFC 8259, section 8.1); UTF-16 and UTF-32 are named as such.
    """
    check_not_utf16(body)
    start = len(_BOM) if body.startswith(_BOM) else 0
    try:
        return body[start:].decode("utf-8")
    except UnicodeDecodeError as error:
        raise JsonError(f"the body is not valid UTF-8: {error.reason}", start + error.start) from None


def bom_bytes(body: bytes) -> int:
    """Length of the UTF-8 byte order mark before the text: 3 or 0."""
    return len(_BOM) if body.startswith(_BOM) else 0


def check_not_utf16(body: bytes) -> None:
    """Refuse a body in UTF-16 or UTF-32, recognised by its mark or by a NUL among the first two bytes (RFC 4627, 3).

    Raises:
        JsonError: it is one of them.
    """
    if body[:2] in {b"\xff\xfe", b"\xfe\xff"} or 0 in body[:2]:
        raise JsonError("the body looks like UTF-16 or UTF-32, send UTF-8", 0)


def check_depth(body: bytes) -> None:
    """Refuse a body nested deeper than `DEPTH_MAX`, in linear time and without recursion.

    Most bodies have fewer brackets than that in all and cost two counts. Strings are dropped before brackets are
    counted, so that text full of brackets is no nesting. Of a body that is no JSON the depth found may be wrong.

    Raises:
        JsonError: it is nested deeper.
    """
    if body.count(b"[") + body.count(b"{") <= DEPTH_MAX:
        return
    if b"\\" in body:  # without escaped backslashes and quotes, every quote that is left delimits a string
        body = body.replace(b"\\\\", b"").replace(b'\\"', b"")
    brackets = _STRING.sub(b"", body.translate(None, _NO_STRUCTURE)).translate(_STEPS)
    depth = max(itertools.accumulate(memoryview(brackets).cast("b")), default=0)
    if depth > DEPTH_MAX:
        raise JsonError(f"the body is nested {depth} deep, the limit is {DEPTH_MAX}")


def read_json(body: bytes) -> Any:
    """The value of a JSON text. Fractions are `NumberText`, integers int; of a duplicate key the last value counts.

    Raises:
        JsonError: not UTF-8, not JSON, nested too deep, or followed by something else.
    """
    check_depth(body)
    text = utf8(body)
    try:
        try:
            return _DECODER.decode(text)
        except (json.JSONDecodeError, JsonError):
            raise
        except ValueError:
            return _TOLERANT_DECODER.decode(text)
    except json.JSONDecodeError as error:
        position = bom_bytes(body) + len(text[: error.pos].encode())
        raise JsonError(f"the body is not valid JSON: {error.msg}", position) from None
    except RecursionError:
        # The caller's own stack was nearly used up: the depth itself is within the limit.
        raise JsonError("the body is nested too deep to be read here") from None


def read_json_quickly(body: bytes) -> Any:
    """The same value, but fractions as float and whole numbers beyond 64 bits too; in a third of the time.

    For answers, of which only texts and whole numbers are read. What orjson refuses, `read_json` judges.

    Raises:
        JsonError: as `read_json`.
    """
    check_depth(body)
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return read_json(body)
