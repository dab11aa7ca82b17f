"""What the upstream received, and how far each of its answers got.

`Received` is one request with its answer's fate; `Log` keeps a bounded number of them. `connection` fills them in.
"""

import hashlib
import json
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

Json = dict[str, Any]


@dataclass
class Received:
    """One request as it came, and its answer's fate.

    `raw` is the request's exact bytes, head and body, empty where the log was told to keep none. `written` counts the
    answer's bytes handed to the kernel, `finished` says that all steps were carried out, `client_closed` that the
    client closed before that.
    """

    serial: int
    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    raw: bytes
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    script: str = ""
    status: int = 0
    written: int = 0
    finished: bool = False
    client_closed: bool = False

    @property
    def path(self) -> str:
        """The target without its query."""
        return self.target.partition("?")[0]

    def header(self, name: str) -> str | None:
        """The first header of that name."""
        return next((v for n, v in self.headers if n.lower() == name.lower()), None)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the body as received, hex."""
        return hashlib.sha256(self.body).hexdigest()

    @cached_property
    def json(self) -> Json:
        """The body's JSON object, empty where it is none."""
        try:
            value = json.loads(self.body)
        except ValueError:
            return {}
        return value if isinstance(value, dict) else {}

    def wish(self, name: str) -> str | None:
        """What the client asks for: header `x-NAME`, `metadata.NAME`, or `/NAME/value/` at the path's start."""
        metadata = self.json.get("metadata")
        found = self.header(f"x-{name}") or (metadata.get(name) if isinstance(metadata, dict) else None)
        if found is not None:
            return str(found)
        before, mark, after = self.path.partition(f"/{name}/")
        return after.partition("/")[0] if mark and not before else None

    @cached_property
    def call(self) -> str:
        """What attempts of one call have in common: the wish `call`, else a hash of the body without its model."""
        rest = {k: v for k, v in self.json.items() if k != "model"}
        return self.wish("call") or hashlib.sha256(json.dumps(rest, sort_keys=True).encode()).hexdigest()

    def summary(self) -> Json:
        """The record as JSON, without bytes."""
        names = ("serial", "method", "target", "script", "status", "written", "finished", "client_closed", "call")
        record: Json = {name: getattr(self, name) for name in names}
        return record | {
            "at": self.at.isoformat(),
            "headers": [list(pair) for pair in self.headers],
            "body_bytes": self.body_bytes,
            "sha256": self.sha256,
        }

    @cached_property
    def body_bytes(self) -> int:
        """Length of the body as received."""
        return len(self.body)

    def forget_bytes(self) -> None:
        """Keep the figures about the bytes, drop the bytes."""
        _ = (self.sha256, self.call, self.body_bytes)
        self.body = self.raw = b""
        self.__dict__.pop("json", None)


class Log:
    """The last `keep` requests, of which only the last `keep_bytes_of` still have their bytes; counts cover all."""

    def __init__(self, keep: int = 200_000, keep_bytes_of: int = 2_000) -> None:
        self.requests: deque[Received] = deque(maxlen=keep)
        self.counts: Counter[str] = Counter()
        self._with_bytes: deque[Received] = deque()
        self._keep_bytes_of = keep_bytes_of

    def add(self, received: Received) -> int:
        """Keep the request; returns how many requests of the same call came before it."""
        earlier = self.counts[received.call]
        self.counts[received.call] += 1
        self.requests.append(received)
        self._with_bytes.append(received)
        if len(self._with_bytes) > self._keep_bytes_of:
            self._with_bytes.popleft().forget_bytes()
        return earlier
