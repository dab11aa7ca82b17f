"""The proxy with less of its bookkeeping: `python -m benchmarks.without_books journal|nothing ARGUMENTS OF llm`.

The same code, started by the same command line, in which some functions do nothing. `journal`: the same events become
durable at the same moments, but no secret is looked for, no answer but the first is priced (what it cost stands for all
others), nothing is counted or logged. `nothing`: besides, what is appended is dropped, and nothing is waited for.
`cost_of_books` compares them with the whole.
"""

import sys
from collections.abc import Mapping
from typing import Any, Final
from uuid import UUID

import api.call_recording
import llm.booking
import llm.ending
import llm.plain
import llm.relay
from api.cli.root import main
from api.metrics.meter import Meter
from api.observing import CallObserver
from ledger.journal.journals import Journals
from ledger.money.cost import Charge
from llm.no_record import NoRecord

MODES: Final = ("journal", "nothing")
_PRICE: Final = llm.ending.charge_answer
_first: list[Charge] = []


def _unmasked(body: bytes, *_others: object, **_named: object) -> tuple[bytes, int]:
    return body, 0


def _same(given: Any, *_others: object) -> Any:
    return given


def _unpriced(response: Mapping[str, Any], **facts: Any) -> Charge:
    if not _first:
        _first.append(_PRICE(response, **facts))
    return _first[0]


def _no_record(_journals: Journals, call_id: UUID) -> NoRecord:
    return NoRecord(call_id, keeps_bodies=True)


def _unseen(_observer: object, *_told: object) -> None:
    return


def take_out(mode: str) -> None:
    """Have this process do without; a name that is no longer there is an error, so that nothing is compared in vain."""
    changes: list[tuple[object, str, object]] = [
        (api.call_recording, "mask_secrets", _unmasked),
        (api.call_recording, "mask_query", _same),
        (api.call_recording, "mask_headers", _same),
        (llm.plain, "mask_secrets", _unmasked),
        (llm.relay, "mask_block", _unmasked),
        (llm.booking, "mask_query", _same),
        (llm.booking, "mask_text", _same),
        (llm.booking, "mask_headers", _same),
        (llm.ending, "charge_answer", _unpriced),
        (Meter, "charged", _unseen),
        (CallObserver, "ended", _unseen),
    ]
    if mode == "nothing":
        changes.append((Journals, "begin_call", _no_record))
    for owner, name, substitute in changes:
        getattr(owner, name)
        setattr(owner, name, substitute)


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in MODES:  # noqa: PLR2004 - the program and its first argument
        sys.exit(f"expected one of {', '.join(MODES)}, then the arguments of llm")
    take_out(sys.argv.pop(1))
    main()
