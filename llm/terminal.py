"""How a stream or a plain answer says that it ended: the terminal event, read once for the engine and for money.

Deltas are turned away by the name of their block; JSON is only read where an end is possible. An answer that merely
breaks off has no terminal event: that is for the engine to notice.
"""

import re
from typing import Any, NamedTuple, cast

from llm.json_text import JsonError, read_json
from llm.sse import data, event_name

TERMINAL_KINDS = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled", "error"}
)
"""Event types that end a call. `response.cancelled` is not sent by OpenAI today. `error` need not be the last event: a
`response.failed` may follow it (seen in recorded traffic)."""

# In a block without a name the JSON's type decides; the rest of the JSON is not worth reading for a delta.
_MAY_BE_TERMINAL = re.compile(rb'response\.(?:completed|incomplete|failed|cancelled)|"error"|\\u00')

_CR, _LF = b"\r\n"
# Names of which more must be known; an empty name and "message" are no name.
_READ_NAMES = frozenset({kind.encode() for kind in TERMINAL_KINDS} | {b"", b"message"})


class ErrorFacts(NamedTuple):
    """What an error says, in whichever shape it came; "" where it says nothing, codes that are numbers as text."""

    message: str
    type: str
    param: str
    code: str


class TerminalEvent(NamedTuple):
    """An event that ends a call."""

    kind: str
    """One of `TERMINAL_KINDS`."""
    payload: dict[str, Any]
    """The event's JSON; {} when unreadable."""
    readable: bool = True
    """False for an event whose name says that the call ended and whose data is no JSON object."""

    @property
    def response(self) -> dict[str, Any] | None:
        """The Response object that the event carries; None where it carries none (`error` never does)."""
        return _mapping(self.payload.get("response"))

    @property
    def error(self) -> ErrorFacts | None:
        """The error that the event or its Response names; None without one."""
        if self.kind == "error":
            # Flat in OpenAI's specification, nested under "error" on the wire; both occur.
            nested = self.payload.get("error")
            return read_error(self.payload if nested is None else nested)
        response = self.response
        return None if response is None else read_error(response.get("error"))


def read_terminal(block: bytes) -> TerminalEvent | None:
    """The terminal event that the block is; None for every other block. Never raises, whatever the block holds.

    The block's name decides whether its JSON is read, the JSON's type which terminal it is; where there is no name, or
    the name "message", the type decides alone. JSON without a type but with a top-level `error` is an `error`, as the
    OpenAI SDK reads it.
    """
    if is_plain(block):
        return None
    name = event_name(block)
    if name == "message":
        name = None
    if name not in TERMINAL_KINDS if name is not None else _MAY_BE_TERMINAL.search(block) is None:
        return None
    try:
        payload = _mapping(read_json(data(block)))
    except JsonError:
        payload = None
    if payload is None:
        return None if name is None else TerminalEvent(name, {}, readable=False)
    kind = payload.get("type")
    if not isinstance(kind, str) or kind not in TERMINAL_KINDS:
        kind = "error" if name is None and kind is None and payload.get("error") else name
    return None if kind is None else TerminalEvent(kind, payload)


def is_plain(block: bytes) -> bool:
    """Whether the block is plainly no terminal: an event line with another name, a data line, a blank line, LF only.

    That is how OpenAI frames events. A search for one byte costs a tenth of a search for two, hence the integers.
    """
    first = block.find(_LF)
    return (
        first > 0
        and block[:7] == b"event: "
        and block[7:first] not in _READ_NAMES
        and block.find(_LF, first + 1) == len(block) - 2
        and block[first + 1] == ord("d")
        and _CR not in block
    )


def read_error(value: Any) -> ErrorFacts | None:
    """The facts of an error object (`{"message", "type", "param", "code"}`) or of a bare text; else None."""
    if isinstance(value, str):
        return ErrorFacts(message=value, type="", param="", code="")
    error = _mapping(value)
    if error is None:
        return None
    return ErrorFacts(
        message=_text(error.get("message")),
        type=_text(error.get("type")),
        param=_text(error.get("param")),
        code=_text(error.get("code")),
    )


def _mapping(value: Any) -> dict[str, Any] | None:
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    return str(value) if isinstance(value, int) and not isinstance(value, bool) else ""
