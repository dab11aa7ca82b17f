"""Every kind of bad request, as docs/ERRORS.md lists them: what the client is told, and what is in the book.

Bytes on a socket, because no client library would send most of these. After each the proxy serves the next call.
"""

import asyncio
import gzip
import json
import re
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import pytest
import pytest_asyncio

from tests.acceptance.conftest import MakeProxy
from tests.support.proxy import MASTER_KEY, LocalProxy, configuration, deployment
from tests.support.raw_http import RawAnswer, answers, exchange, request
from tests.support.upstream import Upstream

pytestmark = pytest.mark.asyncio(loop_scope="module")

GOOD = b'{"model": "gpt-4o", "input": "hello"}'
REQUEST_BYTES_MAX = 300_000
#: What an error must not tell: files, frames, SQL, classes.
INTERNALS = re.compile(rb"Traceback|\.py\b|File \"|SELECT |INSERT |asyncpg|sqlalchemy|starlette|pydantic|object at 0x")
RESPONSES = "/v1/responses"


@dataclass(frozen=True)
class Bad:
    """A bad request, and what comes of it. `recorded`: the events of the call; None: it never became one."""

    name: str
    sent: bytes
    status: int
    code: str | None = None
    recorded: tuple[str, ...] | None = None
    headers: dict[str, str] = field(default_factory=dict[str, str])
    says: str = ""


REJECTED = ("call.received", "call.rejected")


def body(name: str, sent: bytes, status: int = 400, code: str | None = None, *, says: str = "", **headers: str) -> Bad:
    """A request of the master key with a bad body."""
    given = [(key.replace("_", "-"), value) for key, value in headers.items()]
    return Bad(name, request("POST", RESPONSES, sent, *given, key=MASTER_KEY), status, code, REJECTED, says=says)


def line(name: str, method: str, target: str, status: int, code: str, *, says: str = "", **headers: str) -> Bad:
    """A request that is wrong in its first line; where it is a call, it is in the book."""
    recorded = REJECTED if code == "method_not_allowed" and "responses" in target else None
    return Bad(name, request(method, target, key=MASTER_KEY), status, code, recorded, headers, says)


def head(name: str, sent: bytes, status: int = 400, code: str = "invalid_http_request") -> Bad:
    """A request whose head is no HTTP."""
    return Bad(name, sent, status, code)


def raw_head(*lines: bytes, rest: bytes = b"") -> bytes:
    """A request's bytes from lines that need be no text."""
    key = b"authorization: Bearer " + MASTER_KEY.encode()
    return b"\r\n".join([*lines, b"host: proxy", key, b"connection: close", b"", b""]) + rest


POST = b"POST /v1/responses HTTP/1.1"
LENGTH = b"content-length: %d" % len(GOOD)
MISSING = "missing_required_parameter"
UNKNOWN = "model_not_found"

BODIES = [
    body("cut_json", b'{"model": "gpt-4o", "input": ', says="at byte"),
    body("empty", b""),
    body("blank", b" \r\n\t"),
    body("list", b"[]", says="object"),
    body("text", b'"gpt-4o"'),
    body("null", b"null"),
    body("two_objects", GOOD + GOOD),
    body("nul_byte", b'{"model": "gpt-4o", "input": "\x00"}'),
    body("invalid_utf8", b'{"model": "gpt-4o", "input": "\xff\xfe"}'),
    body("utf16", GOOD.decode().encode("utf-16"), says="UTF-16"),
    body("nan", b'{"model": "gpt-4o", "temperature": NaN}'),
    body("single_quotes", b"{'model': 'gpt-4o'}"),
    body("nested_10000_deep", b'{"model": "gpt-4o", "input": ' + b"[" * 10_000 + b"]" * 10_000 + b"}", says="limit"),
    body("brackets_only", b"[" * 100_000),
    body("no_model", b'{"input": "x"}', 400, MISSING, says="'model'"),
    body("null_model", b'{"model": null}', 400, MISSING),
    body("number_for_model", b'{"model": 7}', 400, MISSING),
    body("list_for_model", b'{"model": ["gpt-4o"]}', 400, MISSING),
    body("empty_model", b'{"model": ""}', 400, MISSING),
    body("unknown_model", b'{"model": "gpt-9"}', 400, UNKNOWN, says="gpt-4o"),
    body("surrogate_in_model", b'{"model": "gpt\\ud800"}', 400, UNKNOWN),
    body("nul_in_model", b'{"model": "gpt\\u0000"}', 400, UNKNOWN),
    body("endless_model", b'{"model": "' + b"m" * 5_000 + b'"}', 400, UNKNOWN),
    body("form", b"model=gpt-4o&input=x", says="application/json", content_type="application/x-www-form-urlencoded"),
    body(
        "multipart", b"--b\r\n\r\nx\r\n--b--", says="application/json", content_type="multipart/form-data; boundary=b"
    ),
    body("unknown_coding", GOOD, 415, "unsupported_content_encoding", content_encoding="lzma"),
    body("not_gzip", GOOD, content_encoding="gzip"),
    body("truncated_gzip", gzip.compress(GOOD)[:-9], content_encoding="gzip"),
    body("zip_bomb", gzip.compress(b" " * 50_000_000), 413, "request_too_large", content_encoding="gzip"),
    body("too_large", b" " * (REQUEST_BYTES_MAX + 1), 413, "request_too_large", says=str(REQUEST_BYTES_MAX)),
]
LINES = [
    line("get_responses", "GET", RESPONSES, 405, "method_not_allowed", allow="POST"),
    line("put_responses", "PUT", RESPONSES, 405, "method_not_allowed", allow="POST"),
    line("options_responses", "OPTIONS", RESPONSES, 405, "method_not_allowed", allow="POST"),
    line("patch_one", "PATCH", f"{RESPONSES}/resp_1", 405, "method_not_allowed", allow="GET, POST, DELETE"),
    line("get_generate", "GET", "/key/generate", 405, "method_not_allowed", allow="POST"),
    line("post_logs", "POST", "/spend/logs", 405, "method_not_allowed", allow="GET, HEAD"),
    line("chat", "POST", "/v1/chat/completions", 404, "unknown_url", says="POST /v1/responses"),
    line("old_completions", "POST", "/v1/completions", 404, "unknown_url", says="POST /v1/responses"),
    line("embeddings", "POST", "/openai/v1/embeddings", 404, "unknown_url", says="POST /v1/responses"),
    line("images", "POST", "/v1/images/generations", 404, "unknown_url", says="POST /v1/responses"),
    line("twice_slashed", "POST", "//v1//responses", 404, "unknown_url", says="/v1/responses?"),
    line("slash_at_the_end", "GET", "/key/info/", 404, "unknown_url"),
    line("nul_in_path", "POST", f"{RESPONSES}/a%00b", 404, "unknown_url"),
    line("invalid_utf8_in_path", "POST", f"{RESPONSES}/%ff%fe", 404, "unknown_url"),
    line("endless_path", "GET", "/" + "a" * 50_000, 404, "unknown_url"),
    line("nul_in_query", "GET", "/spend/logs?team=a%00b", 400, "", says="NUL"),
    line("unknown_parameter", "GET", "/spend/logs?taem=a", 400, "unknown_parameter", says="team"),
]
HEADS = [
    head("no_http", b"hello\r\n\r\n"),
    head("http_0_9", b"GET /v1/responses\r\n\r\n", 401, "missing_api_key"),
    head("http_2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    head("tls", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x00" * 100),
    head("no_path", raw_head(b"OPTIONS * HTTP/1.1"), 404, "unknown_url"),
    head("raw_byte_in_path", raw_head(b"GET /v1/\xff\xfe HTTP/1.1")),
    head("raw_nul_in_path", raw_head(b"GET /v1/\x00 HTTP/1.1")),
    head("nul_in_header", raw_head(POST, LENGTH, b"x-a: b\x00c", rest=GOOD)),
    head("space_in_name", raw_head(POST, LENGTH, b"x a: b", rest=GOOD)),
    head("folded_header", raw_head(POST, LENGTH, b"x-a: b\r\n c: d", rest=GOOD)),
    head("text_for_length", raw_head(POST, b"content-length: abc", rest=GOOD)),
    head("negative_length", raw_head(POST, b"content-length: -1", rest=GOOD)),
    head("endless_length", raw_head(POST, b"content-length: " + b"9" * 40, rest=GOOD)),
    head("two_lengths", raw_head(POST, LENGTH, b"content-length: 5", rest=GOOD)),
    head("length_and_chunked", raw_head(POST, LENGTH, b"transfer-encoding: chunked", rest=b"0\r\n\r\n")),
    head("bad_chunk", raw_head(POST, b"transfer-encoding: chunked", rest=b"zz\r\n" + GOOD)),
    head("long_header", raw_head(POST, b"x-a: " + b"a" * 1_000_000), 431, "request_headers_too_large"),
    head("many_headers", raw_head(POST, *[b"x-%d: %s" % (n, b"a" * 90) for n in range(10_000)]), 431,
         "request_headers_too_large"),
    head("endless_line", b"GET /" + b"a" * 1_000_000, 431, "request_headers_too_large"),
]  # fmt: skip


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(make_shared_proxy: MakeProxy, shared_upstream: Upstream) -> LocalProxy:
    models = [deployment(name, f"{shared_upstream.url}/v1") for name in ("gpt-4o", "other")]
    return await make_shared_proxy(configuration(models, general={"max_request_bytes": REQUEST_BYTES_MAX}))


@pytest.fixture
def upstream(shared_upstream: Upstream) -> Upstream:
    shared_upstream.log.requests.clear()
    return shared_upstream


async def last_answer(proxy: LocalProxy, sent: bytes) -> RawAnswer:
    """Send bytes; the answer is the only one."""
    received = answers(await exchange(proxy.url, sent))
    assert len(received) == 1, received
    return received[0]


def check_shape(answer: RawAnswer, status: int, code: str | None, says: str = "") -> None:
    """Assert OpenAI's shape, a message for people, and nothing of the inside."""
    assert answer.status == status, answer
    assert answer.headers["content-type"] == "application/json"
    error = answer.json["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["type"], error["code"] or None) == ("invalid_request_error", code or None), error
    assert error["message"]
    assert len(error["message"]) < 1_500
    assert says in error["message"]
    assert not INTERNALS.search(answer.body), answer.body


async def check_serves(proxy: LocalProxy) -> None:
    """Assert that the next call is served."""
    assert (await proxy.client.send(GOOD)).status == 200


@pytest.mark.parametrize("bad", [*BODIES, *LINES, *HEADS], ids=lambda bad: bad.name)
async def test_bad_request_is_answered_in_openais_shape_and_recorded(
    proxy: LocalProxy, upstream: Upstream, bad: Bad
) -> None:
    answer = await last_answer(proxy, bad.sent)
    check_shape(answer, bad.status, bad.code, bad.says)
    for name, value in bad.headers.items():
        assert answer.headers[name] == value
    assert ("x-llm-call-id" in answer.headers) == (bad.recorded is not None)
    if bad.recorded is not None:
        story = await proxy.book.ended(UUID(answer.headers["x-llm-call-id"]))
        assert tuple(story.types) == bad.recorded
        rejected = story.one("call.rejected")
        assert (rejected.facts["status"], rejected.facts["error"]) == (bad.status, answer.json["error"])
        assert rejected.body == answer.body
    assert upstream.requests == []
    await check_serves(proxy)


UNUSUAL = {
    "byte_order_mark": b"\xef\xbb\xbf" + GOOD,
    "number_beyond_floats": b'{"model":"gpt-4o","x":1e200000}',
    "number_of_100000_digits": b'{"model":"gpt-4o","x":' + b"9" * 100_000 + b"}",
    "unknown_members": b'{"model":"gpt-4o","zzz":{"a":[1.10,null]}}',
    "input_of_another_type": b'{"model":"gpt-4o","input":true}',
    "stream_of_another_type": b'{"model":"gpt-4o","stream":"yes"}',
    "half_a_surrogate_pair": b'{"model":"gpt-4o","input":"\\ud800"}',
    "escaped_nul": b'{"model":"gpt-4o","input":"\\u0000","user":"a\\u0000b"}',
    "a_name_twice": b'{"model":"gpt-4o","input":"a","input":"b"}',
    "nested_200_deep": b'{"model":"gpt-4o","x":' + b"[" * 200 + b"]" * 200 + b"}",
}


@pytest.mark.parametrize("name", UNUSUAL)
async def test_unusual_json_passes_as_it_came_and_is_stored_as_it_came(
    proxy: LocalProxy, upstream: Upstream, name: str
) -> None:
    sent = UNUSUAL[name]
    answer = await last_answer(proxy, request("POST", RESPONSES, sent, key=MASTER_KEY))
    assert answer.status == 200, answer
    story = await proxy.book.ended(UUID(answer.headers["x-llm-call-id"]))
    assert story.request == sent
    assert upstream.requests[-1].body == sent


@pytest.mark.parametrize("given", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_json_of_another_content_type_is_served_and_sent_on_as_json(
    proxy: LocalProxy, upstream: Upstream, given: str
) -> None:
    headers = [("content-type", given)] if given else []
    answer = await last_answer(proxy, request("POST", RESPONSES, GOOD, *headers, key=MASTER_KEY))
    assert answer.status == 200
    assert upstream.requests[-1].header("content-type") == "application/json"


async def test_request_of_http_1_0_with_odd_headers_and_a_slash_too_many_is_served(proxy: LocalProxy) -> None:
    odd = [("x-llm-tags", "caf\xe9,\xff"), ("x-llm-end-user-id", "\xfc"), ("expect", "miracles")]
    for version in ("1.0", "1.1"):
        sent = request("POST", f"{RESPONSES}/", GOOD, *odd, version=version, key=MASTER_KEY)
        answer = await last_answer(proxy, sent)
        assert answer.status == 200
        story = await proxy.book.ended(UUID(answer.headers["x-llm-call-id"]))
        assert story.one("call.received").facts["path"] == "/responses"


async def test_requests_in_a_row_are_answered_in_their_order_and_a_broken_one_after_them_closes(
    proxy: LocalProxy,
) -> None:
    keeps = request("POST", RESPONSES, GOOD, key=MASTER_KEY).replace(b"connection: close\r\n", b"")
    unknown = request("POST", RESPONSES, b'{"model": "nope"}', key=MASTER_KEY)
    received = answers(await exchange(proxy.url, keeps + keeps + unknown))
    assert [answer.status for answer in received] == [200, 200, 400]
    assert len({answer.headers["x-llm-call-id"] for answer in received}) == 3
    received = answers(await exchange(proxy.url, keeps + b"what is this\r\n\r\n"))
    assert [answer.status for answer in received] == [200]
    await check_serves(proxy)


async def test_expectation_is_met_before_the_body_and_not_for_one_that_is_refused(proxy: LocalProxy) -> None:
    expects = ("expect", "100-continue")
    served = answers(await exchange(proxy.url, request("POST", RESPONSES, GOOD, expects, key=MASTER_KEY)))
    assert [answer.status for answer in served] == [100, 200]
    lines = [expects, ("content-length", str(REQUEST_BYTES_MAX + 1))]
    large = request("POST", RESPONSES, b"", *lines, key=MASTER_KEY, length=False)
    assert [answer.status for answer in answers(await exchange(proxy.url, large))] == [413]
    wrong = request("POST", RESPONSES, b"", expects, ("content-length", "100"), key="sk-wrong", length=False)
    assert [answer.status for answer in answers(await exchange(proxy.url, wrong))] == [401]


async def test_body_in_chunks_beyond_the_bound_is_refused_and_recorded(proxy: LocalProxy) -> None:
    answered = await proxy.client.send(b" " * (3 * REQUEST_BYTES_MAX), chunked=True)
    assert (answered.status, answered.error["code"]) == (413, "request_too_large")
    story = await proxy.book.ended(answered.call_id)
    assert tuple(story.types) == REJECTED


async def test_client_that_leaves_within_its_body_gets_and_leaves_nothing(proxy: LocalProxy) -> None:
    lines = [("content-length", "100000")]
    cut = request("POST", RESPONSES, b"", *lines, key=MASTER_KEY, length=False) + GOOD
    received = "SELECT count(*) FROM ledger.events WHERE type = 'call.received'"
    (before,) = await proxy.book.fetch(received)
    assert await exchange(proxy.url, cut, half_close=True) == b""
    await check_serves(proxy)
    # Only that call's: what had been recorded of the other would lie before it.
    (after,) = await proxy.book.fetch(received)
    assert after["count"] == before["count"] + 1


async def issue(proxy: LocalProxy, **fields: Any) -> str:
    """Issue a virtual key."""
    answered = await proxy.client.send(fields, path="/key/generate")
    assert answered.status == 200, answered.body
    return answered.json["key"]


async def refused_key(proxy: LocalProxy, kind: str) -> tuple[str, int, str]:
    """A key of that kind, with the status and code that it gets."""
    if kind == "expired":
        key = await issue(proxy, duration="1s")
        async with asyncio.timeout(20):
            status = 200
            while status == 200:
                status = (await last_answer(proxy, request("POST", RESPONSES, GOOD, key=key))).status
        return key, 401, "key_expired"
    key = await issue(proxy)
    path, sent, status, code = {
        "blocked": ("/key/block", {"key": key}, 403, "key_blocked"),
        "revoked": ("/key/delete", {"keys": [key]}, 401, "invalid_api_key"),
    }[kind]
    assert (await proxy.client.send(sent, path=path)).status == 200
    return key, status, code


@pytest.mark.parametrize("spelt", ["\\u0000", "resp_\\ud800"])
async def test_previous_response_that_no_database_can_hold_is_one_that_is_not_found(
    proxy: LocalProxy, upstream: Upstream, spelt: str
) -> None:
    key = await issue(proxy)
    refers = b'{"model": "gpt-4o", "previous_response_id": "%s"}' % spelt.encode()
    answer = await last_answer(proxy, request("POST", RESPONSES, refers, key=key))
    check_shape(answer, 400, "previous_response_not_found", spelt.replace("\\u0000", "\\x00"))
    assert upstream.requests == []
    # The master's is the upstream's to judge.
    assert (await last_answer(proxy, request("POST", RESPONSES, refers, key=MASTER_KEY))).status == 200


async def test_count_of_retries_that_is_no_number_is_left_out(proxy: LocalProxy) -> None:
    for given, kept in (("2", 2), ("\xb2", None), ("-1", None), ("1e1", None), ("9" * 5_000, None)):
        sent = request("POST", RESPONSES, GOOD, ("x-stainless-retry-count", given), key=MASTER_KEY)
        answer = await last_answer(proxy, sent)
        assert answer.status == 200, given
        story = await proxy.book.ended(UUID(answer.headers["x-llm-call-id"]))
        assert story.one("call.received").facts["client_retry"] == kept


@pytest.mark.parametrize("kind", ["expired", "blocked", "revoked"])
async def test_call_with_a_key_that_is_no_longer_accepted_is_refused_and_recorded_under_it(
    proxy: LocalProxy, upstream: Upstream, kind: str
) -> None:
    key, status, code = await refused_key(proxy, kind)
    upstream.log.requests.clear()
    answer = await last_answer(proxy, request("POST", RESPONSES, GOOD, key=key))
    check_shape(answer, status, code)
    story = await proxy.book.ended(UUID(answer.headers["x-llm-call-id"]))
    assert tuple(story.types) == REJECTED
    received = story.one("call.received")
    assert received.facts["key_id"].startswith("key_")
    assert received.body is None or not received.body
    assert key not in json.dumps(received.facts)
    assert upstream.requests == []


async def test_call_without_a_key_that_is_known_is_refused_and_not_recorded(proxy: LocalProxy) -> None:
    for key, code in ((None, "missing_api_key"), ("sk-nobody-has-this-key", "invalid_api_key"), ("\xff", None)):
        answer = await last_answer(proxy, request("POST", RESPONSES, GOOD, key=key))
        check_shape(answer, 401, code or "invalid_api_key")
        assert "x-llm-call-id" not in answer.headers
        assert answer.headers["www-authenticate"].startswith("Bearer")
    await check_serves(proxy)


async def test_call_for_a_model_that_the_key_may_not_use_looks_like_one_that_is_not_there(proxy: LocalProxy) -> None:
    key = await issue(proxy, models=["other"])
    answer = await last_answer(proxy, request("POST", RESPONSES, GOOD, key=key))
    check_shape(answer, 400, UNKNOWN, "Served here: other")
    nowhere = await last_answer(proxy, request("POST", RESPONSES, GOOD, key=await issue(proxy, models=["of-yore"])))
    check_shape(nowhere, 400, UNKNOWN, "Served here: none that this key may call.")
    assert tuple((await proxy.book.ended(UUID(answer.headers["x-llm-call-id"]))).types) == REJECTED


async def test_request_that_comes_too_slowly_is_given_up(make_shared_proxy: MakeProxy, upstream: Upstream) -> None:
    general = {"head_timeout_s": 1, "body_timeout_s": 1}
    proxy = await make_shared_proxy(configuration([deployment("gpt-4o", f"{upstream.url}/v1")], general=general))
    half = request("POST", RESPONSES, b"", ("content-length", "1000"), key=MASTER_KEY, length=False)
    admin = request("POST", "/key/generate", b"", ("content-length", "1000"), key=MASTER_KEY, length=False)
    silent, late_head, late_body, late_field = await asyncio.gather(
        exchange(proxy.url, b""),
        exchange(proxy.url, half[:-4]),
        exchange(proxy.url, half + b"{"),
        exchange(proxy.url, admin + b"{"),
    )
    assert silent == b""
    check_shape(answers(late_head)[0], 408, "request_timeout", "headers")
    check_shape(answers(late_body)[0], 408, "request_timeout", "body")
    check_shape(answers(late_field)[0], 408, "request_timeout", "body")
    call_id = UUID(answers(late_body)[0].headers["x-llm-call-id"])
    assert tuple((await proxy.book.ended(call_id)).types) == REJECTED
    await check_serves(proxy)
