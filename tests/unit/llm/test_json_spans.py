"""Spans of JSON members and edits that touch nothing else."""

import time

import pytest

from llm.json_spans import ANY, find_spans, replace_values, scan_object, splice
from llm.json_text import JsonError


@pytest.mark.parametrize(
    ("body", "reason", "position"),
    [
        (b"", "not a JSON object", 0),
        (b"[]", "not a JSON object", 0),
        (b"{", "a key in double quotes", 1),
        (b'{"a"}', "a colon", 4),
        (b'{"a" 1}', "a colon", 5),
        (b'{"a":}', "a JSON value is missing", 5),
        (b'{"a":1', "a comma or the end", 6),
        (b'{"a":1 "b":2}', "a comma or the end", 7),
        (b'{"a":1,}', "a key in double quotes", 7),
        (b'{"a":1}{}', "followed by something else", 7),
        (b'{"a":[1,]}', "a JSON value is missing", 8),
        (b'{"a', "Unterminated string", 1),
        (b'{"a":NaN}', "NaN", None),
        (b'{"a":"\xff"}', "not valid UTF-8", 6),
        (b'{"\xe9":1}', "not valid UTF-8", 2),
        (b'{\x00"\x00a\x00"\x00}\x00', "UTF-16", 0),
        (b'{"a":' + b"[" * 10_000 + b"]" * 10_000 + b"}", "nested 10001 deep", None),
        (b"{} \x00", "followed by something else", 3),
    ],
)
def test_scan_object_of_a_bad_body_says_what_and_where(body: bytes, reason: str, position: int | None) -> None:
    with pytest.raises(JsonError) as caught:
        scan_object(body)
    assert reason in str(caught.value)
    assert caught.value.position == position


def test_scan_object_with_text_outside_ascii_counts_bytes() -> None:
    body = '{"ä": "öü", "model": "gpt-é"}'.encode()
    members = scan_object(body)
    assert members.names() == ["ä", "model"]
    assert members.get("model") == "gpt-é"
    assert members.get("ä") == "öü"
    [(start, end)] = members.spans("model")
    assert body[start:end] == '"gpt-é"'.encode()


def test_scan_object_with_escaped_keys_finds_them_by_their_meaning() -> None:
    members = scan_object(b'{"\\u006dodel": "a", "mod\\u0065l": "b", "\\u00e4": 1}')
    assert members.names() == ["model", "model", "ä"]
    assert members.get("model") == "b"
    assert len(members.spans("model")) == 2


def test_scan_object_with_a_byte_order_mark_and_spaces_keeps_offsets() -> None:
    body = b'\xef\xbb\xbf \r\n{ "a" : 1 , "b" : [ ] } \t'
    members = scan_object(body)
    assert [body[start:end] for name in "ab" for start, end in members.spans(name)] == [b"1", b"[ ]"]


def test_members_without_the_name_give_the_default() -> None:
    members = scan_object(b"{}")
    assert "a" not in members
    assert members.get("a", 5) == 5
    assert members.raw("a") is None
    assert members.spans("a") == []


def test_members_with_a_huge_number_read_it_as_text() -> None:
    members = scan_object(b'{"a": ' + b"7" * 10_000 + b', "b": 1.50}')
    assert members.get("a") == "7" * 10_000
    assert members.get("b") == "1.50"


@pytest.mark.parametrize(
    ("body", "remove", "expected"),
    [
        (b'{"a":1,"b":2,"c":3}', {"a"}, b'{"b":2,"c":3}'),
        (b'{"a":1,"b":2,"c":3}', {"b"}, b'{"a":1,"c":3}'),
        (b'{"a":1,"b":2,"c":3}', {"c"}, b'{"a":1,"b":2}'),
        (b'{"a":1,"b":2,"c":3}', {"a", "b"}, b'{"c":3}'),
        (b'{"a":1,"b":2,"c":3}', {"b", "c"}, b'{"a":1}'),
        (b'{"a":1,"b":2,"c":3}', {"a", "c"}, b'{"b":2}'),
        (b'{ "a":1 , "b":2 }', {"a", "b"}, b"{  }"),
        (b'{ "a":1 , "b":2 }', {"b"}, b'{ "a":1 }'),
        (b'{"a":1,"a":2,"b":3}', {"a"}, b'{"b":3}'),
        (b"{}", {"a"}, b"{}"),
    ],
)
def test_replace_values_removing_members_removes_their_commas(body: bytes, remove: set[str], expected: bytes) -> None:
    assert replace_values(body, {}, remove) == expected


def test_replace_values_of_duplicates_replaces_each_and_nothing_else() -> None:
    body = b'{ "model" :  "a" ,"n":1.10, "\\u006dodel":{"model":"deep"}, "x": null}'
    assert replace_values(body, {"model": b'"gpt"', "absent": b"1"}, {"x"}) == (
        b'{ "model" :  "gpt" ,"n":1.10, "\\u006dodel":"gpt"}'
    )


def test_replace_values_with_nothing_to_do_returns_the_same_object() -> None:
    body = b'{"a": 1}'
    assert replace_values(body, {"b": b"2"}) is body


def test_splice_with_overlapping_edits_is_refused() -> None:
    with pytest.raises(ValueError, match="overlap at byte 2"):
        splice(b"abcdef", [(1, 3, b""), (2, 4, b"")])


def test_find_spans_at_paths_finds_values_by_their_place_only() -> None:
    body = b'{"t": [{"k": 1, "x": {"k": 2}}, [{"k": 3}], {"\\u006b": 4, "k": 5}], "k": 6}'
    found = find_spans(body, [("t", ANY, "k"), ("k",)])
    assert [body[start:end] for start, end in found] == [b"1", b"4", b"5", b"6"]
    assert find_spans(body, [("t", ANY, "k"), ("k",)], scan_object(body)) == found
    assert find_spans(b"[1, 2]", [(ANY,)]) == [(1, 2), (4, 5)]
    assert find_spans(b"[]", [(ANY,)]) == []
    assert find_spans(b"5", [(ANY,)]) == []


@pytest.mark.parametrize("body", [b"", b"[1", b"[1] 2", b'{"a":1', b"[" * 5_000])
def test_find_spans_of_a_bad_body_raises_a_json_error(body: bytes) -> None:
    with pytest.raises(JsonError):
        find_spans(body, [(ANY,)])


def test_scan_object_of_64_mb_takes_one_pass() -> None:
    for filling in (b'"' + b"x" * (64 << 20) + b'"', b"1" + b" " * (64 << 20)):
        body = b'{"input": ' + filling + b', "model": "m"}'
        began = time.process_time()
        assert scan_object(body).get("model") == "m"
        assert time.process_time() - began < 3  # about 0.1 s; a loop of Python over the bytes takes 6 s and more
