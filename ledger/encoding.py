r"""Makes facts storable: one total encoder, run before an event enters the buffer.

One value that Postgres refuses (NUL, a lone surrogate, NaN, an endless number) would fail the whole COPY, with
everybody's events. So whatever comes in, what comes out is canonical JSON that jsonb takes and gives back unchanged:
sorted keys, no white space, no floats, integers of at most 64 bits. What had to be altered is said: the fact `altered`
is then true. The exact bytes of a call are in the bodies, which are never touched.
"""

import json
import re
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import islice
from typing import Any, Final
from uuid import UUID

import orjson

from ledger.events import FACTS_BYTES_MAX

_INTEGER_MAX: Final = 2**63 - 1
_DEPTH_MAX: Final = 16
_MEMBERS_MAX: Final = 1_000
#: Values in all, nested ones too: more cannot fit into FACTS_BYTES_MAX, since each takes two bytes with its comma.
_VALUES_MAX: Final = FACTS_BYTES_MAX // 2
#: A Decimal beyond this many digits before or after the point is not written out: 1E+999999999 would fill the memory.
_EXPONENT_MAX: Final = 1_000
#: Longest string kept whole once facts have turned out too large; halved until they fit.
_STRING_CHARS_WHEN_CUT: Final = 2_048
#: What is kept of facts that are too large without their strings: less than the maximum, escapes and all.
_ESSENTIAL_FACTS_MAX: Final = 24
_ESSENTIAL_CHARS_MAX: Final = 40
_ALTERED: Final = "altered"
_UNSTORABLE_CHARACTERS: Final = re.compile("[\x00\ud800-\udfff]")

_LEAVES: Final = frozenset({str, bool, type(None), int})
_CONTAINERS: Final = frozenset({dict, list, tuple})
#: Integers beyond 53 bits are left to the slower encoder, and so is what orjson would find a form of its own for.
_FAST: Final = (
    orjson.OPT_SORT_KEYS
    | orjson.OPT_STRICT_INTEGER
    | orjson.OPT_PASSTHROUGH_SUBCLASS
    | orjson.OPT_PASSTHROUGH_DATETIME
    | orjson.OPT_PASSTHROUGH_DATACLASS
)
_encode: Final = json.JSONEncoder(sort_keys=True, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def encode_facts(facts: Mapping[str, Any]) -> bytes:
    """Return `facts` as canonical JSON of at most FACTS_BYTES_MAX bytes; total: it raises for nothing."""
    if _is_plain(facts):
        try:
            encoded = orjson.dumps(facts, option=_FAST)
        except TypeError:
            return _encode_altered(facts)
        # A NUL is written as this escape; so is a backslash followed by u0000, which the careful path then keeps.
        if len(encoded) <= FACTS_BYTES_MAX and b"\\u0000" not in encoded:
            return encoded
    return _encode_altered(facts)


def canonical(facts: Any) -> bytes:
    """Return facts that were read back from jsonb in the form that was hashed when they were appended."""
    return _encode(facts).encode()


def is_storable(text: str) -> bool:
    """Tell whether Postgres can hold a text as it is: no NUL, no half of a surrogate pair."""
    return _UNSTORABLE_CHARACTERS.search(text) is None


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
    # Not strftime, whose %Y writes the year 1 as "1".
    return at.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def _is_plain(facts: Any) -> bool:
    """Tell whether facts need no care at all; strings, names and the size of integers are judged by the encoder.

    Level by level rather than by recursion, with every test in line: this runs for each event.
    """
    left = _VALUES_MAX
    level = [facts]
    for _ in range(_DEPTH_MAX + 1):
        deeper: list[Any] = []
        for container in level:
            left -= len(container)
            if left < 0:
                return False
            for member in container.values() if type(container) is dict else container:
                kind = type(member)
                if kind in _LEAVES:
                    continue
                if kind not in _CONTAINERS:
                    return False
                deeper.append(member)
        if not deeper:
            return True
        level = deeper
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
            return _encode(_essence(facts)).encode()


def _essence(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Return what is left of facts that are too large even without their strings: the first few that are not nested."""
    careful = _Careful(_ESSENTIAL_CHARS_MAX)
    flat = [(name, value) for name, value in facts.items() if isinstance(value, str | int | None)]
    made = careful.mapping(dict(flat[:_ESSENTIAL_FACTS_MAX]), 0)
    return {**made, _ALTERED: True, "cut": "facts larger than the maximum even without their strings"}


class _Careful:
    """Rewrites values until they are storable, and remembers whether any was altered."""

    def __init__(self, string_chars_max: int | None) -> None:
        self.altered = False
        self._longest = string_chars_max
        self._left = _VALUES_MAX

    def value(self, value: Any, depth: int) -> Any:
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            return self.string(value)
        if isinstance(value, int):
            return self._integer(value)
        if isinstance(value, Mapping | list | tuple | set | frozenset):
            return self._nested(value, depth)
        return self._scalar(value)

    def mapping(self, mapping: Mapping[Any, Any], depth: int) -> dict[str, Any]:
        made: dict[str, Any] = {}
        for key, member in self._first(mapping.items(), len(mapping)):
            if isinstance(key, str):
                name = self.string(key)
            else:
                self.altered = True
                name = str(self.value(key, _DEPTH_MAX + 1))
            made[name] = self.value(member, depth + 1)
        return made

    def _nested(self, value: Any, depth: int) -> Any:
        if depth > _DEPTH_MAX:
            self.altered = True
            return f"[{type(value).__name__} nested deeper than {_DEPTH_MAX}]"
        if isinstance(value, Mapping):
            return self.mapping(value, depth)
        return [self.value(member, depth + 1) for member in self._first(value, len(value))]

    def _first(self, members: Iterable[Any], count: int) -> Iterable[Any]:
        """Yield as many members as may stand here: what nests shares one allowance, or shared parts would multiply."""
        for member in islice(members, _MEMBERS_MAX):
            if self._left == 0:
                self.altered = True
                return
            self._left -= 1
            yield member
        if count > _MEMBERS_MAX:
            self.altered = True

    def _scalar(self, value: Any) -> str:
        """Write what JSON has no kind for. Money, times and ids have a form of their own; the rest is altered."""
        if isinstance(value, UUID):
            return str(value)
        if isinstance(value, Decimal):
            if value.is_finite() and -_EXPONENT_MAX <= value.adjusted() <= _EXPONENT_MAX:
                return self.string(plain_decimal(value))
        elif isinstance(value, datetime):
            try:
                return rfc3339(value)
            except (ValueError, OverflowError):
                pass  # naive, or out of the calendar once it is in UTC
        self.altered = True
        return self.string(_described(value))

    def _integer(self, value: int) -> int | str:
        if -_INTEGER_MAX <= value <= _INTEGER_MAX:
            return int(value)
        self.altered = True
        return f"[integer of {value.bit_length()} bits]"

    def string(self, text: str) -> str:
        text = str.__str__(text)
        if not is_storable(text):
            self.altered = True
            text = _UNSTORABLE_CHARACTERS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)
        if self._longest is not None and len(text) > self._longest:
            self.altered = True
            text = f"{text[: self._longest]}[cut, {len(text)} characters]"
        return text


def _described(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return float.__repr__(value)
    if isinstance(value, bytes):
        return bytes.__repr__(value)
    # Its repr would be somebody else's code: it may raise, and may hold what does not belong into the book.
    return f"[{type(value).__name__}]"
