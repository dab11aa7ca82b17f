"""How a call went, made up: for those who count and log calls."""

from uuid import UUID

from ledger.events import CALL_COMPLETED
from llm.outcome import Outcome


def outcome(model: str = "gpt-5", **changed: object) -> Outcome:
    """Return the outcome of a streamed call that went well, but for what is `changed`."""
    facts: dict[str, object] = {
        "call_id": UUID(int=1),
        "key_id": "master",
        "model": model,
        "deployment_id": "d",
        "is_stream": True,
        "terminal": CALL_COMPLETED,
        "status": 200,
        "charge": None,
        "attempts": 1,
        "chunks": 3,
        "request_bytes": 10,
        "answer_bytes": 20,
        "first_chunk_us": 900,
        "upstream_us": 4_000,
        "duration_us": 6_000,
    }
    return Outcome(**(facts | changed))  # pyright: ignore[reportArgumentType] - the table above has the right types
