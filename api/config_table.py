"""A mapping of the config file, read key by key: each reader says what it expects and notes a mistake otherwise.

A reader that fails returns the default, so that one pass finds all mistakes. Nodes and lines are the matter of
`api.config_nodes`; which keys there are is said in `api.config_models` and `api.config_settings`.
"""

import math
import re
from collections.abc import Callable, Collection
from typing import TypeVar

import yaml

from api.config_nodes import Entry, Findings, entries_of, join, line_of, nearest, scalar_text

T = TypeVar("T")

_SECONDS = {"": 1.0, "ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES = {"": 1, "b": 1, "kb": 1000, "mb": 1000**2, "gb": 1000**3, "kib": 1024, "mib": 1024**2, "gib": 1024**3}
_MEASURE = re.compile(r"(\d{1,15}(?:\.\d{1,9})?)\s*([A-Za-z]*)", re.ASCII)
_INTEGER = re.compile(r"[+-]?\d{1,18}(?:_\d{1,18}){0,5}", re.ASCII)
_SECRETS = ("api_key", "master_key", "database_url")
_BOOLEANS = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class Table:
    """One mapping. Every key that was asked for is known; `finish` judges the others."""

    def __init__(self, node: yaml.Node, path: str, findings: Findings) -> None:
        self.findings = findings
        self.path = path
        self.line = line_of(node)
        self._asked: set[str] = set()
        self._entries: dict[str, Entry] = {}
        self.is_mapping = isinstance(node, yaml.MappingNode)
        if isinstance(node, yaml.MappingNode):
            self._entries = entries_of(node, path, findings)
        else:
            found = Entry(path, self.line, node).kind
            findings.mistake(self.line, path, f"expected a mapping of keys to values, found {found}")

    def entry(self, key: str) -> Entry | None:
        """The entry under a key, None when it is absent or null; the key counts as known."""
        self._asked.add(key)
        entry = self._entries.get(key)
        return None if entry is None or entry.is_null else entry

    def one_entry(self, *keys: str) -> Entry | None:
        """The entry under whichever of several spellings of a key is given; two at once are a mistake."""
        given = [entry for key in keys if (entry := self.entry(key)) is not None]
        if len(given) > 1:
            self.findings.mistake(given[1].line, given[1].path, f"means the same as {given[0].path}; keep one")
        return given[0] if given else None

    def mistake(self, key: str, message: str) -> None:
        """Note a mistake at a key, or at the table where the key is absent."""
        entry = self._entries.get(key)
        line, path = (self.line, join(self.path, key)) if entry is None else (entry.line, entry.path)
        self.findings.mistake(line, path, message)

    def read(self, key: str, expected: str, parse: Callable[[str], T], default: T) -> T:
        """The value under a key as `parse` reads its text; a ValueError from it is a mistake."""
        entry = self.entry(key)
        return default if entry is None else read_entry(entry, expected, parse, default, self.findings)

    def text(self, key: str, expected: str = "a text") -> str | None:
        """A text of at least one character; None when absent."""
        return self.read(key, expected, _not_empty, None)

    def integer(self, key: str, default: T, *, minimum: int = 0, maximum: int = 10**15) -> int | T:
        """A whole number."""
        return self.read(
            key, f"a whole number from {minimum} to {maximum}", lambda text: _integer(text, minimum, maximum), default
        )

    def number(self, key: str, default: T) -> float | T:
        """A number of at least 0, such as a weight; never for money."""
        return self.read(key, "a number of at least 0", lambda text: _measure(text, {"": 1.0}), default)

    def seconds(self, key: str, default: T, *, minimum_s: float = 0.0) -> float | T:
        """A duration in seconds, given as a number or with a unit: 30, 0.5, 500ms, 30s, 10m, 1h, 1d."""
        return self.read(
            key,
            f"a duration of at least {minimum_s:g} s, such as 30, 500ms or 10m",
            lambda text: _at_least(_measure(text, _SECONDS), minimum_s),
            default,
        )

    def size_bytes(self, key: str, default: T, *, unit_bytes: int = 1, minimum_bytes: int = 1) -> int | T:
        """A size in bytes, given as a number of `unit_bytes` or with a unit: 1000000, 64 MiB, 10MB."""
        units = {**_BYTES, "": unit_bytes}
        return self.read(
            key,
            f"a size of at least {minimum_bytes} bytes, such as 1000000 or 64 MiB",
            lambda text: int(_at_least(_measure(text, units), minimum_bytes)),
            default,
        )

    def boolean(self, key: str, default: T) -> bool | T:
        """A truth value: true or false, also yes, no, on and off."""
        return self.read(key, "true or false", lambda text: _BOOLEANS[text.lower()], default)

    def choice(self, key: str, choices: Collection[str], default: str) -> str:
        """One of several words."""
        return self.read(key, f"one of {', '.join(choices)}", lambda text: _one_of(text, choices), default)

    def table(self, *keys: str) -> "Table | None":
        """The mapping under a key, or under another spelling of it; None when absent."""
        entry = self.one_entry(*keys)
        return None if entry is None else Table(entry.node, entry.path, self.findings)

    def entries(self) -> list[tuple[str, Entry]]:
        """All entries, for a mapping whose keys are data; they all count as known."""
        self._asked.update(self._entries)
        return list(self._entries.items())

    def items(self, key: str) -> list[Entry] | None:
        """The elements of the list under a key; None when absent or no list."""
        entry = self.entry(key)
        return None if entry is None else list_entries(entry, self.findings)

    def finish(self, not_honoured: Collection[str] = (), prefixes: tuple[str, ...] = ()) -> None:
        """Warn of keys known from such proxies that have no effect here; every other unknown key is a mistake."""
        for key, entry in self._entries.items():
            if key in self._asked:
                continue
            if key in not_honoured or (prefixes and key.startswith(prefixes)):
                self.findings.warning(entry.line, entry.path, "has no effect here; known from other proxies")
            else:
                hint = nearest(key, {*self._asked, *not_honoured})
                self.findings.mistake(entry.line, entry.path, f"unknown key{hint}")


def list_entries(entry: Entry, findings: Findings) -> list[Entry] | None:
    """The elements of a list with their places; None, with a mistake noted, when it is none."""
    if not isinstance(entry.node, yaml.SequenceNode):
        findings.mistake(entry.line, entry.path, f"expected a list, found {entry.kind}")
        return None
    return [Entry(f"{entry.path}[{i}]", line_of(node), node) for i, node in enumerate(entry.node.value)]


def read_entry(entry: Entry, expected: str, parse: Callable[[str], T], default: T, findings: Findings) -> T:
    """The value of an entry as `parse` reads its text; a ValueError or KeyError from it is a mistake."""
    text = scalar_text(entry, expected, findings)
    if text is None:
        return default
    try:
        return parse(text)
    except (ValueError, KeyError):
        # What a variable holds is never shown, only its name as it stands in the file; nor is a secret in the file.
        shown = "something else (not shown)" if _is_secret(entry) else repr(entry.node.value[:60])
        findings.mistake(entry.line, entry.path, f"expected {expected}, found {shown}")
        return default


def _is_secret(entry: Entry) -> bool:
    """Tell whether an entry may hold a secret: by its name, or as a URL with a password in it."""
    value = entry.node.value
    return entry.path.endswith(_SECRETS) or not isinstance(value, str) or ("://" in value and "@" in value)


def _not_empty(text: str) -> str:
    if not text.strip():
        raise ValueError(text)
    return text


def _integer(text: str, minimum: int, maximum: int) -> int:
    if not _INTEGER.fullmatch(text) or not minimum <= int(text) <= maximum:
        raise ValueError(text)
    return int(text)


def _measure(text: str, units: dict[str, float] | dict[str, int]) -> float:
    match = _MEASURE.fullmatch(text.strip())
    if match is None:
        raise ValueError(text)
    return float(match[1]) * units[match[2].lower()]


def _at_least(value: float, minimum: float) -> float:
    if not minimum <= value or math.isinf(value):
        raise ValueError(value)
    return value


def _one_of(text: str, choices: Collection[str]) -> str:
    if text not in choices:
        raise ValueError(text)
    return text
