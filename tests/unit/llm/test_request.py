"""What is read of a request, and what the upstream gets instead of it: the same bytes but for named spans."""

import gzip

import pytest

from llm.encodings import BodyTooLarge
from llm.json_text import JsonError
from llm.request import ClientRequest, read_client_request

Headers = list[tuple[str, str]]


def read(body: bytes, headers: Headers | None = None, *, needs_json: bool = True, limit: int = 10_000) -> ClientRequest:
    return read_client_request("POST", "/responses", "", headers or [], body, limit_bytes=limit, needs_json=needs_json)


def test_body_for_the_same_model_is_the_clients_own_object() -> None:
    body = b'{"model":"gpt-4o"}'
    assert read(body).upstream_body("gpt-4o") == (body, "")
    assert read(body).upstream_body("gpt-4o")[0] is body


def test_body_that_names_two_models_names_the_one_that_was_checked() -> None:
    assert read(b'{"model":"x","model":"a"}').upstream_body("a") == (b'{"model":"a","model":"a"}', "")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        (b'{"model":"a"}', b'{"model":"b"}'),
        (b'{"mod\\u0065l" : "a" , "x":1e2}', b'{"mod\\u0065l" : "b" , "x":1e2}'),
        (b'{"model":"a","model":"a"}', b'{"model":"b","model":"b"}'),
        (b'{"x":{"model":"a"},"model":"a"}', b'{"x":{"model":"a"},"model":"b"}'),
        (b'{"num_retries":3,"model":"a","fallbacks":["c"]}', b'{"model":"b"}'),
        (b'{"model":"a","metadata":{"tags":["x"]}}', b'{"model":"b","metadata":{}}'),
        (
            b'{"model":"a","metadata":{"k":"v", "tags" : [1,2] ,"z":"y"}}',
            b'{"model":"b","metadata":{"k":"v", "z":"y"}}',
        ),
        (b'{"model":"a","metadata":{"t\\u0061gs":["x"]}}', b'{"model":"b","metadata":{}}'),
        (b'{"model":"a","metadata":{"tags":"x"}}', b'{"model":"b","metadata":{"tags":"x"}}'),
        (b'{"model":"a","metadata":"tags"}', b'{"model":"b","metadata":"tags"}'),
        (b'{"model":"a","metadata":{"other":["tags"]}}', b'{"model":"b","metadata":{"other":["tags"]}}'),
    ],
)
def test_body_differs_in_the_model_and_the_proxys_own_fields_only(given: bytes, wanted: bytes) -> None:
    assert read(given).upstream_body("b") == (wanted, "")


def test_tags_are_cut_out_where_the_model_stays() -> None:
    given = b'{"model":"a","metadata":{"tags":["x"],"k":"v"}}'
    assert read(given).upstream_body("a") == (b'{"model":"a","metadata":{"k":"v"}}', "")


def test_compressed_body_goes_on_as_it_is_unless_something_is_replaced() -> None:
    plain = b'{"model":"a"}'
    packed = gzip.compress(plain)
    request = read(packed, [("content-encoding", "gzip")])
    assert request.body == plain
    assert request.upstream_body("a") == (packed, "gzip")
    assert request.upstream_body("b") == (b'{"model":"b"}', "")


def test_body_that_is_no_object_is_refused_only_where_one_is_needed() -> None:
    with pytest.raises(JsonError):
        read(b"[1]")
    with pytest.raises(JsonError):
        read(b"")
    loose = read(b"[1]", needs_json=False)
    assert (loose.model, loose.members, loose.upstream_body("b")) == ("", None, (b"[1]", ""))


def test_body_that_unpacks_beyond_the_limit_is_refused() -> None:
    with pytest.raises(BodyTooLarge):
        read(gzip.compress(b'{"x":"' + b"y" * 20_000 + b'"}'), [("content-encoding", "gzip")])


@pytest.mark.parametrize(
    ("value", "is_stream"), [(b"true", True), (b"false", False), (b'"true"', False), (b"1", False), (b"null", False)]
)
def test_stream_is_asked_for_by_true_alone(value: bytes, *, is_stream: bool) -> None:
    assert read(b'{"model":"a","stream":' + value + b"}").is_stream is is_stream


@pytest.mark.parametrize(
    ("query", "is_stream"), [("stream=true", True), ("a=b&stream=true", True), ("upstream=true", False), ("", False)]
)
def test_stream_of_a_stored_response_is_asked_for_by_its_query(query: str, *, is_stream: bool) -> None:
    request = read_client_request("GET", "/responses/resp_1", query, [], b"", limit_bytes=10, needs_json=False)
    assert request.is_stream is is_stream


def test_model_that_is_no_text_is_none() -> None:
    assert read(b'{"model":{"a":1}}').model == ""
