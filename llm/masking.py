"""Which values of a request, an answer or a stream event are secrets, and how they are kept out of the book.

Only the value is exchanged, for a placeholder of the JSON type string; every other byte stays, so that what is stored
still reads as what was sent. Upstream and client keys travel in headers and are dropped where headers are recorded.
"""

import re
from collections.abc import Collection

from llm.json_spans import ANY, Members, Path, Span, find_spans, splice
from llm.json_text import read_json
from llm.sse import data_spans

PLACEHOLDER = b'"[masked]"'

# An MCP tool carries its token and headers, a container's network policy its domain secrets. Tools stand in the
# request, in the echo of an answer, inside items (additional_tools, tool_search_output) and inside a namespace tool.
_IN_TOOL: tuple[Path, ...] = (
    ("authorization",),
    ("headers",),
    ("container", "network_policy", "domain_secrets", ANY, "value"),
    ("environment", "network_policy", "domain_secrets", ANY, "value"),
)
_TOOL: tuple[Path, ...] = (("tools", ANY), ("tools", ANY, "tools", ANY))
_HOLDER: tuple[Path, ...] = (
    (),
    ("input", ANY),
    ("output", ANY),
    ("item",),
    ("response",),
    ("response", "input", ANY),
    ("response", "output", ANY),
)
SECRET_PATHS: tuple[Path, ...] = tuple(
    holder + tool + leaf for holder in _HOLDER for tool in _TOOL for leaf in _IN_TOOL
)
"""Paths of secrets in a request, a Response object and a stream event; one list, since none has two meanings."""

_ESCAPED_LETTER = re.compile(rb"\\u00[4-7]")
_REDACTED = "<redacted>"  # what OpenAI puts into its echo of such a value, seen in recorded answers


def mask_secrets(body: bytes, members: Members | None = None) -> tuple[bytes, int]:
    """The JSON body with its secrets masked, and how many there were; the same object when there were none.

    Args:
        body: a request, an answer or the data of a stream event.
        members: what `scan_object(body)` returned, where the caller has it.

    Raises:
        JsonError: the body may hold a secret and is not JSON; it must not be stored then.
    """
    if not _may_hold_secret(body):
        return body, 0
    return mask_paths(body, SECRET_PATHS, members)


def mask_paths(body: bytes, paths: Collection[Path], members: Members | None = None) -> tuple[bytes, int]:
    """The JSON body with the values at `paths` masked, and how many; null, "" and {} hold no secret and stay.

    Raises:
        JsonError: the body is not JSON.
    """
    spans = _secret_spans(body, paths, members)
    return splice(body, [(start, end, PLACEHOLDER) for start, end in spans]), len(spans)


def mask_block(block: bytes) -> tuple[bytes, int]:
    """An SSE block with the secrets of its JSON data masked, and how many; the same object when there were none.

    Raises:
        JsonError: the data may hold a secret and is not JSON; it must not be stored then.
    """
    if not _may_hold_secret(block):
        return block, 0
    lines = data_spans(block)
    data = b"\n".join(block[start:end] for start, end in lines)
    spans = _secret_spans(data, SECRET_PATHS, None) if data.strip() not in {b"", b"[DONE]"} else []
    edits = [(_in_block(start, lines), _in_block(end, lines), PLACEHOLDER) for start, end in spans]
    return splice(block, edits), len(edits)


def _may_hold_secret(text: bytes) -> bool:
    """Whether a key of `_IN_TOOL` may occur, in plain letters or escaped; asked of every block, hence unrolled."""
    return (
        b"authorization" in text
        or b"headers" in text
        or b"domain_secrets" in text
        or (b"\\u00" in text and _ESCAPED_LETTER.search(text) is not None)
    )


def _secret_spans(body: bytes, paths: Collection[Path], members: Members | None) -> list[Span]:
    return [span for span in find_spans(body, paths, members) if _is_secret(body[span[0] : span[1]])]


def _is_secret(raw: bytes) -> bool:
    if raw == PLACEHOLDER:
        return False
    value = read_json(raw)
    if isinstance(value, dict):
        return any(part != _REDACTED for part in value.values())
    return value not in (None, "", [], _REDACTED)


def _in_block(position: int, lines: list[Span]) -> int:
    """Where byte `position` of the joined data lies in the block; lines are joined by one byte."""
    for start, end in lines:
        if position <= end - start:
            return start + position
        position -= end - start + 1
    raise ValueError(f"position {position} lies behind the data")
