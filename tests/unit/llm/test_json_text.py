"""JSON bytes that must be refused clearly, and numbers that must stay what they were."""

import pytest

from llm.json_text import DEPTH_MAX, JsonError, NumberText, check_depth, read_json, read_json_quickly


@pytest.mark.parametrize(
    ("body", "reason", "position"),
    [
        (b"", "Expecting value", 0),
        (b"  ", "Expecting value", 2),
        (b'{"a":1}x', "Extra data", 7),
        (b'{"a":1,}', "double quotes", 7),
        (b"[NaN]", "NaN", None),
        (b"-Infinity", "-Infinity", None),
        (b'"\x01"', "control character", 1),
        (b'"\xff"', "not valid UTF-8", 1),
        (b'\xef\xbb\xbf"\xff"', "not valid UTF-8", 4),
        (b'"\xed\xa0\x80"', "not valid UTF-8", 1),
        (b'\xef\xbb\xbf{"\xc3\xa9":?}', "Expecting value", 9),
        ('{"a":1}'.encode("utf-16"), "UTF-16", 0),
        ('{"a":1}'.encode("utf-16-be"), "UTF-16", 0),
        (b"[" * 10_000 + b"]" * 10_000, "nested 10000 deep", None),
        (b'{"a":' * 10_000, "nested 10000 deep", None),
        (b"[" * 1_000_000, "nested 1000000 deep", None),
    ],
)
def test_read_json_of_a_bad_body_says_what_and_where(body: bytes, reason: str, position: int | None) -> None:
    with pytest.raises(JsonError) as caught:
        read_json(body)
    assert reason in str(caught.value)
    assert caught.value.position == position


def test_read_json_at_the_depth_limit_is_read_and_one_deeper_is_not() -> None:
    assert read_json(b"[" * DEPTH_MAX + b"]" * DEPTH_MAX)
    with pytest.raises(JsonError, match="the limit is"):
        read_json(b"[" * (DEPTH_MAX + 1) + b"]" * (DEPTH_MAX + 1))


def test_check_depth_with_brackets_in_strings_does_not_count_them() -> None:
    check_depth(b'["' + b'[{\\"' * 5_000 + b'"]')
    check_depth(b"[" + b"[],{}," * 5_000 + b"[]]")
    check_depth(b"[" + b'"\\\\","[{\\\\\\"[{",' * 5_000 + b"1]")


def test_check_depth_with_closing_brackets_in_strings_does_not_count_them() -> None:
    for text in (b'"]]]]"', b'"\\"]]"', b'"\\\\", "]]"', b'"\\\\\\"]]"'):
        with pytest.raises(JsonError, match="nested 300 deep"):
            check_depth((b"[" + text + b",") * 300)


def test_check_depth_with_unterminated_escapes_stays_linear() -> None:
    # Tried again from every quote, this would take hours.
    check_depth(b"[" * 200 + b'"' + b'\\"[' * 2_000_000)


def test_read_json_keeps_numbers_exactly() -> None:
    value = read_json(b'{"a": 1.10, "b": 1e400, "c": 12345678901234567890, "d": ' + b"9" * 5_000 + b"}")
    assert value["a"] == NumberText("1.10")
    assert isinstance(value["b"], NumberText)
    assert value["c"] == 12345678901234567890
    assert value["d"] == "9" * 5_000


def test_read_json_with_a_byte_order_mark_ignores_it() -> None:
    assert read_json(b'\xef\xbb\xbf{"a": "\xc3\xa9"}') == {"a": "\u00e9"}


@pytest.mark.parametrize(
    ("body", "value"),
    [
        (
            b'{"a": 1, "b": ["x", null, true, 1.5], "a": 9223372036854775807}',
            {"a": 2**63 - 1, "b": ["x", None, True, 1.5]},
        ),
        (b'\xef\xbb\xbf{"a": "\\ud800"}', {"a": "\ud800"}),
        (b"1e999", "1e999"),
    ],
)
def test_read_json_quickly_reads_what_read_json_reads(body: bytes, value: object) -> None:
    assert read_json_quickly(body) == value


@pytest.mark.parametrize(
    "body", [b"", b"[NaN]", b'{"a":1}x', b"[" * 300 + b"]" * 300, b'"\xff"', '{"a":1}'.encode("utf-16")]
)
def test_read_json_quickly_refuses_what_read_json_refuses(body: bytes) -> None:
    with pytest.raises(JsonError):
        read_json_quickly(body)
