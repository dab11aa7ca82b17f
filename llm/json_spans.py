"""Where the values of a JSON body lie, byte for byte, and edits that leave every other byte alone.

A body that went through a typed model comes out with other key order, other number spelling and without the fields
that the model does not know. Here the client's bytes stay what they are; only named spans are exchanged. Which spans
are secret is said in `llm.masking`, how a value is read in `llm.json_text`.
"""

import json
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from json.decoder import scanstring  # pyright: ignore[reportAttributeAccessIssue] - lacks in typeshed, stable since 2.7
from typing import Any, NamedTuple

from llm.json_text import JsonError, bom_bytes, check_depth, check_not_utf16, read_json, refuse_constant, utf8

Span = tuple[int, int]
"""Start and end (exclusive) in bytes of the body."""

Path = tuple[str, ...]
"""Keys from the outermost value inward; `ANY` stands for each element of an array."""

ANY = "*"

_PLAIN_NAME = re.compile(r"[A-Za-z0-9_]+")  # can only be escaped as \u00..; ANY and other names are not looked for
_ESCAPED_ASCII = re.compile(r"\\u00[2-7]")
_SPACE = re.compile(r"[ \t\n\r]*+")
# Values are only stepped over: their numbers may stay text, which no number is too long for.
_decoder = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=refuse_constant)
_skip = _decoder.scan_once  # pyright: ignore[reportAttributeAccessIssue] - lacks in typeshed, set by JSONDecoder


class Member(NamedTuple):
    """One `"name": value` of an object; offsets are bytes of the body."""

    name: str
    key_start: int
    value_start: int
    value_end: int


class Members:
    """The members of a body's outermost object, in the order sent, duplicates included."""

    __slots__ = ("_body", "items")

    def __init__(self, body: bytes, items: Sequence[Member]) -> None:
        self._body = body
        self.items = tuple(items)

    def __contains__(self, name: str) -> bool:
        return any(member.name == name for member in self.items)

    def names(self) -> list[str]:
        """All names, unescaped, as often as they occur."""
        return [member.name for member in self.items]

    def spans(self, name: str) -> list[Span]:
        """The spans of all values under that name, in order; [] when there is none."""
        return [(member.value_start, member.value_end) for member in self.items if member.name == name]

    def raw(self, name: str) -> bytes | None:
        """The bytes of the value under that name (the last one, as readers of duplicate keys do); None when absent."""
        spans = self.spans(name)
        return self._body[spans[-1][0] : spans[-1][1]] if spans else None

    def get(self, name: str, default: Any = None) -> Any:
        """The value under that name (the last one), read as `llm.json_text.read_json` does; `default` when absent."""
        raw = self.raw(name)
        return default if raw is None else read_json(raw)


def scan_object(body: bytes) -> Members:
    """Find the members of the object that the body is, in one pass over it.

    The C scanner of the standard library walks the body decoded as Latin-1, in which a character is a byte; all of
    JSON's structure is ASCII, which UTF-8 never uses inside another character.

    Raises:
        JsonError: not UTF-8, not JSON, not an object, nested too deep, or followed by something else; with position.
    """
    text, start = _text(body)
    if text[start : start + 1] != "{":
        raise JsonError("the body is not a JSON object", start)
    members, end = _members(text, start)
    end = _after_space(text, end)
    if end != len(text):
        raise JsonError("the JSON object is followed by something else", end)
    return Members(body, members)


def replace_values(
    body: bytes,
    values: Mapping[str, bytes],
    remove: Collection[str] = frozenset(),
    members: Members | None = None,
) -> bytes:
    """Exchange the values of top-level members and remove others; every other byte stays.

    Args:
        body: a JSON object.
        values: new JSON text by name; a name that the body lacks is not added; of duplicates each is replaced.
        remove: names whose members go, with their comma; wins over `values`.
        members: what `scan_object(body)` returned, where the caller has it.

    Raises:
        JsonError: the body is not a JSON object.
    """
    items = (members or scan_object(body)).items
    edits = [
        (member.value_start, member.value_end, values[member.name])
        for member in items
        if member.name in values and member.name not in remove
    ]
    edits += [(start, end, b"") for start, end in _removals(items, remove)]
    return splice(body, edits)


def _removals(items: Sequence[Member], remove: Collection[str]) -> Iterator[Span]:
    kept_end: int | None = None  # where the last kept member ends; what follows it at the end of the object goes
    run_start: int | None = None  # first member of the run of removed ones under way
    for member in items:
        if member.name in remove:
            run_start = member.key_start if run_start is None else run_start
            continue
        if run_start is not None:
            yield run_start, member.key_start
        run_start, kept_end = None, member.value_end
    if run_start is not None:
        yield (run_start if kept_end is None else kept_end), items[-1].value_end


def splice(body: bytes, edits: Iterable[tuple[int, int, bytes]]) -> bytes:
    """The body with each (start, end) replaced by its bytes; edits must not overlap."""
    pieces: list[bytes] = []
    position = 0
    for start, end, new in sorted(edits):
        if start < position:
            raise ValueError(f"edits overlap at byte {start}: the one before ends at {position}")
        pieces += (body[position:start], new)
        position = end
    if not pieces:
        return body
    pieces.append(body[position:])
    return b"".join(pieces)


def find_spans(body: bytes, paths: Collection[Path], members: Members | None = None) -> list[Span]:
    """The spans of all values at these paths, in order; below a value that is found nothing further is looked for.

    Args:
        body: any JSON value.
        paths: see `Path`; a name of the path is compared with keys after unescaping, duplicates all count.
        members: what `scan_object(body)` returned, where the caller has it; saves one pass.

    Raises:
        JsonError: the body is not JSON.
    """
    found: list[Span] = []
    if members is not None:
        _search_members(body.decode("latin-1"), members.items, paths, found)
        return found
    text, start = _text(body)
    end = _after_space(text, _value_end(text, start))
    if end != len(text):
        raise JsonError("the JSON value is followed by something else", end)
    _search(text, start, paths, found)
    return found


def _search(text: str, start: int, paths: Collection[Path], found: list[Span]) -> None:
    """Recurses at most as deep as the longest path."""
    opening = text[start]
    if opening == "{":
        _search_members(text, _members(text, start)[0], paths, found)
    elif opening == "[":
        tails = [path[1:] for path in paths if path[0] == ANY]
        if tails:
            for span in _elements(text, start):
                _enter(text, span, tails, found)


def _search_members(text: str, members: Iterable[Member], paths: Collection[Path], found: list[Span]) -> None:
    by_name: dict[str, list[Path]] = {}
    for path in paths:
        by_name.setdefault(path[0], []).append(path[1:])
    by_name.pop(ANY, None)
    for member in members:
        tails = by_name.get(member.name)
        if tails is not None:
            _enter(text, (member.value_start, member.value_end), tails, found)


def _enter(text: str, span: Span, tails: Collection[Path], found: list[Span]) -> None:
    if () in tails:
        found.append(span)
        return
    possible = [tail for tail in tails if _may_occur(text, span, tail)]
    if possible:
        _search(text, span[0], possible, found)


def _may_occur(text: str, span: Span, tail: Path) -> bool:
    """Whether all keys of a path occur in a value, as plain text or perhaps escaped; most values are not entered so."""
    for name in tail:
        plain = _PLAIN_NAME.fullmatch(name) is not None
        if plain and text.find(f'"{name}"', *span) < 0 and _ESCAPED_ASCII.search(text, *span) is None:
            return False
    return True


def _text(body: bytes) -> tuple[str, int]:
    """The checked body as Latin-1, and where its first value starts."""
    check_depth(body)
    check_not_utf16(body)
    if not body.isascii():
        utf8(body)
    text = body.decode("latin-1")
    return text, _after_space(text, bom_bytes(body))


def _after_space(text: str, position: int) -> int:
    space = _SPACE.match(text, position)
    return position if space is None else space.end()


def _value_end(text: str, start: int) -> int:
    try:
        return _skip(text, start)[1]
    except StopIteration as stop:
        raise JsonError("a JSON value is missing", int(stop.value)) from None
    except json.JSONDecodeError as error:
        raise JsonError(f"the body is not valid JSON: {error.msg}", error.pos) from None
    except RecursionError:
        raise JsonError("the body is nested too deep to be read here", start) from None


def _members(text: str, start: int) -> tuple[list[Member], int]:
    """The members of the object that opens at `start`, and the position behind its closing brace."""
    members: list[Member] = []
    position = _after_space(text, start + 1)
    if text[position : position + 1] == "}":
        return members, position + 1
    while True:
        if text[position : position + 1] != '"':
            raise JsonError("a key in double quotes is expected", position)
        name, colon = _key(text, position)
        colon = _after_space(text, colon)
        if text[colon : colon + 1] != ":":
            raise JsonError("a colon is expected after a key", colon)
        value_start = _after_space(text, colon + 1)
        value_end = _value_end(text, value_start)
        members.append(Member(name, position, value_start, value_end))
        position = _after_space(text, value_end)
        closing = text[position : position + 1]
        if closing == "}":
            return members, position + 1
        if closing != ",":
            raise JsonError("a comma or the end of the object is expected", position)
        position = _after_space(text, position + 1)


def _key(text: str, start: int) -> tuple[str, int]:
    try:
        name, end = scanstring(text, start + 1, True)
    except json.JSONDecodeError as error:
        raise JsonError(f"the body is not valid JSON: {error.msg}", error.pos) from None
    if not name.isascii():
        name = str(read_json(text[start:end].encode("latin-1")))
    return name, end


def _elements(text: str, start: int) -> Iterator[Span]:
    """The spans of the elements of the array that opens at `start`, which is known to be well formed."""
    position = _after_space(text, start + 1)
    while text[position] != "]":
        end = _value_end(text, position)
        yield position, end
        position = _after_space(text, end)
        if text[position] == ",":
            position = _after_space(text, position + 1)
