"""A YAML file as nodes that know their line, and the list of what is wrong with it.

Nodes are read, never Python values: a price must stay the text in the file, and a mistake must name its line.
Everything is bounded before it is interpreted: size, nesting, and what aliases expand to. What the keys mean is said
in `api.config_models` and `api.config_settings`.
"""

import difflib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field

import yaml

FILE_BYTES_MAX = 4 * 1024 * 1024
NODES_MAX = 200_000
DEPTH_MAX = 32

_MERGE = "tag:yaml.org,2002:merge"
_NULL = "tag:yaml.org,2002:null"
_PLAIN_TAGS = frozenset(f"tag:yaml.org,2002:{kind}" for kind in ("str", "int", "float", "bool", "null", "timestamp"))


@dataclass(frozen=True, slots=True)
class Finding:
    """Something to say about one place of the file; its text is what a person reads."""

    file: str
    line: int
    """From 1; 0 where the file as a whole is meant."""
    path: str
    """Keys and positions from the top, such as `model_list[0].llm_params.rpm`; "" for the whole file."""
    message: str

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}: {self.path}: {self.message}" if self.path else f"{place}: {self.message}"


class ConfigError(Exception):
    """The config file cannot be used; names every mistake with file, line, key and what was expected."""

    def __init__(self, mistakes: Collection[Finding]) -> None:
        self.mistakes = tuple(sorted(mistakes, key=lambda finding: finding.line))
        super().__init__("\n".join(str(mistake) for mistake in self.mistakes))


@dataclass(slots=True)
class Findings:
    """Collects what is wrong with one file, so that all of it is reported at once."""

    file: str
    environ: Mapping[str, str]
    mistakes: list[Finding] = field(default_factory=list[Finding])
    warnings: list[Finding] = field(default_factory=list[Finding])

    def mistake(self, line: int, path: str, message: str) -> None:
        """Note something that keeps the file from being used."""
        self.mistakes.append(Finding(self.file, line, path, message))

    def warning(self, line: int, path: str, message: str) -> None:
        """Note something that has no effect here."""
        self.warnings.append(Finding(self.file, line, path, message))


@dataclass(frozen=True, slots=True)
class Entry:
    """One value of a mapping or a list, with its place."""

    path: str
    line: int
    node: yaml.Node

    @property
    def is_null(self) -> bool:
        """Whether the value is YAML's null, or nothing at all behind the colon."""
        return isinstance(self.node, yaml.ScalarNode) and self.node.tag == _NULL

    @property
    def kind(self) -> str:
        """What the value is, for messages."""
        if isinstance(self.node, yaml.MappingNode):
            return "a mapping"
        if isinstance(self.node, yaml.SequenceNode):
            return "a list"
        return "nothing" if self.is_null else "a single value"


def compose(data: bytes, findings: Findings) -> yaml.Node | None:
    """The root node of the file; None, with the reason among the findings, where there is none."""
    text = _decode(data, findings)
    if text is None:
        return None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        findings.mistake(mark.line + 1 if mark else 0, "", _yaml_reason(error))
    except yaml.YAMLError as error:
        findings.mistake(0, "", "not valid YAML: " + " ".join(str(error).split()))
    except RecursionError:
        findings.mistake(0, "", f"nested too deep, at most {DEPTH_MAX} levels are read")
    else:
        if root is None:
            findings.mistake(0, "", "the file is empty; expected at least a model_list")
        elif _is_bounded(root, findings):
            return root
    return None


def _decode(data: bytes, findings: Findings) -> str | None:
    if len(data) > FILE_BYTES_MAX:
        findings.mistake(0, "", f"the file is larger than {FILE_BYTES_MAX} bytes, the most that is read")
        return None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        findings.mistake(line, "", f"the file is not UTF-8: {error.reason}")
        return None


def _yaml_reason(error: yaml.MarkedYAMLError) -> str:
    problem = " ".join(str(error.problem or error.context or error).split())
    if "'\\t'" in problem:
        problem += "; indent with spaces, YAML allows no tabs there"
    if "document" in problem and "another" in problem:
        problem += "; the config is one document, without a second '---'"
    return f"not valid YAML: {problem}"


def _is_bounded(root: yaml.Node, findings: Findings) -> bool:
    """Whether nesting and what aliases expand to stay within bounds; an alias to itself is endless nesting."""
    count = 0
    stack = [(root, 1)]
    while stack:
        node, depth = stack.pop()
        count += 1
        if count > NODES_MAX or depth > DEPTH_MAX:
            limit = f"{NODES_MAX} values" if count > NODES_MAX else f"{DEPTH_MAX} levels of nesting"
            findings.mistake(line_of(node), "", f"more than {limit}, with aliases expanded")
            return False
        if isinstance(node, yaml.MappingNode):
            stack += [(part, depth + 1) for pair in node.value for part in pair]
        elif isinstance(node, yaml.SequenceNode):
            stack += [(part, depth + 1) for part in node.value]
    return True


def line_of(node: yaml.Node) -> int:
    """The line of a node, from 1."""
    return int(node.start_mark.line) + 1


def entries_of(node: yaml.MappingNode, path: str, findings: Findings) -> dict[str, Entry]:
    """The entries of a mapping by key; `<<` merges are followed, keys given twice are mistakes."""
    entries: dict[str, Entry] = {}
    merged: dict[str, Entry] = {}
    for key_node, value_node in node.value:
        line = line_of(key_node)
        if key_node.tag == _MERGE:
            for key, entry in _merged(value_node, path, findings):
                merged.setdefault(key, entry)
        elif not isinstance(key_node, yaml.ScalarNode):
            findings.mistake(line, path, "expected a plain key, found a list or mapping as key")
        elif key_node.value in entries:
            first = entries[key_node.value].line
            findings.mistake(line, join(path, key_node.value), f"given twice, first in line {first}; keep one")
        else:
            entries[key_node.value] = Entry(join(path, key_node.value), line, value_node)
    return {**merged, **entries}


def _merged(node: yaml.Node, path: str, findings: Findings) -> Iterator[tuple[str, Entry]]:
    parts = node.value if isinstance(node, yaml.SequenceNode) else [node]
    for part in parts:
        if isinstance(part, yaml.MappingNode):
            yield from entries_of(part, path, findings).items()
        else:
            findings.mistake(line_of(node), join(path, "<<"), "expected a mapping, or a list of mappings, to merge")


def join(path: str, key: str) -> str:
    """The path of a key below `path`, bounded in length."""
    return f"{path}.{key:.60}" if path else f"{key:.60}"


def scalar_text(entry: Entry, expected: str, findings: Findings) -> str | None:
    """The text of a single value, `os.environ/NAME` resolved; None where null, or a mistake was noted."""
    node = entry.node
    if entry.is_null:
        return None
    if not isinstance(node, yaml.ScalarNode) or node.tag not in _PLAIN_TAGS:
        found = f"the tag {node.tag:.60}" if isinstance(node, yaml.ScalarNode) else entry.kind
        findings.mistake(entry.line, entry.path, f"expected {expected}, found {found}")
        return None
    text = str(node.value)
    prefix, _, name = text.partition("/")
    if prefix != "os.environ":
        return text
    value = findings.environ.get(name)
    if not value:
        state = "not set" if value is None else "empty"
        findings.mistake(
            entry.line, entry.path, f"the environment variable {name or '(no name)'} is {state}; expected {expected}"
        )
        return None
    return value


def nearest(key: str, known: Collection[str]) -> str:
    """A hint at the key that was probably meant, to be appended to a message; "" without one."""
    close = difflib.get_close_matches(key[:60], sorted(known), n=1, cutoff=0.7)
    return f"; did you mean {close[0]}?" if close else ""
