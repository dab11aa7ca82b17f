r"""Makes facts storable: one total encoder, run before an event enters the buffer.

One value that Postgres refuses (NUL, a lone surrogate, NaN, an endless number) would fail the whole COPY, with
everybody's events. So whatever comes in, what comes out is canonical JSON that jsonb takes and gives back unchanged:
sorted keys, no white space, no floats, integers of at most 64 bits. What had to be altered is said: the fact `altered`
is then true. The exact bytes of a call are in the bodies, which are never touched.
"""

import json
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from ledger.events import FACTS_BYTES_MAX

_INTEGER_MAX: Final = 2**63 - 1
_DEPTH_MAX: Final = 16
_MEMBERS_MAX: Final = 1_000
#: Longest string kept whole once facts have turned out too large; halved until they fit.
_STRING_CHARS_WHEN_CUT: Final = 2_048
_ALTERED: Final = "altered"
_UNSTORABLE_CHARACTERS: Final = re.compile("[\x00\ud800-\udfff]")

_encode = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def encode_facts(facts: Mapping[str, Any]) -> bytes:
    """Return `facts` as canonical JSON of at most FACTS_BYTES_MAX bytes; total: it raises for nothing."""
    if _is_plain(facts, 0):
        try:
            text = _encode(facts)
            encoded = text.encode()
        except (UnicodeEncodeError, TypeError, ValueError):
            return _encode_altered(facts)
        # A NUL is written as this escape; so is a backslash followed by u0000, which the careful path then keeps.
        if len(encoded) <= FACTS_BYTES_MAX and "\\u0000" not in text:
            return encoded
    return _encode_altered(facts)


def canonical(facts: Any) -> bytes:
    """Return facts that were read back from jsonb in the form that was hashed when they were appended."""
    return _encode(facts).encode()


def plain_decimal(value: Decimal) -> str:
    """Return money or a quantity in plain notation: 0.0000025, never 2.5E-6."""
    return format(value, "f")


def rfc3339(at: datetime) -> str:
    """Return an aware time in UTC with microseconds and Z.

    Raises:
        ValueError: the time is naive.
    """
    if at.tzinfo is None:
        raise ValueError(f"a naive time has no meaning in the book: {at!r}")
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _is_plain(value: Any, depth: int) -> bool:
    """Tell whether a value needs no care at all; strings are judged after encoding."""
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return True
    if kind is int:
        return -_INTEGER_MAX <= value <= _INTEGER_MAX
    if depth > _DEPTH_MAX:
        return False
    if kind is dict:
        return all(type(key) is str and _is_plain(member, depth + 1) for key, member in value.items())
    if kind is list or kind is tuple:
        return all(_is_plain(member, depth + 1) for member in value)
    return False


def _encode_altered(facts: Mapping[str, Any]) -> bytes:
    longest = None
    while True:
        careful = _Careful(longest)
        made = careful.mapping(facts, 0)
        if careful.altered:
            made[_ALTERED] = True
        encoded = _encode(made).encode()
        if len(encoded) <= FACTS_BYTES_MAX:
            return encoded
        longest = _STRING_CHARS_WHEN_CUT if longest is None else longest // 2
        if longest == 0:
            return _encode({_ALTERED: True, "cut": "facts larger than the maximum even without their strings"}).encode()


class _Careful:
    """Rewrites values until they are storable, and remembers whether any was altered."""

    def __init__(self, string_chars_max: int | None) -> None:
        self.altered = False
        self._longest = string_chars_max

    def value(self, value: Any, depth: int) -> Any:  # noqa: PLR0911 - one return a kind of value
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self.string(value)
        if isinstance(value, int):
            return self._integer(int(value))
        if isinstance(value, Decimal):
            return plain_decimal(value) if value.is_finite() else str(value)
        if isinstance(value, datetime) and value.tzinfo is not None:
            return rfc3339(value)
        if isinstance(value, UUID):
            return str(value)
        if depth > _DEPTH_MAX:
            self.altered = True
            return f"[{type(value).__name__} nested deeper than {_DEPTH_MAX}]"
        if isinstance(value, Mapping):
            return self.mapping(value, depth)
        if isinstance(value, list | tuple | set | frozenset):
            return self._sequence(list(value), depth)
        self.altered = True
        return self.string(repr(value))

    def mapping(self, mapping: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for number, (key, member) in enumerate(mapping.items()):
            if number == _MEMBERS_MAX:
                self.altered = True
                break
            made[self.string(key if isinstance(key, str) else repr(key))] = self.value(member, depth + 1)
        return made

    def _sequence(self, members: list[Any], depth: int) -> list[Any]:
        if len(members) > _MEMBERS_MAX:
            self.altered = True
        return [self.value(member, depth + 1) for member in members[:_MEMBERS_MAX]]

    def _integer(self, value: int) -> int | str:
        if -_INTEGER_MAX <= value <= _INTEGER_MAX:
            return value
        self.altered = True
        return f"[integer of {value.bit_length()} bits]"

    def string(self, text: str) -> str:
        text = str(text)
        if _UNSTORABLE_CHARACTERS.search(text):
            self.altered = True
            text = _UNSTORABLE_CHARACTERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
        if self._longest is not None and len(text) > self._longest:
            self.altered = True
            text = f"{text[: self._longest]}[cut, {len(text)} characters]"
        return text
