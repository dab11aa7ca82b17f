"""Which blocks end a call, and what they say about it."""

import pytest

from llm.sse import BlockSplitter
from llm.terminal import TERMINAL_KINDS, ErrorFacts, TerminalEvent, read_error, read_terminal
from tests.support.corpus import recorded_rows


@pytest.mark.parametrize(
    "block",
    [
        b'event: response.output_text.delta\ndata: {"type":"response.completed"}\n\n',
        b'event: response.output_text.delta\r\ndata: {"type":"response.completed"}\r\n\r\n',
        b'data: {"type":"response.output_text.delta","delta":"response.completed"}\n\n',
        b'data: {"type":"response.failing"}\n\n',
        b'data: {"response.completed": \n\n',
        b'data: ["response.completed"]\n\n',
        b'event: message\ndata: {"error": null}\n\n',
        b"data: [DONE]\n\n",
        b": response.completed\n\n",
        b"event: x\n",
        b"event: ",
        b"\n\n",
        b"",
        b'data: {"type": ["response.completed"]}\n\n',
        b'data: "response.completed" ' + b"[" * 100_000 + b"\n\n",
    ],
)
def test_read_terminal_of_any_other_block_is_none(block: bytes) -> None:
    assert read_terminal(block) is None


@pytest.mark.parametrize("kind", sorted(TERMINAL_KINDS))
@pytest.mark.parametrize(
    "template",
    [
        'event: {0}\ndata: {{"type":"{0}","n":1.10}}\n\n',
        'event: {0}\r\ndata: {{"n":1.10,"type":"{0}"}}\r\n\r\n',
        'data: {{"n":1.10,"type":"{0}"}}\n\n',
        'event: message\ndata: {{"n":1.10,"type":"{0}"}}\n\n',
        'event:{0}\ndata:{{"n":1.10,\ndata:"type":"{0}"}}\n\n',
        '\n\nevent: {0}\ndata: {{"type":"{0}","n":1.10}}\n\n',
    ],
)
def test_read_terminal_of_an_end_reads_its_kind_and_json(kind: str, template: str) -> None:
    terminal = read_terminal(template.format(kind).encode())
    assert terminal is not None
    assert terminal.kind == kind
    assert terminal.readable
    assert terminal.payload == {"type": kind, "n": "1.10"}


def test_read_terminal_with_a_second_event_line_goes_by_the_last() -> None:
    assert read_terminal(b"event: a\nevent: error\n\n") == TerminalEvent("error", {}, readable=False)
    for line_end in (b"\r", b"\n", b"\r\n"):
        block = b"event: a\ndata: {}" + line_end + b"event: error\n\n"
        assert read_terminal(block) == TerminalEvent("error", {})


@pytest.mark.parametrize("bad", [b"", b"{", b"[]", b"NaN", b"\xff", b'{"a":' + b"[" * 5_000])
def test_read_terminal_with_unreadable_json_says_so(bad: bytes) -> None:
    block = b"event: response.completed\ndata: " + bad + b"\n\n"
    assert read_terminal(block) == TerminalEvent("response.completed", {}, readable=False)


def test_read_terminal_where_name_and_type_differ_goes_by_the_type() -> None:
    terminal = read_terminal(b'event: response.completed\ndata: {"type":"response.failed"}\n\n')
    assert terminal is not None
    assert terminal.kind == "response.failed"
    terminal = read_terminal(b'event: error\ndata: {"type":"server_error","message":"m"}\n\n')
    assert terminal is not None
    assert (terminal.kind, terminal.error) == ("error", ErrorFacts("m", "server_error", "", ""))


@pytest.mark.parametrize(
    "data",
    [
        '{"type":"error","code":"insufficient_quota","message":"no money","param":null}',
        '{"type":"error","error":{"type":"t","code":"insufficient_quota","message":"no money","param":null}}',
        '{"error":{"code":"insufficient_quota","message":"no money"}}',
    ],
)
def test_error_of_an_error_event_is_read_in_every_shape(data: str) -> None:
    terminal = read_terminal(f"data: {data}\n\n".encode())
    assert terminal is not None
    assert terminal.kind == "error"
    assert terminal.response is None
    assert terminal.error is not None
    assert (terminal.error.code, terminal.error.message, terminal.error.param) == ("insufficient_quota", "no money", "")


def test_error_of_a_failed_response_is_the_responses_own() -> None:
    block = b'event: response.failed\ndata: {"type":"response.failed","response":{"id":"r","error":{"code":429}}}\n\n'
    terminal = read_terminal(block)
    assert terminal is not None
    assert terminal.response == {"id": "r", "error": {"code": 429}}
    assert terminal.error == ErrorFacts("", "", "", "429")


def test_read_error_of_text_and_of_nothing() -> None:
    assert read_error("plain") == ErrorFacts("plain", "", "", "")
    assert read_error(None) is None
    assert read_error({"code": True, "message": ["x"]}) == ErrorFacts("", "", "", "")


@pytest.mark.corpus
def test_read_terminal_of_recorded_streams_finds_an_end_in_each() -> None:
    for row in recorded_rows():
        if not row.stream:
            continue
        blocks = BlockSplitter(1 << 24).feed(row.response_body.encode())
        terminals = [terminal for block in blocks if (terminal := read_terminal(block)) is not None]
        kinds = [event["type"] for event in row.events() if event["type"] in TERMINAL_KINDS]
        assert [terminal.kind for terminal in terminals] == kinds
        assert terminals
        last = terminals[-1]
        assert last.readable
        assert (last.response or {}).get("id") is not None or last.error is not None
