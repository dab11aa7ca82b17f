"""An answer that the book gives in place of an upstream that cannot, and whoever looks it up.

`api/stored_responses.py` does so for the proxy; `from_book.py` serves what was found.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from uuid import UUID


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """A response as an earlier call was answered with it.

    `body` is the Response object's exact bytes, or the recorded blocks of its stream; `response` the same object, read.
    """

    source: UUID
    content_type: str
    body: bytes
    response: Mapping[str, Any]
    is_masked: bool = False


class StoredAnswers(Protocol):
    """Looks up what a call asks for, among what its caller may see."""

    async def find(self, *, is_refused: bool) -> StoredAnswer | None:
        """Return it; None where the book does not hold it, or must not give it.

        `is_refused`: the upstream says that there is no such response, rather than nothing.
        """
        ...
