"""For whom a call is: the order of DESIGN.md 8."""

import json
from typing import Any

import pytest

from api.auth import Caller
from api.errors import ApiFailure
from api.identity import TAGS_MAX, end_user_of, tags_of_call
from llm.json_spans import scan_object

ORDER: list[tuple[dict[str, str], dict[str, Any], str]] = [
    ({"x-llm-end-user-id": "h1", "x-litellm-end-user-id": "h2"}, {"safety_identifier": "b1"}, "h1"),
    ({"x-litellm-end-user-id": "h2", "x-litellm-customer-id": "h3"}, {"user": "b2"}, "h2"),
    ({"x-litellm-customer-id": " h3 "}, {"user": "b2"}, "h3"),
    ({"x-llm-end-user-id": "  "}, {"safety_identifier": "b1", "user": "b2"}, "b1"),
    ({}, {"user": "b2", "metadata": {"user_id": "b3"}}, "b2"),
    ({}, {"user": "", "metadata": {"user_id": "b3"}}, "b3"),
    ({}, {"user": 7, "metadata": "x"}, ""),
    ({}, {}, ""),
]


@pytest.mark.parametrize(("headers", "body", "expected"), ORDER)
def test_end_user_is_the_first_that_is_named(headers: dict[str, str], body: dict[str, Any], expected: str) -> None:
    assert end_user_of(Caller("k"), headers, scan_object(json.dumps(body).encode())) == expected


def test_end_user_of_the_key_wins_over_everything() -> None:
    headers, body = {"x-llm-end-user-id": "h"}, scan_object(b'{"safety_identifier":"b"}')
    assert end_user_of(Caller("k", end_user="fixed"), headers, body) == "fixed"


def test_end_user_that_is_too_long_is_refused() -> None:
    with pytest.raises(ApiFailure) as caught:
        end_user_of(Caller("k"), {}, scan_object(json.dumps({"user": "x" * 257}).encode()))
    assert (caught.value.error.status, caught.value.error.param) == (400, "user")


def test_tags_are_a_sorted_set_of_key_headers_and_body() -> None:
    headers = {"x-llm-tags": "c, a,,", "x-litellm-tags": "b"}
    members = scan_object(b'{"metadata":{"tags":["d","a",7]}}')
    assert tags_of_call(Caller("k", tags=("z",)), headers, members) == ["a", "b", "c", "d", "z"]
    assert tags_of_call(Caller("k"), {}, scan_object(b'{"metadata":{"tags":"y,x"}}')) == ["x", "y"]
    assert tags_of_call(Caller("k"), {}, None) == []


def test_tags_that_are_too_many_or_too_long_are_refused() -> None:
    for value in (",".join(f"t{number}" for number in range(TAGS_MAX + 1)), "x" * 257):
        with pytest.raises(ApiFailure) as caught:
            tags_of_call(Caller("k"), {"x-llm-tags": value}, None)
        assert caught.value.error.status == 400
