"""Edits by span against the standard library's reader, on JSON in every spelling; decoding undoes encoding."""

import gzip
import json
import zlib
from collections.abc import Sequence
from typing import Any

import brotli
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from llm.encodings import Decoder, decode
from llm.json_spans import ANY, find_spans, replace_values, scan_object, splice
from llm.json_text import DEPTH_MAX, JsonError, check_depth, read_json
from llm.masking import PLACEHOLDER, _secret_spans

SpelledMember = tuple[str, str, str, str, str, str]  # space, key, space, space, value, space

SPACES = st.text(" \t\r\n", max_size=2)
NAMES = st.sampled_from(["model", "a", "é", "\U0001f600", 'q"\\', ""])
STRINGS = st.text('aé\u20ac\U0001f600"\\/\n\x00\x7f', max_size=6) | NAMES


@st.composite
def spelled(draw: st.DrawFn, strings: st.SearchStrategy[str] = STRINGS) -> str:
    """A string's JSON text: raw, or with any of its characters escaped."""
    parts: list[str] = []
    for char in draw(strings):
        if draw(st.booleans()):
            parts += [f"\\u{unit:04x}" for unit in utf16_units(char)]
        else:
            parts.append(json.dumps(char, ensure_ascii=False)[1:-1])
    return '"' + "".join(parts) + '"'


def utf16_units(char: str) -> list[int]:
    encoded = char.encode("utf-16-be")
    return [int.from_bytes(encoded[i : i + 2]) for i in range(0, len(encoded), 2)]


def joined(parts: Sequence[str], brackets: str) -> str:
    return brackets[0] + ",".join(parts) + brackets[1]


SCALARS = spelled() | st.sampled_from(["null", "true", "-0", "1.10", "1e400", "9" * 50, "{ }", "[\n]"])
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(st.tuples(SPACES, inner, SPACES).map("".join), max_size=3).map(lambda parts: joined(parts, "[]"))
        | st.lists(st.tuples(SPACES, spelled(NAMES), SPACES, st.just(":"), SPACES, inner).map("".join), max_size=3).map(
            lambda parts: joined(parts, "{}")
        )
    ),
    max_leaves=8,
)
MEMBERS = st.lists(st.tuples(SPACES, spelled(NAMES), SPACES, SPACES, VALUES, SPACES), max_size=5)


def body_of(members: list[SpelledMember], mark: bytes = b"") -> bytes:
    text = joined([f"{a}{key}{b}:{c}{value}{d}" for a, key, b, c, value, d in members], "{}")
    return mark + text.encode()


@settings(deadline=None)
@given(MEMBERS, st.sampled_from([b"", b"\xef\xbb\xbf"]))
def test_scan_object_of_any_spelling_finds_each_value(members: list[SpelledMember], mark: bytes) -> None:
    body = body_of(members, mark)
    scanned = scan_object(body)
    assert scanned.names() == [json.loads(member[1]) for member in members]
    assert [body[item.value_start : item.value_end].decode() for item in scanned.items] == [m[4] for m in members]


@settings(deadline=None)
@given(MEMBERS, st.sets(NAMES, max_size=3), st.sets(NAMES, max_size=3))
def test_replace_values_changes_only_the_named_members(
    members: list[SpelledMember], replaced: set[str], removed: set[str]
) -> None:
    body = body_of(members)
    result = replace_values(body, dict.fromkeys(replaced, b'{"new":1}'), removed)
    expected = [
        (name, '{"new":1}' if name in replaced else member[4])
        for member in members
        if (name := json.loads(member[1])) not in removed
    ]
    scanned = scan_object(result)
    assert [(m.name, result[m.value_start : m.value_end].decode()) for m in scanned.items] == expected
    if not removed:
        undone = [(m.value_start, m.value_end, members[i][4].encode()) for i, m in enumerate(scanned.items)]
        assert splice(result, undone) == body


@settings(deadline=None)
@given(VALUES)
def test_secret_spans_put_aside_leave_the_value_equal_elsewhere(text: str) -> None:
    paths = [("model",), ("a", "model"), (ANY, "model"), ("a", ANY)]
    spans = _secret_spans(text.encode(), paths, None)
    masked = splice(text.encode(), [(start, end, PLACEHOLDER) for start, end in spans])
    assert read_json(masked) == masked_by_hand(read_json(text.encode()), paths)
    assert set(spans) <= set(find_spans(text.encode(), paths))


def masked_by_hand(value: Any, paths: list[tuple[str, ...]]) -> Any:
    if () in paths:
        return value if value in (None, "", [], {}) and value is not False else "[masked]"
    if isinstance(value, dict):
        return {k: masked_by_hand(v, [p[1:] for p in paths if p[0] == k]) for k, v in value.items()}
    if isinstance(value, list):
        return [masked_by_hand(v, [p[1:] for p in paths if p[0] == ANY]) for v in value]
    return value


@settings(deadline=None)
@given(st.binary(max_size=40) | st.text('{}[]",:\\u0 1e', max_size=30).map(str.encode))
def test_scan_object_of_any_bytes_agrees_with_the_reader_or_raises(body: bytes) -> None:
    try:
        value = read_json(body)
    except JsonError:
        value = None
    try:
        scanned = scan_object(body)
    except JsonError:
        assert not isinstance(value, dict)
    else:
        assert value == {name: scanned.get(name) for name in scanned.names()}


@settings(deadline=None)
@given(st.binary(max_size=2_000), st.lists(st.sampled_from(["gzip", "br", "zstd", "deflate"]), max_size=3), st.data())
def test_decode_undoes_encoding_in_any_pieces(body: bytes, names: list[str], data: st.DataObject) -> None:
    encoders = {"gzip": gzip.compress, "br": brotli.compress, "zstd": zstandard.compress, "deflate": zlib.compress}
    encoded = body
    for name in names:
        encoded = encoders[name](encoded)
    header = ", ".join(names)
    assert decode(encoded, header, len(body)) == body
    cut = data.draw(st.integers(0, len(encoded)))
    decoder = Decoder(header, len(body))
    assert decoder.feed(encoded[:cut]) + decoder.feed(encoded[cut:]) == body
    decoder.finish()


@settings(deadline=None)
@given(VALUES)
def test_check_depth_of_any_value_counts_its_nesting(text: str) -> None:
    limit = depth_of(json.loads(text, object_pairs_hook=lambda pairs: [value for _, value in pairs]))
    body = b"[" * (DEPTH_MAX - limit) + text.encode() + b"]" * (DEPTH_MAX - limit)
    assert read_json(body) is not None
    with pytest.raises(JsonError, match=f"nested {DEPTH_MAX + 1} deep"):
        check_depth(b"[" + body + b"]")


def depth_of(value: Any) -> int:
    return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0
