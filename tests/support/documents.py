"""The project's documents as tests see them: fenced blocks, links, headings. Nothing here runs what it finds.

The language of a block says what is done with it, for readers and for tests: `sh` and `python` are run as they stand,
page by page and in order (`walk.py`), `shell` starts the proxy or installs, `sql` runs on the views, `yaml` is a
config. `text` is what the block before it prints (the line above says so), what needs something that a test has not
(the line above says what), or no command at all.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]

LANGUAGES = {"sh", "shell", "python", "sql", "yaml", "text"}

_FENCE = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ +(.+)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language, its text, the line of its fence."""

    language: str
    text: str
    line: int
    #: The paragraph above it, on one line.
    above: str = ""

    @property
    def is_output(self) -> bool:
        """Whether it shows what the block before it prints."""
        return self.language == "text" and re.search(r"\bprints?\b", self.above) is not None

    @property
    def needs_more(self) -> bool:
        """Whether the line above says that it needs something that a test does not have."""
        return self.language == "text" and re.search(r"\b[Nn]eeds?\b", self.above) is not None


def blocks(document: Path, language: str | None = None) -> list[Block]:
    """Give a document's fenced blocks in order; of one language where that is named."""
    text = document.read_text()
    found = [
        Block(m[1], m[2], text.count("\n", 0, m.start()) + 1, _paragraph_above(text[: m.start()]))
        for m in _FENCE.finditer(text)
    ]
    return [block for block in found if language in {None, block.language}]


def _paragraph_above(text: str) -> str:
    paragraph = text.rstrip().rsplit("\n\n", 1)[-1]
    return "" if paragraph.endswith("```") else " ".join(paragraph.split())


def prose(document: Path) -> str:
    """Give a document without its fenced blocks."""
    return _FENCE.sub("", document.read_text())


def links(document: Path) -> list[str]:
    """Give the targets of a document's links."""
    return _LINK.findall(prose(document))


def anchors(document: Path) -> set[str]:
    """Give the anchors of a document's headings, as web pages of repositories spell them."""
    headings = _HEADING.findall(prose(document))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
