"""Values that somebody might put into facts: everything that JSON, Python and the wicked have, nested at will."""

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any
from uuid import UUID

from hypothesis import strategies as st

#: Any code point, NUL and lone surrogates among them.
TEXT = st.text(st.characters(), max_size=40)

PLAIN_SCALARS = st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | st.text(max_size=30)
SAFE_TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=30)

SCALARS = (
    PLAIN_SCALARS
    | TEXT
    | st.integers()
    | st.floats()
    | st.decimals()
    | st.binary(max_size=40)
    | st.datetimes()
    | st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=14)), timezone(timedelta(hours=-14))]))
    | st.dates()
    | st.uuids()
    | st.complex_numbers()
    | st.sampled_from([Decimal("1e200000"), Decimal("1E+999999999999999999"), 1 << 9_000, "\\u0000", "\\", object()])
)

NESTED = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=6)
        | st.dictionaries(TEXT, inner, max_size=6)
        | st.dictionaries(st.integers() | st.binary(max_size=5) | st.none(), inner, max_size=3)
        | st.tuples(inner, inner)
        | st.frozensets(st.text(max_size=3) | st.integers(), max_size=3)
    ),
    max_leaves=30,
)
FACTS = st.dictionaries(TEXT, NESTED, max_size=8)

PLAIN_FACTS = st.dictionaries(
    SAFE_TEXT,
    st.recursive(
        st.none() | st.booleans() | st.integers(-(2**63) + 1, 2**63 - 1) | SAFE_TEXT,
        lambda inner: st.lists(inner, max_size=5) | st.dictionaries(SAFE_TEXT, inner, max_size=5),
        max_leaves=20,
    ),
    max_size=8,
)


def nested(depth: int) -> Any:
    """Return a list in a list in a list, and so on."""
    value: Any = "innermost"
    for _ in range(depth):
        value = [value]
    return value


def shared(width: int, depth: int) -> Any:
    """Return a list of the same list many times, of the same list many times: `width ** depth` values in few bytes."""
    value: Any = [1]
    for _ in range(depth):
        value = [value] * width
    return value


#: One of each kind that Postgres, JSON or the memory would not take as it is.
WICKED: dict[str, Any] = {
    "nul": "a\x00b",
    "escaped nul": "a\\u0000b",
    "lone surrogate": "\ud800 and \udfff",
    "surrogate pair": "\ud83d\ude00",
    "nan": float("nan"),
    "infinity": float("-inf"),
    "float": 0.1,
    "endless number": Decimal("1e200000"),
    "memory-filling number": Decimal("1E+999999999"),
    "decimal nan": Decimal("sNaN"),
    "huge integer": 10**5_000,
    "least bigint": -(2**63),
    "bytes": b"\x00\xff",
    "long bytes": bytes(1_000_000),
    "long string": "x" * 1_000_000,
    "long string of four-byte characters": "\U0001f600" * 20_000,
    "long string of escapes": "\x01" * 20_000,
    "deep": nested(2_000),
    "wide": list(range(100_000)),
    "shared": shared(1_000, 14),
    "many names": {f"name {number}": number for number in range(5_000)},
    "long name": {"n" * 100_000: 1},
    "wicked name": {"\x00\ud800": 1},
    "names of other kinds": {1: 1, None: 2, b"x": 3, (1, 2): 4, 2.5: 5},
    "set": {"a", "b"},
    "naive time": datetime(2026, 1, 1),  # noqa: DTZ001 - wanted: it is what the encoder must bear
    "time before the calendar": datetime(1, 1, 1, tzinfo=timezone(timedelta(hours=14))),
    "date": date(2026, 1, 1),
    "object": object(),
    "": "",
}

#: What has a form of its own in facts, and that form.
FORMS: list[tuple[Any, Any]] = [
    (Decimal("2.5E-6"), "0.0000025"),
    (Decimal("1E+3"), "1000"),
    (datetime(2026, 11, 22, 9, 30, tzinfo=timezone(timedelta(hours=1))), "2026-11-22T08:30:00.000000Z"),
    (datetime(1, 1, 1, tzinfo=UTC), "0001-01-01T00:00:00.000000Z"),
    (UUID(int=1), "00000000-0000-0000-0000-000000000001"),
    ((1, "two"), [1, "two"]),
    (frozenset({"a"}), ["a"]),
]
