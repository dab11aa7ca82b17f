"""A stand-in for OpenAI's `/responses`, on raw sockets, for tests: scripted to the byte, the pause and the cut.

`Upstream` is the server, `plain` and `stream` build answers, `recorded` replays a row of the corpus, `SCRIPTS` names
the faults. `python -m tests.support.upstream` runs it as a process. It uses nothing of the product.
"""

from tests.support.upstream.faults import SCRIPTS
from tests.support.upstream.framing import head, http_chunks, plain, sse_blocks, stream
from tests.support.upstream.generated import expected_text, expected_usage, resolved_model
from tests.support.upstream.recorded import Recording, recorded, row_body, row_headers
from tests.support.upstream.refusals import refusal
from tests.support.upstream.requests import Log, Received
from tests.support.upstream.server import Upstream
from tests.support.upstream.steps import Answer, AwaitGate, Close, Pause, Reset, StayOpen, Write

__all__ = [
    "SCRIPTS",
    "Answer",
    "AwaitGate",
    "Close",
    "Log",
    "Pause",
    "Received",
    "Recording",
    "Reset",
    "StayOpen",
    "Upstream",
    "Write",
    "expected_text",
    "expected_usage",
    "head",
    "http_chunks",
    "plain",
    "recorded",
    "refusal",
    "resolved_model",
    "row_body",
    "row_headers",
    "sse_blocks",
    "stream",
]
