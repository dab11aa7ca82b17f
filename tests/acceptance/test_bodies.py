"""What is left out of the book: every body under `store_bodies: none`, secrets always. Looked for by canaries."""

import gzip
import json
import logging
from typing import Any
from uuid import UUID

import pytest

from ledger.journal.recovery import take_over
from ledger.verification.book import verify
from tests.acceptance.conftest import MakeProxy
from tests.support.canary import tables_with
from tests.support.proxy import MASTER_KEY, Client, LocalProxy, configuration, deployment, read_until
from tests.support.upstream import Upstream
from tests.support.upstream.framing import plain
from tests.support.upstream.framing import stream as streamed

CANARY = "canary-6f21"
USAGE = {"input_tokens": 9, "output_tokens": 4, "total_tokens": 13}
#: Every member of a request that is not documented as kept, and unknown ones.
SAYS: dict[str, Any] = {
    "model": "gpt-4o",
    "input": [{"role": "user", "content": [{"type": "input_text", "text": CANARY}, {"type": CANARY}]}],
    "instructions": CANARY,
    "metadata": {"note": CANARY, CANARY: "x", "user_id": "alice", "tags": ["kept"]},
    "tools": [
        {"type": "function", "name": CANARY, "description": CANARY, "parameters": {CANARY: CANARY}},
        {"type": "mcp", "server_url": CANARY, "authorization": CANARY, "headers": {CANARY: CANARY}},
    ],
    "tool_choice": {"type": "function", "name": CANARY},
    "include": [CANARY],
    "prompt": {"id": CANARY, "variables": {CANARY: CANARY}},
    "prompt_cache_key": CANARY,
    "conversation": CANARY,
    "text": {"format": {"type": CANARY}},
    "reasoning": {"effort": CANARY},
    "truncation": CANARY,
    "fallbacks": [CANARY],
    "unknown": {CANARY: [CANARY]},
    CANARY: 1,
}
HEADERS: dict[str, Any] = {"x_llm_note": CANARY, "x_litellm_metadata": CANARY, "cookie": CANARY, "x_y": CANARY}
PATH = f"/v1/responses?note={CANARY}&{CANARY}=1"


async def call(client: Client, body: Any, **headers: Any) -> Any:
    """Send a request that says CANARY wherever it can."""
    return await client.send(body, path=PATH, **{**HEADERS, **headers})


async def leave(proxy: LocalProxy, client: Client, upstream: Upstream, body: Any) -> UUID:
    """Ask for a stream and leave it in the middle."""
    async with client.open(body | {"stream": True}, path=PATH, **HEADERS, x_script="gated") as response:
        await read_until(response, b"\n\n")
        call_id = UUID(response.headers["x-llm-call-id"])
    upstream.gate().set()
    await proxy.book.ended(call_id)
    upstream.gate().clear()
    return call_id


async def abandon(proxy: LocalProxy, client: Client, database_url: str, body: Any) -> UUID:
    """Ask for a stream and have its journal taken over in the middle, as after a kill."""
    book = proxy.application._context.book  # pyright: ignore[reportOptionalMemberAccess] - it runs
    async with client.open(body | {"stream": True}, path=PATH, **HEADERS, x_script="gated") as response:
        await read_until(response, b"\n\n")
        call_id = UUID(response.headers["x-llm-call-id"])
        await take_over(database_url, book.journals.current.journal_id, book.estimate)
        await proxy.book.ended(call_id)
    return call_id


#: What an answer may say, in every member that is not documented as kept, and unknown ones.
ANSWERED: dict[str, Any] = {
    "object": "response",
    "instructions": CANARY,
    "incomplete_details": {"reason": CANARY},
    "metadata": {CANARY: CANARY},
    "output": [
        {
            "type": "message",
            "id": CANARY,
            "content": [{"type": "output_text", "text": CANARY, "annotations": [CANARY]}],
        },
        {"type": "function_call", "name": CANARY, "arguments": CANARY, "call_id": CANARY},
        {"type": "mcp_call", "id": CANARY, "server_label": CANARY, "output": CANARY, CANARY: CANARY},
    ],
    "tools": [{"type": "mcp", "headers": {CANARY: CANARY}, "allowed_tools": [CANARY]}, {"type": CANARY}],
    "previous_response_id": CANARY,
    "user": CANARY,
    CANARY: CANARY,
}


def said(status: str, *, code: str = "", usage: bool = True) -> dict[str, Any]:
    """A Response object that says CANARY wherever it can."""
    error = {"code": code, "message": CANARY, "param": CANARY} if code else None
    known = {"id": "resp_said", "status": status, "model": "gpt-4o-2024-08-06", "service_tier": "default"}
    return {**ANSWERED, **known, "error": error, "usage": USAGE if usage else None}


def answers_that_say_it() -> dict[str, Any]:
    """Answers of an upstream that repeat what was asked, and more, wherever an answer can."""
    body, page = json.dumps(said("completed")).encode(), f"<html>{CANARY}</html>".encode()
    refusal = {"message": CANARY, "type": "invalid_request_error", "param": CANARY, "code": "bad"}
    events = [
        {"type": "response.created", "response": said("in_progress", usage=False)},
        {"type": "response.output_text.delta", "delta": CANARY, "item_id": CANARY},
        {"type": CANARY, CANARY: CANARY},
        {"type": "response.failed", "response": said("failed", code="server_error", usage=False)},
    ]
    blocks = b"".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n".encode() for each in events)
    flat = f'data: {{"type":"error","code":"x","message":"{CANARY}","param":"{CANARY}"}}\n\n: {CANARY}\n\n'.encode()
    coded = (("content-type", "application/json"), ("content-encoding", "gzip"))
    return {
        "said": plain(body),
        "said coded": plain(gzip.compress(body), headers=coded),
        "said broken": plain(gzip.compress(body)[:-9], headers=coded),
        "said large": plain(body.replace(b'"output"', b'"x": "' + CANARY.encode() * 200_000 + b'", "output"')),
        "refused": plain(json.dumps({"error": refusal}).encode(), status=400),
        "refused flat": plain(json.dumps(refusal).encode(), status=422),
        "page": plain(page, status=502, headers=(("content-type", "text/html"),)),
        "page as answer": plain(page, headers=(("content-type", "text/html"),)),
        "moved": plain(page, status=307, headers=(("location", f"/v1/responses/?note={CANARY}&{CANARY}=1"),)),
        "said in a stream": streamed(blocks),
        "error in a stream": streamed(flat),
        "coded stream": plain(gzip.compress(blocks), headers=(*coded[1:], ("content-type", "text/event-stream"))),
        "no stream": streamed(f"{CANARY}\n\ndata: {CANARY}\n\n{CANARY}".encode()),
    }


async def every_end(proxy: LocalProxy, client: Client, upstream: Upstream, database_url: str) -> dict[str, UUID]:
    """Make calls that end in every way, and return them by how they ended."""
    made = dict[str, UUID]()
    for name, answer in answers_that_say_it().items():
        upstream.script(*[answer] * (2 if name == "page" else 1))
        made[name] = (await call(client, SAYS | {"stream": "stream" in name})).call_id
    made["plain"] = (await call(client, SAYS)).call_id
    made["stream"] = (await call(client, SAYS | {"stream": True})).call_id
    for script in ("cut_stream", "error_nested", "failed_stream", "error_500", "error_400", "cut_plain", "reset"):
        made[script] = (await call(client, SAYS | {"stream": "stream" in script}, x_script=script)).call_id
    zipped = gzip.compress(json.dumps(SAYS | {"model": "none"}).encode())
    for name, body, headers in (
        ("no model", SAYS | {"model": "gpt-none"}, {}),
        ("no json", f'{{"input": "{CANARY}", "tools": [{{"authorization": "{CANARY}"'.encode(), {}),
        ("compressed", zipped, {"content_encoding": "gzip"}),
        ("utf-16", json.dumps(SAYS).encode("utf-16"), {}),
        ("unknown coding", f"{CANARY}".encode(), {"content_encoding": "x-none"}),
        ("too many tags", SAYS | {"metadata": {"tags": list("abcdefghi")}}, {}),
        ("not found", SAYS | {"previous_response_id": CANARY}, {}),
    ):
        refused = await call(client, body, **headers)
        if refused.status >= 400:
            made[name] = refused.call_id
    asked = {"model": "gpt-4o", "input": CANARY, "stream": True}
    made["cut"] = (await call(client, asked, x_script="cut_stream")).call_id
    made["aborted"] = await leave(proxy, client, upstream, SAYS)
    made["abandoned"] = await abandon(proxy, client, database_url, SAYS)
    return made


@pytest.mark.parametrize("by", ["config", "key", "header"])
async def test_calls_without_bodies_leave_no_trace_of_what_was_said(
    make_proxy: MakeProxy, upstream: Upstream, database_url: str, caplog: pytest.LogCaptureFixture, by: str
) -> None:
    caplog.set_level(logging.DEBUG)
    general = {"log_level": "debug", **({"store_bodies": "none"} if by == "config" else {})}
    proxy = await make_proxy(configuration([deployment("gpt-4o", f"{upstream.url}/v1")], general=general))
    of_key = {"store_bodies": "none"} if by == "key" else {}
    issued = (await proxy.client.send(of_key, path="/key/generate")).json["key"]
    if by == "header":
        HEADERS["x_llm_store_bodies"] = "none"
    try:
        async with Client(proxy.url, issued) as client:
            made = await every_end(proxy, client, upstream, database_url)
    finally:
        HEADERS.pop("x_llm_store_bodies", None)
    assert len(made) >= 29
    assert await tables_with(proxy.book, CANARY) == {}
    assert CANARY not in caplog.text
    assert all(CANARY.encode() in request.body for request in upstream.requests if request.method == "POST")
    for name, call_id in made.items():
        story = await proxy.book.ended(call_id)
        assert all(event.body is None for event in story.events), name
        assert story.events[0].facts["store_bodies"] == "none"
    stream = await proxy.book.ended(made["stream"])
    sizes = [event.facts["bytes"] for event in stream.all("chunk.received")]
    assert sum(sizes) == stream.end.facts["answer_bytes"] > 1_000
    assert (stream.cost["state"], stream.events[0].facts["end_user"]) == ("billed", "alice")
    abandoned = await proxy.book.ended(made["abandoned"])
    assert (abandoned.end.type, abandoned.cost["state"]) == ("call.abandoned", "unknown")
    assert abandoned.cost["reason"].endswith("bodies are not stored")
    answer = await proxy.client.send(method="GET", path=f"/ledger/calls/{made['stream']}/replay")
    assert (answer.status, answer.error["code"]) == (404, "bodies_not_stored")
    cut = await proxy.book.ended(made["cut"])
    assert (cut.end.type, cut.cost["state"]) == ("call.truncated", "estimated")
    spent = await proxy.client.send(method="GET", path="/spend/keys")
    assert CANARY.encode() not in spent.body
    report = await verify(database_url)
    assert (report.is_sound, report.findings) == (True, [])
    told = await proxy.client.send(method="GET", path=f"/ledger/calls/{made['stream']}")
    assert (told.json["call"]["bodies_stored"], told.json["chunks"]["bytes"]) == (False, sum(sizes))


async def test_bodies_are_left_out_where_config_or_request_says_so_and_never_put_back(
    make_proxy: MakeProxy, upstream: Upstream
) -> None:
    request = {"model": "gpt-4o", "input": "hello"}
    models = [deployment("gpt-4o", f"{upstream.url}/v1")]
    proxy = await make_proxy(configuration(models))
    kept = await proxy.client.send(request, x_llm_store_bodies="all")
    assert (await proxy.book.ended(kept.call_id)).request == json.dumps(request).encode()
    refused = await proxy.client.send(request, x_llm_store_bodies="nein")
    assert (refused.status, refused.error["param"]) == (400, "x-llm-store-bodies")
    assert all(event.body is None for event in (await proxy.book.ended(refused.call_id)).events)
    strict = await make_proxy(configuration(models, general={"store_bodies": "none"}))
    answer = await strict.client.send(request, x_llm_store_bodies="all")
    assert (await strict.book.ended(answer.call_id)).request == b""
    assert all(name != "x-llm-store-bodies" for seen in upstream.requests for name in seen.headers)


async def test_response_made_without_bodies_is_read_without_them(make_proxy: MakeProxy, upstream: Upstream) -> None:
    proxy = await make_proxy(configuration([deployment("gpt-4o", f"{upstream.url}/v1")]))
    made = await proxy.client.send({"model": "gpt-4o", "input": CANARY}, x_llm_store_bodies="none")
    path = f"/v1/responses/{made.json['id']}"
    for method, below in (("GET", ""), ("GET", "?stream=true"), ("POST", "/cancel"), ("GET", "/input_items")):
        read = await proxy.client.send(method=method, path=f"{path}{below}")
        story = await proxy.book.ended(read.call_id)
        assert all(event.body is None for event in story.events), below
        assert story.events[0].facts["store_bodies"] == "none"
    assert await tables_with(proxy.book, CANARY) == {}


SECRET = "secret-0d4e"  # noqa: S105 - a canary
#: A secret wherever one is known to stand.
POLICY = {"network_policy": {"type": "allowlist", "domain_secrets": [{"domain": "a", "name": "b", "value": SECRET}]}}
MCP = {
    "type": "mcp",
    "server_label": "x",
    "server_url": f"https://user:{SECRET}@mcp.example/sse?api_key={SECRET}",
    "authorization": SECRET,
    "headers": {"x-key": SECRET, "y": "z"},
}
HIDES: dict[str, Any] = {
    "model": "gpt-4o",
    "input": [{"type": "additional_tools", "tools": [MCP]}, {"type": "tool_search_output", "tools": [MCP]}],
    "instructions": [{"type": "additional_tools", "tools": [MCP]}],
    "tools": [
        MCP,
        {"type": "namespace", "tools": [MCP, {"type": "namespace", "tools": [MCP]}]},
        {"type": "code_interpreter", "container": {"type": "auto", **POLICY}},
        {"type": "shell", "environment": {"type": "container_auto", **POLICY}},
    ],
}


async def test_secrets_are_nowhere_in_the_book_nor_in_the_log(
    make_proxy: MakeProxy, upstream: Upstream, database_url: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    key = "sk-upstream-key-of-the-tests"
    proxy = await make_proxy(
        configuration([deployment("gpt-4o", f"{upstream.url}/v1", api_key=key)], router={"num_retries": 0})
    )
    issued = (await proxy.client.send({}, path="/key/generate")).json["key"]
    headers: dict[str, Any] = {
        "cookie": SECRET,
        "x_api_key": SECRET,
        "x_llm_api_key": SECRET,
        "x_litellm_api_key": SECRET,
    }
    async with Client(proxy.url, issued) as client:
        path = f"/v1/responses?api_key={issued}&token={SECRET}&note=kept"
        for body in (HIDES, HIDES | {"stream": True}):
            spelt = json.dumps(body).replace("authorization", "\\u0061uthorization").encode()
            for sent in (body, spelt, gzip.compress(spelt)):
                is_coded = isinstance(sent, bytes) and sent.startswith(b"\x1f\x8b")
                coding: dict[str, Any] = {"content_encoding": "gzip"} if is_coded else {}
                for model in (b"gpt-4o", b"gpt-no"):
                    changed = sent if isinstance(sent, dict) else sent.replace(b"gpt-4o", model)
                    answer = await client.send(changed, path=path, **headers, **coding)
                    await proxy.book.ended(answer.call_id)
            for script in ("failed_stream", "cut_stream"):
                await client.send(body, path=path, **headers, x_script=script)
        for text in (json.dumps(HIDES).encode("utf-16"), json.dumps(HIDES).encode()[:-9]):
            assert (await client.send(text, path=path, **headers)).status == 400
        upstream.script(_refusal(f"Incorrect API key provided: {key}."))
        told = await client.send(HIDES)
        upstream.script(_refusal(f"Incorrect API key provided: {key}.", stream=True))
        await client.send(HIDES | {"stream": True})
        upstream.script("cut_stream")
        await client.send(HIDES | {"stream": True})
        stored = (await client.send(HIDES)).json["id"]
        for below in ("", "?stream=true", "/input_items"):
            await client.send(method="GET", path=f"/v1/responses/{stored}{below}")
    await proxy.client.send(HIDES)
    await leave(proxy, proxy.client, upstream, HIDES)
    await abandon(proxy, proxy.client, database_url, HIDES)
    assert told.status == 401
    for secret in (SECRET, key, issued, MASTER_KEY):
        assert await tables_with(proxy.book, secret) == {}, secret
        assert secret not in caplog.text
    assert SECRET.encode() in upstream.requests[0].body


def _refusal(message: str, *, stream: bool = False) -> Any:
    error = {"message": message, "type": "invalid_request_error", "param": None, "code": "invalid_api_key"}
    if stream:
        event = {"type": "error", "sequence_number": 0, "error": error}
        return streamed(f"event: error\ndata: {json.dumps(event)}\n\n".encode())
    return plain(json.dumps({"error": error}).encode(), status=401)
