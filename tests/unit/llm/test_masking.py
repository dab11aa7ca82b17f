"""Secrets in requests, answers and stream events."""

import json

import pytest

from llm.json_spans import scan_object
from llm.json_text import JsonError
from llm.masking import (
    MASKED,
    mask_block,
    mask_facts,
    mask_headers,
    mask_location,
    mask_query,
    mask_secrets,
    mask_text,
)
from llm.sse import BlockSplitter, PartialBlock
from tests.support.corpus import recorded_rows

CANARY = "canary-7f3a"


@pytest.mark.parametrize(
    "body",
    [
        '{"tools":[{"type":"mcp","authorization":"canary-7f3a"}]}',
        '{"tools":[], "tools": [], "tools" : [{"type":"mcp","authorization":"canary-7f3a"}]}',
        '{"tools": [],"input":[{"tools":\t[{"authorization":"canary-7f3a"}]}]}',
        '{"tools":[{"type":"mcp","\\u0061uthorization":"canary-7f3a"}]}',
        '{"t\\u006fols":[{"type":"mcp","\\u0068eader\\u0073":{"x":"canary-7f3a"}}]}',
        '{"tools":[{"headers":{"x-key":"canary-7f3a", "y": "<redacted>"}}]}',
        '{"tools":[{"headers":["canary-7f3a"]}]}',
        '{"tools":[{"authorization":"a"}],"tools":[{"authorization":"canary-7f3a","authorization":"canary-7f3a"}]}',
        '{"tools":[{"type":"namespace","tools":[{"authorization":"canary-7f3a"}]}]}',
        '{"tools":[{"container":{"network_policy":{"domain_secrets":[{"name":"n","value":"canary-7f3a"}]}}}]}',
        '{"tools":[{"environment":{"network_policy":{"domain_secrets":[{"value":"canary-7f3a"}]}}}]}',
        '{"input":[{"type":"additional_tools","tools":[{"authorization":"canary-7f3a"}]}]}',
        '{"output":[{"type":"tool_search_output","tools":[{"authorization":"canary-7f3a"}]}]}',
        '{"response":{"tools":[{"authorization":"canary-7f3a"}]}}',
        '{"item":{"tools":[{"authorization":"canary-7f3a"}]}}',
        '{"data":[{"type":"additional_tools","tools":[{"headers":{"a":"canary-7f3a"}}]}]}',
        '{"instructions":[{"tools":[{"tools":[{"tools":[{"authorization":"canary-7f3a"}]}]}]}]}',
        '{"tools":[{"headers":{"x":"canary-7f3a","x":"<redacted>"}}]}',
    ],
)
def test_mask_secrets_wherever_a_tool_stands_hides_its_secret(body: str) -> None:
    masked, count = mask_secrets(body.encode())
    assert CANARY in body
    assert CANARY.encode() not in masked
    assert count >= 1
    json.loads(masked)
    assert mask_secrets(masked) == (masked, 0)
    block, block_count = mask_block(f"event: e\ndata: {body}\n\n".encode())
    assert block == b"event: e\ndata: " + masked + b"\n\n"
    assert block_count == count


def test_mask_secrets_leaves_every_other_byte() -> None:
    body = b'{ "n":1.10,"tools":[ {"authorization" : "s3cret" ,"headers":{"a":"b"}, "x":"\xc3\xa9"}],"m":1e5 }'
    masked, count = mask_secrets(body, scan_object(body))
    assert masked == (
        b'{ "n":1.10,"tools":[ {"authorization" : "[masked]" ,"headers":"[masked]", "x":"\xc3\xa9"}],"m":1e5 }'
    )
    assert count == 2


@pytest.mark.parametrize(
    "body",
    [
        b'{"authorization":"x"}',
        b'{"input":"authorization headers"}',
        b'{"tools":[{"headers":null},{"headers":{}},{"authorization":""}]}',
        b'{"tools":[{"authorization":"<redacted>","headers":{"x":"<redacted>"}}]}',
        b'{"tools":"authorization"}',
        b'{"input":"caf\\u00e9 \\u0041"}',
        b"not JSON at all",
    ],
)
def test_mask_secrets_where_nothing_is_secret_keeps_the_body(body: bytes) -> None:
    assert mask_secrets(body) == (body, 0)


def test_mask_secrets_of_a_body_that_is_not_json_but_may_hold_one_raises() -> None:
    with pytest.raises(JsonError):
        mask_secrets(b'{"tools":[{"authorization":"canary"')


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_mask_secrets_of_what_cannot_be_read_here_raises(encoding: str) -> None:
    with pytest.raises(JsonError):
        mask_secrets('{"tools":[{"authorization":"canary-7f3a"}]}'.encode(encoding))


def test_mask_secrets_masks_the_key_that_an_upstream_repeats() -> None:
    refusal = b'{"error":{"message":"Incorrect API key provided: sk-upstream-1."}}'
    masked = b'{"error":{"message":"Incorrect API key provided: [masked]."}}'
    assert mask_secrets(refusal, key="sk-upstream-1") == (masked, 1)
    assert mask_block(b"data: " + refusal + b"\n\n", "sk-upstream-1") == (b"data: " + masked + b"\n\n", 1)
    assert mask_secrets(refusal, key="sk-") == mask_secrets(refusal) == (refusal, 0)
    assert mask_text("no sk-upstream-1 here", "sk-upstream-1") == "no [masked] here"


def test_part_of_a_block_that_may_hold_a_secret_is_not_taken_for_read() -> None:
    rest = b'"headers":{"x":"canary-7f3a"}}]}}\n\n'
    with pytest.raises(JsonError):
        mask_block(PartialBlock(rest))
    assert mask_block(PartialBlock(b'a long text"}}\n\n')) == (b'a long text"}}\n\n', 0)


def test_mask_headers_masks_a_key_in_every_value_and_leaves_the_rest() -> None:
    headers = [["x-request-id", "sk-upstream-1"], ["retry-after", "2"], ["openai-project", "of sk-upstream-1!"]]
    masked = [["x-request-id", MASKED], ["retry-after", "2"], ["openai-project", f"of {MASKED}!"]]
    assert mask_headers(headers, "sk-upstream-1") == masked
    assert mask_headers(headers, "sk-other-key") is headers
    assert mask_headers([["retry-after", "2"]], "2") == [["retry-after", "2"]]


@pytest.mark.parametrize(
    ("query", "shown"),
    [
        ("", ""),
        ("stream=true&starting_after=4&include%5B%5D=x", "stream=true&starting_after=4&include%5B%5D=x"),
        ("api_key=a&b=c&X-Token=d&sig=e", "api_key=[masked]&b=c&X-Token=[masked]&sig=[masked]"),
        ("note=sk-of-client-1&note=", "note=[masked]&note="),
        (
            "%74oken=canary&api%5Fkey=canary&sig=canary&design=1",
            "%74oken=[masked]&api%5Fkey=[masked]&sig=[masked]&design=1",
        ),
        ("a=1;token=canary;b&pwd=canary", "a=1;token=[masked]&pwd=[masked]"),
    ],
)
def test_mask_query_hides_credentials(query: str, shown: str) -> None:
    assert mask_query(query, "sk-of-client-1") == shown


def test_mask_location_hides_credentials_and_what_the_request_had_hidden() -> None:
    asked, recorded = "x=sk-of-client-1", "x=[masked]"
    assert mask_location("/v1/responses/?x=sk-of-client-1&token=canary", asked, recorded) == (
        "/v1/responses/?x=[masked]&token=[masked]"
    )
    assert mask_location("https://there/key=1", "", "") == "https://there/key=1"


def test_mask_block_with_data_over_several_lines_masks_across_them() -> None:
    block = b'event: e\r\ndata: {"tools":[{"headers":\r\ndata: {"a":\r\ndata: "canary"}, "x":\r\ndata: 1}]}\r\n\r\n'
    masked, count = mask_block(block)
    assert masked == b'event: e\r\ndata: {"tools":[{"headers":\r\ndata: "[masked]", "x":\r\ndata: 1}]}\r\n\r\n'
    assert count == 1


@pytest.mark.parametrize("block", [b": authorization\n\n", b"data: [DONE]\nid: headers\n\n", b"data: {}\n\n"])
def test_mask_block_without_json_keeps_the_block(block: bytes) -> None:
    assert mask_block(block) == (block, 0)


def _url(url: str) -> tuple[str, int]:
    """Return what is stored of a tool's URL, and how many secrets were found in it."""
    masked, count = mask_secrets(json.dumps({"tools": [{"type": "mcp", "server_url": url}]}).encode())
    assert mask_secrets(masked) == (masked, 0)
    return json.loads(masked)["tools"][0]["server_url"], count


@pytest.mark.parametrize(
    ("url", "stored"),
    [
        ("https://m.example/sse?api_key=canary&v=2&e=&canary", "https://m.example/sse?api_key=[masked]&v=[masked]&e=&[masked]"),
        ("https://canary:canary@m.example:8443/sse", "https://[masked]@m.example:8443/sse"),
        ("https://canary@canary@m.example?x=canary?canary=1", "https://[masked]@m.example?x=[masked]"),
        ("https://m.example/a?b=canary;c=canary#canary", "https://m.example/a?b=[masked]#[masked]"),
        (" HTTPS:\\\\canary@m.example\\x", " HTTPS:\\\\[masked]@m.example\\x"),
        ("//canary@m.example/x", "//[masked]@m.example/x"),
        ("canary@m.example/x?\n=canary", "[masked]@m.example/x?\n=[masked]"),
        ('https://m.example/\u00e9?q="canary"\ud800', "https://m.example/\u00e9?q=[masked]"),
        ("https://m.example/\ud800?%61=canary", "https://m.example/\ud800?%61=[masked]"),
    ],
)  # fmt: skip
def test_tool_url_is_stored_without_userinfo_values_and_fragment(url: str, stored: str) -> None:
    assert _url(url) == (stored, 1)


@pytest.mark.parametrize(
    "url",
    ["", "https://m.example", "https://m.example/token/x@y?", "https://m.example/?a=&b=#", "<redacted>", "[masked]"],
)
def test_tool_url_without_what_may_be_a_credential_stays_as_it_is(url: str) -> None:
    assert _url(url) == (url, 0)


@pytest.mark.parametrize("holder", ["", '"response":{', '"item":{', '"response":{"output":[{'])
def test_tool_url_is_masked_in_its_bytes_alone_wherever_a_tool_stands(holder: str) -> None:
    close = {"": "", '"response":{"output":[{': "}]}"}.get(holder, "}")
    body = '{%s"tools":[ {"server_url" : "https:\\/\\/m.example\\/\u00e9?k=%s", "x":1.10}]%s}'
    plain = body.replace("\\/", "/") % (holder, "canary", close)
    masked, count = mask_secrets(plain.encode())
    assert (masked.decode(), count) == (plain.replace("canary", "[masked]"), 1)
    block, count = mask_block(f"data: {plain}\n\n".encode())
    assert (block, count) == (b"data: " + masked + b"\n\n", 1)
    # A name in escapes is that name; a URL in escapes is stored without them.
    escaped = plain.replace("server_url", "server_\\u0075rl").replace("//", "\\/\\/")
    assert json.loads(mask_secrets(escaped.encode())[0]) == json.loads(masked)


def test_tool_url_that_is_no_text_is_masked_whole() -> None:
    body = b'{"tools":[{"server_url":{"a":"canary"}},{"server_url":null}]}'
    assert mask_secrets(body) == (b'{"tools":[{"server_url":"[masked]"},{"server_url":null}]}', 1)


@pytest.mark.corpus
def test_mask_secrets_of_recorded_answers_changes_none() -> None:
    for row in recorded_rows():
        body = row.response_body.encode()
        if row.stream:
            assert all(mask_block(block) == (block, 0) for block in BlockSplitter(1 << 24).feed(body))
        else:
            assert mask_secrets(body) == (body, 0)


@pytest.mark.parametrize("key", ["sk-upstream-1", 'sk-"up"stream', "sk-up\\stream", "sk-Schlüssel"])
def test_mask_facts_masks_a_key_wherever_it_stands(key: str) -> None:
    facts = {"id": key, "n": 1, "error": {"code": f"bad {key}"}, "headers": [["x", key], None]}
    assert mask_facts(facts, key) == {
        "id": MASKED,
        "n": 1,
        "error": {"code": f"bad {MASKED}"},
        "headers": [["x", MASKED], None],
    }
    assert mask_facts(facts, "another-key") == facts
