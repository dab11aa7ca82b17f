"""The recorded traffic that lies beside the checkout, for tests that compare with what OpenAI really answered.

None of it is part of the project; where it is absent the tests that need it skip and say so.
"""

import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, cast

import pytest

CORPUS_DIR = Path(__file__).resolve().parents[2].parent / "shared" / "corpus"
OPENAI = "api.openai.com"
_TERMINALS = ("response.completed", "response.incomplete", "response.failed")


@dataclass(frozen=True, slots=True)
class Row:
    """One recorded pair. `request_body` is parsed JSON or None, `response_body` the body's text as it came."""

    label: str
    authentic: str
    host: str
    method: str
    path: str
    request_body: dict[str, Any] | None
    status: int | None
    headers: dict[str, Any]
    response_body: str
    stream: bool

    def answer(self) -> dict[str, Any] | None:
        """The answer's object: the JSON body, or `response` of a stream's terminal event; None when there is none."""
        if not self.stream:
            return _object(self.response_body)
        for event in self.events():
            if event.get("type") in _TERMINALS:
                return cast("dict[str, Any]", event["response"])
        return None

    def events(self) -> Iterator[dict[str, Any]]:
        """The parsed events of a stream."""
        for line in self.response_body.split("\n"):  # not splitlines: JSON may hold U+2028
            event = _object(line[5:]) if line.startswith("data:") else None
            if event is not None:
                yield event


def rows() -> tuple[Row, ...]:
    """All rows of the corpus. Skips the calling test where the corpus is absent."""
    if not CORPUS_DIR.is_dir():
        pytest.skip(f"the recorded corpus is not at {CORPUS_DIR}")
    return _load()


def recorded_rows() -> tuple[Row, ...]:
    """The rows whose bytes are exact and which come from OpenAI itself."""
    return tuple(row for row in rows() if row.authentic == "recorded" and row.host == OPENAI)


@lru_cache(maxsize=1)
def _load() -> tuple[Row, ...]:
    loaded: list[Row] = []
    for path in sorted(CORPUS_DIR.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            loaded += [
                _read(json.loads(line), f"{path.name.removesuffix('.jsonl.gz')}:{number}")
                for number, line in enumerate(lines, start=1)
            ]
    return tuple(loaded)


def _read(raw: dict[str, Any], label: str) -> Row:
    body = raw["request"].get("body")
    return Row(
        label=label,
        authentic=raw["authentic"],
        host=raw["host"],
        method=raw["request"]["method"],
        path=raw["request"]["path"],
        request_body=body if isinstance(body, dict) else None,
        status=raw["response"]["status"],
        headers=raw["response"]["headers"] or {},
        response_body=raw["response"]["body"],
        stream=raw["stream"],
    )


def _object(text: str) -> dict[str, Any] | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return cast("dict[str, Any]", value) if isinstance(value, dict) else None
