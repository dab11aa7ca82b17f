"""Awkward plain answers and requests: refusals, breaks, codings, lengths; what is retried and what is passed on."""

import gzip
import hashlib
import json
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

import brotli
import pytest
import pytest_asyncio
import zstandard

from llm import upstream_http
from tests.acceptance.conftest import MakeProxy
from tests.support.proxy import LocalProxy, configuration, deployment, raw_exchange
from tests.support.upstream import SCRIPTS, Answer, Close, Upstream, Write, head

pytestmark = pytest.mark.asyncio(loop_scope="module")

REQUEST: dict[str, Any] = {"model": "gpt-4o", "input": "hello wires"}


@dataclass(frozen=True)
class Case:
    """What a client gets, and the book says, of a script's answer; attempts: how many the upstream sees."""

    script: str
    status: int
    attempts: int = 1
    end: str = "call.failed"
    state: str = "billed"
    code: str | None = None


PASSED_ON = [
    Case("error_400", 400),
    Case("error_400_context", 400),
    Case("error_404", 404),
    Case("error_408", 408, attempts=2),
    Case("error_409", 409, attempts=2),
    Case("error_422", 422),
    Case("error_429_ms", 429, attempts=2),
    Case("error_429_long", 429),
    Case("error_429_date", 429),
    Case("error_429_quota", 429),
    Case("error_400_should_retry", 400, attempts=2),
    Case("error_500", 500, attempts=2),
    Case("error_500_integer_code", 500, attempts=2),
    Case("error_502", 502, attempts=2),
    Case("error_504", 504, attempts=2),
    Case("error_529", 529),
    Case("error_string", 500, attempts=2),
    Case("error_empty", 500, attempts=2, state="unknown"),
    Case("html_502", 502, attempts=2, state="unknown"),
    Case("redirect_301", 301),
    Case("redirect_307", 307),
    Case("html_200", 200, end="call.completed", state="unknown"),
    Case("empty_200", 200, end="call.completed", state="unknown"),
    Case("bad_json_200", 200, end="call.completed", state="unknown"),
    Case("no_usage", 200, end="call.completed", state="unknown"),
    Case("incomplete", 200, end="call.incomplete"),
    Case("failed", 200, state="unknown"),
    Case("no_content_type", 200, end="call.completed"),
    Case("until_close", 200, end="call.completed"),
    Case("drip", 200, end="call.completed"),
    Case("gzip", 200, end="call.completed"),
    Case("br", 200, end="call.completed"),
    Case("zstd", 200, end="call.completed"),
    Case("deflate", 200, end="call.completed"),
    Case("gzip_broken", 200, end="call.completed", state="unknown"),
    Case("cut_gzip", 200, end="call.completed", state="unknown"),
    Case("json_list", 200, end="call.completed", state="unknown"),
    Case("json_text", 200, end="call.completed", state="unknown"),
    Case("stream_called_json", 200, end="call.completed", state="unknown"),
    Case("no_content", 204, end="call.completed", state="unknown"),
    Case("interim", 200, end="call.completed"),
]
#: Nothing can be seen of what these hold, so it is not stored.
UNREADABLE = {"gzip_broken", "cut_gzip"}
OWN_ANSWER = [
    Case("close", 502, attempts=2, state="unknown", code="upstream_disconnected"),
    Case("reset", 502, attempts=2, state="unknown", code="upstream_disconnected"),
    Case("partial_head", 502, attempts=2, state="unknown", code="upstream_disconnected"),
    Case("not_http", 502, attempts=2, state="unknown", code="upstream_protocol"),
    Case("cut_plain", 502, attempts=2, state="unknown", code="upstream_cut"),
    Case("long_length", 502, attempts=2, state="unknown", code="upstream_cut"),
    Case("short_length", 502, attempts=2, state="unknown", code="upstream_protocol"),
    Case("cut_chunked", 502, attempts=2, state="unknown", code="upstream_cut"),
    Case("switching", 502, attempts=2, state="unknown", code="upstream_protocol"),
    Case("status_999", 502, attempts=2, state="unknown", code="upstream_protocol"),
    Case("huge_headers", 502, attempts=2, state="unknown", code="upstream_protocol"),
    Case("never", 504, attempts=2, state="unknown", code="upstream_timeout"),
    Case("stalled_plain", 504, attempts=2, state="unknown", code="upstream_timeout"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(make_shared_proxy: MakeProxy, shared_upstream: Upstream) -> LocalProxy:
    base = f"{shared_upstream.url}/v1"
    models = [deployment("gpt-4o", base, timeout=1), deployment("alias", base, model="gpt-4o-mini")]
    return await make_shared_proxy(configuration(models, general={"max_request_bytes": 1_000_000}))


@pytest.fixture
def upstream(shared_upstream: Upstream) -> Upstream:
    shared_upstream.log.requests.clear()
    return shared_upstream


@pytest.mark.parametrize("case", PASSED_ON, ids=[case.script for case in PASSED_ON])
async def test_answer_of_the_upstream_is_passed_on_as_it_is_and_recorded_as_what_it_was(
    proxy: LocalProxy, upstream: Upstream, case: Case
) -> None:
    upstream.script(*[case.script] * case.attempts)
    answered = await proxy.client.send(REQUEST, accept_encoding="gzip, br, zstd, deflate")
    story = await proxy.book.ended(answered.call_id)
    assert (answered.status, len(upstream.requests)) == (case.status, case.attempts)
    assert answered.is_complete
    withheld_bytes = story.all("body.received")[-1].facts.get("withheld_bytes")
    assert withheld_bytes == (len(answered.body) if case.script in UNREADABLE else None)
    if withheld_bytes is None:
        assert story.answer == answered.body
    assert (story.end.type, story.cost["state"]) == (case.end, case.state), story.cost["reason"]
    assert story.end.facts["http_status"] == case.status
    assert answered.headers["x-llm-attempted-retries"] == str(case.attempts - 1)
    costs = [event.facts for event in story.all("cost.recorded")]
    assert [cost["final"] for cost in costs] == [*[False] * (case.attempts - 1), True]
    assert sum(cost["calls"] for cost in costs) == 1
    if case.status != 200:
        assert story.billed_usd == 0
    elif case.state == "billed":
        assert Decimal(answered.headers["x-llm-response-cost"]) == story.billed_usd > 0
    else:
        assert "x-llm-response-cost" not in answered.headers
    replay = await proxy.client.send(method="GET", path=f"/ledger/calls/{answered.call_id}/replay")
    assert (replay.status, replay.body) == (answered.status, b"" if case.script in UNREADABLE else answered.body)


@pytest.mark.parametrize("case", OWN_ANSWER, ids=[case.script for case in OWN_ANSWER])
async def test_upstream_without_a_whole_answer_is_a_5xx_in_openais_shape_and_a_cost_that_is_not_zero(
    proxy: LocalProxy, upstream: Upstream, case: Case
) -> None:
    upstream.script(*[case.script] * case.attempts)
    answered = await proxy.client.send(REQUEST)
    story = await proxy.book.ended(answered.call_id)
    assert (answered.status, answered.error["code"], answered.error["type"]) == (case.status, case.code, "server_error")
    assert len(upstream.requests) == case.attempts == len(story.all("attempt.failed"))
    assert [event.facts["state"] for event in story.all("cost.recorded")] == ["unknown"] * case.attempts
    assert story.end.type == "call.failed"
    assert upstream.url not in answered.body.decode()


@pytest.mark.parametrize("script", ["cut_plain", "cut_chunked", "stalled_plain", "long_length"])
async def test_part_of_an_answer_that_broke_off_is_recorded_as_a_part(
    proxy: LocalProxy, upstream: Upstream, script: str
) -> None:
    upstream.script(script, script)
    answered = await proxy.client.send(REQUEST)
    story = await proxy.book.ended(answered.call_id)
    bodies = story.all("body.received")
    assert [event.facts["partial"] for event in bodies] == [True, True]
    sent = SCRIPTS[script](upstream.requests[-1], "resp_" + "0" * 48).body
    assert len(bodies[-1].body or b"") == len(sent) == story.end.facts["answer_bytes"]
    assert (bodies[-1].body or b"").startswith(b'{"id": "resp_')
    replay = await proxy.client.send(method="GET", path=f"/ledger/calls/{answered.call_id}/replay")
    assert (replay.status, replay.body) == (502 if script != "stalled_plain" else 504, answered.body)


async def test_part_of_an_answer_that_may_hold_a_secret_is_withheld(proxy: LocalProxy, upstream: Upstream) -> None:
    part = b'{"id": "resp_x", "tools": [{"authorization": "s3cret", "type"'
    cut = Answer(
        "cut", (Write(head(200, [("content-length", "1000")]) + part), Close()), 200, (), part, keep_alive=False
    )
    upstream.script(cut, cut)
    answered = await proxy.client.send(REQUEST)
    story = await proxy.book.ended(answered.call_id)
    for event in story.all("body.received"):
        assert not event.body
        assert event.facts["withheld_bytes"] == len(part)


@pytest.mark.parametrize(("script", "status"), [("error_401", 401), ("error_403", 403)])
async def test_refusal_of_the_proxys_own_key_need_not_blame_the_clients(
    make_shared_proxy: MakeProxy, upstream: Upstream, script: str, status: int
) -> None:
    models = [deployment("gpt-4o", f"{upstream.url}/v1")]
    proxy = await make_shared_proxy(configuration(models, general={"upstream_key_errors": "own"}))
    upstream.script(script)
    answered = await proxy.client.send(REQUEST)
    story = await proxy.book.ended(answered.call_id)
    assert (answered.status, answered.error["code"]) == (502, "upstream_key_refused")
    assert answered.headers["x-should-retry"] == "false"
    assert "www-authenticate" not in answered.headers
    assert len(upstream.requests) == 1
    assert story.one("attempt.answered").facts["status"] == status
    assert story.one("body.received").body
    assert (story.end.type, story.end.facts["http_status"]) == ("call.failed", 502)
    assert (story.cost["state"], story.billed_usd) == ("billed", 0)
    replay = await proxy.client.send(method="GET", path=f"/ledger/calls/{answered.call_id}/replay")
    assert (replay.status, replay.body) == (502, answered.body)


async def test_header_with_control_characters_reaches_the_client_without_them(
    proxy: LocalProxy, upstream: Upstream
) -> None:
    wire = head(200, [("content-type", "application/json"), ("x-odd", "a\x01b\x7fc"), ("content-length", "2")]) + b"{}"
    upstream.script(Answer("odd", (Write(wire),), 200, (), b"{}"))
    answered = await proxy.client.send(REQUEST)
    assert answered.status in {200, 502}
    assert answered.headers.get("x-odd", "abc") == "abc"


@pytest.mark.parametrize("base", ["http://no-such-host.invalid/v1", "https://{plain}/v1"])
async def test_upstream_that_cannot_be_reached_costs_nothing(
    monkeypatch: pytest.MonkeyPatch, make_shared_proxy: MakeProxy, upstream: Upstream, base: str
) -> None:
    # The stand-in upstream does not answer a TLS greeting.
    monkeypatch.setattr(upstream_http, "CONNECT_TIMEOUT_S", 0.5)
    api_base = base.format(plain=upstream.url.removeprefix("http://"))
    proxy = await make_shared_proxy(configuration([deployment("gpt-4o", api_base)], router={"num_retries": 0}))
    answered = await proxy.client.send(REQUEST)
    story = await proxy.book.ended(answered.call_id)
    assert (answered.status, answered.error["code"]) == (502, "upstream_connect")
    assert [event.facts["sent"] for event in story.all("attempt.failed")] == [False]
    # Where its upstreams lie is nothing that clients are told; the book says it.
    assert "://" not in answered.error["message"]
    assert story.one("attempt.started").facts["url"] == f"{api_base}/responses"
    assert (story.cost["state"], story.billed_usd) == ("billed", 0)


async def test_upstream_that_refuses_connections_costs_nothing(make_shared_proxy: MakeProxy) -> None:
    async with Upstream() as gone:
        base = f"{gone.url}/v1"
    proxy = await make_shared_proxy(configuration([deployment("gpt-4o", base)]))
    answered = await proxy.client.send(REQUEST)
    story = await proxy.book.ended(answered.call_id)
    assert (answered.status, answered.error["code"]) == (502, "upstream_connect")
    assert [event.facts["sent"] for event in story.all("attempt.failed")] == [False, False]
    assert (story.cost["state"], story.billed_usd) == ("billed", 0)


async def test_refusal_after_its_retries_keeps_the_upstreams_headers(proxy: LocalProxy, upstream: Upstream) -> None:
    upstream.script("error_429", "error_429")
    answered = await proxy.client.send(REQUEST)
    assert (answered.status, len(upstream.requests)) == (429, 2)
    assert answered.headers["retry-after"] == "1"
    assert answered.headers["x-ratelimit-remaining-tokens"] == "0"
    assert answered.headers["x-request-id"] == f"req_{upstream.requests[-1].serial:032x}"
    assert (upstream.requests[1].at - upstream.requests[0].at).total_seconds() >= 1
    quota = await proxy.client.send(REQUEST | {"metadata": {"script": "error_429_quota"}})
    assert quota.headers["x-should-retry"] == "false"


async def test_redirect_is_neither_followed_nor_hidden(proxy: LocalProxy) -> None:
    answered = await proxy.client.send(REQUEST | {"metadata": {"script": "redirect_307"}})
    assert (answered.status, answered.body) == (307, b"moved\n")
    assert answered.headers["location"] == "https://example.invalid/v1/responses"


ENCODERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "deflate": zlib.compress,
    "br": brotli.compress,
    "zstd": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("coding", ENCODERS)
async def test_compressed_request_goes_on_and_is_stored_as_it_came(
    proxy: LocalProxy, upstream: Upstream, coding: str
) -> None:
    body = ENCODERS[coding](json.dumps(REQUEST | {"safety_identifier": "alice"}).encode())
    answered = await proxy.client.send(body, content_encoding=coding)
    story = await proxy.book.ended(answered.call_id)
    assert upstream.requests[-1].body == body
    assert upstream.requests[-1].header("content-encoding") == coding
    assert story.request == body
    received = story.one("call.received").facts
    assert (received["model"], received["end_user"], received["content_encoding"]) == ("gpt-4o", "alice", coding)


async def test_compressed_request_for_an_alias_goes_on_decoded_with_the_models_name(
    proxy: LocalProxy, upstream: Upstream
) -> None:
    plain = b'{"input" : "x\\u00e9\xc3\xa9", "model":"alias" , "n":1.10, "n":1e2}'
    answered = await proxy.client.send(gzip.compress(plain), content_encoding="gzip")
    assert answered.status == 200
    assert upstream.requests[-1].body == plain.replace(b'"alias"', b'"gpt-4o-mini"')
    assert upstream.requests[-1].header("content-encoding") is None


@pytest.mark.parametrize(
    ("coding", "body", "status", "code"),
    [
        ("lzma", b"{}", 415, "unsupported_content_encoding"),
        ("gzip", b"not gzip", 400, None),
        ("gzip", gzip.compress(b"{" + b" " * 2_000_000 + b"}"), 413, "request_too_large"),
        ("identity", b'{"model": "gpt-4o", "input": ', 400, None),
        ("identity", b"[]", 400, None),
        ("identity", b'{"input": "no model"}', 400, "missing_required_parameter"),
        ("identity", b'{"model": 7}', 400, "missing_required_parameter"),
    ],
)
async def test_request_that_cannot_be_read_is_refused_and_recorded(
    proxy: LocalProxy, upstream: Upstream, coding: str, body: bytes, status: int, code: str | None
) -> None:
    answered = await proxy.client.send(body, content_encoding=coding)
    story = await proxy.book.ended(answered.call_id)
    assert (answered.status, answered.error["code"]) == (status, code)
    assert answered.error["type"] == "invalid_request_error"
    assert story.types == ["call.received", "call.rejected"]
    is_withheld = "withheld_bytes" in story.one("call.received").facts
    assert is_withheld == (coding != "identity" and status != 413)
    assert story.request == (b"" if is_withheld else body)
    assert upstream.requests == []


async def test_only_the_value_of_model_and_own_fields_differ_upstream(proxy: LocalProxy, upstream: Upstream) -> None:
    given = (
        b'{ "num_retries":0,"model" :\t"alias","unknown":[1e400,0.10,-0],"input":"\\ud83d\\ude00 \xf0\x9f\x98\x80",\n'
        b'"metadata":{"tags":["b","a"],"trip":"x"},"nested":{"model":"alias"} , "fallbacks":["gpt-4o"] }'
    )
    wanted = (
        b'{ "model" :\t"gpt-4o-mini","unknown":[1e400,0.10,-0],"input":"\\ud83d\\ude00 \xf0\x9f\x98\x80",\n'
        b'"metadata":{"trip":"x"},"nested":{"model":"alias"} }'
    )
    answered = await proxy.client.send(given)
    story = await proxy.book.ended(answered.call_id)
    assert upstream.requests[-1].body == wanted
    sha256 = hashlib.sha256(wanted).hexdigest()
    assert answered.headers["x-seen-sha256"] == story.one("attempt.started").facts["sent_sha256"] == sha256
    assert story.request == given
    assert story.one("call.received").facts["tags"] == ["a", "b"]


async def test_texts_in_metadata_are_not_touched(proxy: LocalProxy, upstream: Upstream) -> None:
    given = b'{"model":"gpt-4o","input":"x","metadata":{"tags":"b, a","user_id":"u-1"}}'
    answered = await proxy.client.send(given, x_llm_tags="c", x_litellm_tags="a,d")
    story = await proxy.book.ended(answered.call_id)
    assert upstream.requests[-1].body == given
    received = story.one("call.received").facts
    assert (received["tags"], received["end_user"]) == (["a", "b", "c", "d"], "u-1")


async def test_headers_that_concern_the_proxy_only_do_not_reach_the_upstream(
    proxy: LocalProxy, upstream: Upstream
) -> None:
    await proxy.client.send(
        REQUEST,
        cookie="a=b",
        x_llm_end_user_id="alice",
        x_forwarded_for="10.0.0.1",
        openai_organization="org-x",
        x_api_key="sk-second",
        openai_beta="responses_multi_agent=v1",
        x_client_request_id="abc",
    )
    names = {name.lower() for name, _ in upstream.requests[-1].headers}
    assert {"openai-beta", "x-client-request-id", "authorization"} <= names
    assert not names & {"cookie", "x-llm-end-user-id", "x-forwarded-for", "openai-organization", "x-api-key"}
    assert upstream.requests[-1].header("authorization") == "Bearer sk-upstream"


@pytest.mark.parametrize(
    "path",
    [
        "/v1/responses/resp_x/../../files",
        "/v1/responses/%2e%2e/files",
        "/v1/responses/resp_x%2f..%2f..%2ffiles",
        "/v1/responses/resp_x%3fbeta=true",
        "/v1/responses//x",
        "/responsesx",
        "/v1/v1/responses",
    ],
)
async def test_path_that_leads_elsewhere_is_not_passed_on(proxy: LocalProxy, upstream: Upstream, path: str) -> None:
    answer = await raw_exchange(proxy.url, f"GET {path} HTTP/1.1")
    assert answer.startswith("HTTP/1.1 404")
    assert '"unknown_url"' in answer
    assert upstream.requests == []
