"""Which values of a request, an answer or a stream event are secrets, and how they are kept out of the book.

Only the value is exchanged, for a placeholder of the JSON type string; every other byte stays, so that what is stored
still reads as what was sent. Of a tool's URL only the parts that `tool_urls.py` names are exchanged. Upstream and
client keys travel in headers and are dropped where headers are recorded.
"""

import json
import re
from collections.abc import Collection
from typing import Any, cast
from urllib.parse import unquote

import orjson

from llm.json_spans import ANY, Members, Path, Span, find_spans, scan_object, splice
from llm.json_text import JsonError, read_json
from llm.sse import PartialBlock, data_spans
from llm.tool_urls import mask_url

MASKED = "[masked]"
PLACEHOLDER = f'"{MASKED}"'.encode()
KEY_CHARS_MIN = 8
"""A shorter key is a dummy, and would be found in words."""

_NAME_IN_QUERY = re.compile(r"(?:^|[;?])([^=;?]*)=")
_CREDENTIAL = re.compile(r"(?i)key|token|auth|secret|passw|signature|credential|^(?:sig|pwd|jwt)$")

# An MCP tool carries its token and headers, a container's network policy its domain secrets. Tools stand in the
# request, in the echo of an answer, inside items (additional_tools, tool_search_output) and inside a namespace tool.
_IN_TOOL: tuple[Path, ...] = (
    ("authorization",),
    ("headers",),
    ("container", "network_policy", "domain_secrets", ANY, "value"),
    ("environment", "network_policy", "domain_secrets", ANY, "value"),
)
#: Tools, tools of a namespace, and one level more than is known.
_TOOL: tuple[Path, ...] = tuple(("tools", ANY) * depth for depth in (1, 2, 3))
_HOLDER: tuple[Path, ...] = (
    (),
    ("input", ANY),
    ("instructions", ANY),
    ("output", ANY),
    ("data", ANY),  # a page of a response's input items
    ("item",),
    ("response",),
    ("response", "input", ANY),
    ("response", "instructions", ANY),
    ("response", "output", ANY),
)
SECRET_PATHS: tuple[Path, ...] = tuple(
    holder + tool + leaf for holder in _HOLDER for tool in _TOOL for leaf in _IN_TOOL
)
"""Paths of secrets in a request, a Response object and a stream event; one list, since none has two meanings."""
_URL_PATHS: tuple[Path, ...] = tuple(holder + tool + ("server_url",) for holder in _HOLDER for tool in _TOOL)
_Edit = tuple[int, int, bytes]

_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
_REDACTED = "<redacted>"  # what OpenAI puts into its echo of such a value, seen in recorded answers


def mask_secrets(body: bytes, members: Members | None = None, *, key: str = "") -> tuple[bytes, int]:
    """The JSON body with its secrets masked, and how many there were; the same object when there were none.

    Args:
        body: a request, an answer or the data of a stream event.
        members: what `scan_object(body)` returned, where the caller has it.
        key: the deployment's, which an upstream may repeat in its refusal.

    Raises:
        JsonError: the body may hold a secret and is not JSON; it must not be stored then.
    """
    if not (_may_have_tools(body) and _may_hold_secret(body)):
        return _without_key(body, 0, key)
    edits = _edits(body, members)
    return _without_key(splice(body, edits), len(edits), key)


def mask_block(block: bytes, key: str = "") -> tuple[bytes, int]:
    """An SSE block with the secrets of its JSON data masked, and how many; the same object when there were none.

    Raises:
        JsonError: the data may hold a secret and is not JSON; it must not be stored then.
    """
    if isinstance(block, PartialBlock):
        # A part need not say whose members it holds, nor that they are data.
        if _may_hold_secret(block):
            raise JsonError("a part of a block")
        return _without_key(block, 0, key)
    if not (_may_have_tools(block) and _may_hold_secret(block)):
        return _without_key(block, 0, key)
    lines = data_spans(block)
    data = b"\n".join(block[start:end] for start, end in lines)
    found = _edits(data, None) if data.strip() not in {b"", b"[DONE]"} else []
    edits = [(_in_block(start, lines), _in_block(end, lines), new) for start, end, new in found]
    return _without_key(splice(block, edits), len(edits), key)


def mask_text(text: str, key: str) -> str:
    """A text without the key that it may quote: what an upstream says of its refusal."""
    return text.replace(key, MASKED) if len(key) >= KEY_CHARS_MIN and key in text else text


def mask_headers(headers: list[list[str]], key: str) -> list[list[str]]:
    """Headers as the book keeps them, without the key in their values; the same list where none holds it."""
    if len(key) < KEY_CHARS_MIN or not any(key in value for _, value in headers):
        return headers
    return [[name, mask_text(value, key)] for name, value in headers]


def mask_facts(facts: dict[str, Any], key: str) -> dict[str, Any]:
    """Facts without the key in any of their texts: an upstream may say it as an id, a model or a code."""
    if len(key) < KEY_CHARS_MIN or not _may_repeat(facts, key):
        return facts
    return {name: _masked(value, key) for name, value in facts.items()}


def _may_repeat(facts: dict[str, Any], key: str) -> bool:
    """Tell whether a key may stand in facts; looked for in all of them at once, since it is hardly ever there."""
    if '"' in key or "\\" in key:  # JSON would spell it in another way
        return True
    try:
        return key.encode() in orjson.dumps(facts)
    except TypeError:
        return True


def _masked(value: Any, key: str) -> Any:
    match value:
        case str():
            return mask_text(value, key)
        case dict():
            return {name: _masked(each, key) for name, each in cast("dict[str, Any]", value).items()}
        case list():
            return [_masked(each, key) for each in cast("list[Any]", value)]
        case _:
            return value


def mask_query(query: str, key: str = "") -> str:
    """A query without the values of parameters that are named like credentials, and without the client's key."""
    return query and mask_text("&".join(map(_without_credential, query.split("&"))), key)


def mask_location(location: str, query: str, recorded: str) -> str:
    """A `location` without credentials in its query, also where it repeats the request's `query`, recorded masked."""
    echoed = location.replace(query, recorded) if query else location
    address, mark, parameters = echoed.partition("?")
    return f"{address}{mark}{mask_query(parameters)}"


def _without_credential(parameter: str) -> str:
    for name in _NAME_IN_QUERY.finditer(parameter):
        # Whoever reads a name decodes it first.
        if is_named_like_credential(unquote(name[1])):
            return f"{parameter[: name.end()]}{MASKED}"
    return parameter


def is_named_like_credential(name: str) -> bool:
    """Tell whether a parameter or a header of that name may hold a credential."""
    return _CREDENTIAL.search(name) is not None


def key_bytes(key: str) -> bytes:
    """The key as it would stand in an answer; b"" for a dummy, which is not looked for."""
    return key.encode() if len(key) >= KEY_CHARS_MIN else b""


def _without_key(body: bytes, masked: int, key: str) -> tuple[bytes, int]:
    spelt = key_bytes(key)
    if not spelt or spelt not in body:
        return body, masked
    return body.replace(spelt, MASKED.encode()), masked + body.count(spelt)


def may_hold_secret(text: bytes, key: str = "") -> bool:
    """Tell whether bytes that cannot be read as JSON, such as a part of it, may hold what would have to be masked."""
    return _may_hold_secret(text) or (len(key) >= KEY_CHARS_MIN and key.encode() in text)


def _may_have_tools(text: bytes) -> bool:
    """Whether there may be tools at all, in which alone secrets are: an answer without any says `"tools": []`.

    Asked of every body and block: one look for one word, instead of one for each of those below.
    """
    at = text.find(b"tools")
    while at >= 0:
        if text[at + 5 : at + 9] != b'":[]' and text[at + 5 : at + 10] != b'": []':
            return True
        at = text.find(b"tools", at + 9)
    return _is_unreadable(text)


def _may_hold_secret(text: bytes) -> bool:
    """Whether a key of `_IN_TOOL` or a URL may occur, in plain letters or escaped."""
    return (
        b"authorization" in text
        or b"headers" in text
        or b"domain_secrets" in text
        or b"server_url" in text
        or _is_unreadable(text)
    )


def _is_unreadable(text: bytes) -> bool:
    """Whether words in it cannot be seen: letters are escaped, or there are NULs (JSON has none, UTF-16 many).

    One letter is found several times as fast as four, and most deltas have no backslash at all.
    """
    return b"\0" in text or (b"\\" in text and b"\\u00" in text and _ESCAPED_LETTER.search(text) is not None)


def _edits(body: bytes, members: Members | None) -> list[_Edit]:
    """What is put in the place of which bytes; null, "" and {} hold no secret and stay."""
    edits: list[_Edit] = [(start, end, PLACEHOLDER) for start, end in _secret_spans(body, SECRET_PATHS, members)]
    if b"server_url" in body or _ESCAPED_LETTER.search(body) is not None:
        for start, end in find_spans(body, _URL_PATHS, members):
            edits += _edits_of_url(body, start, end)
    return edits


def _edits_of_url(body: bytes, start: int, end: int) -> list[_Edit]:
    raw = body[start:end]
    url = read_json(raw)
    if not isinstance(url, str):
        return [(start, end, PLACEHOLDER)] if _is_secret(raw) else []
    masked = mask_url(url, MASKED)
    if masked == url:
        return []
    # As it was spelt, so that but for what is masked no byte is another; unless there are escapes in it.
    spelt = json.dumps(masked, ensure_ascii=b"\\" in raw)
    return [(start, end, spelt.encode())]


def _secret_spans(body: bytes, paths: Collection[Path], members: Members | None) -> list[Span]:
    return [span for span in find_spans(body, paths, members) if _is_secret(body[span[0] : span[1]])]


def _is_secret(raw: bytes) -> bool:
    if raw == PLACEHOLDER:
        return False
    value = read_json(raw)
    if isinstance(value, dict):
        # By members, not by names: of two with one name the first may hold the secret.
        return any(read_json(raw[item.value_start : item.value_end]) != _REDACTED for item in scan_object(raw).items)
    return value not in (None, "", [], _REDACTED)


def _in_block(position: int, lines: list[Span]) -> int:
    """Where byte `position` of the joined data lies in the block; lines are joined by one byte."""
    for start, end in lines:
        if position <= end - start:
            return start + position
        position -= end - start + 1
    raise ValueError(f"position {position} lies behind the data")
