"""Starts a proxy with one named fault in it: `python -m tests.support.rounds.mutant NAME --config ...`.

A fault is patched into the product before it runs, in the parent and, since multiprocessing imports the main module
again, in every worker. The names are the keys of `MUTATIONS`; the checks must tell each of them from the product.
"""

import sys
from collections.abc import Callable
from typing import Any


def append_after_upstream() -> None:
    """Write `attempt.started` only when the upstream has answered."""
    from llm.booking import CallBook  # noqa: PLC0415 - only the fault that is asked for loads what it breaks

    started, answered, failed = CallBook.started, CallBook.answered, CallBook.failed
    late: dict[CallBook, tuple[Any, ...]] = {}

    def put_off(book: CallBook, *arguments: Any) -> None:
        late[book] = arguments

    def catch_up(then: Callable[..., None]) -> Callable[..., None]:
        def do(book: CallBook, *arguments: Any, **keywords: Any) -> None:
            started(book, *late.pop(book))
            then(book, *arguments, **keywords)

        return do

    for name, value in (("started", put_off), ("answered", catch_up(answered)), ("failed", catch_up(failed))):
        _put(CallBook, name, value)


def release_before_commit() -> None:
    """Give the client the end of its answer without waiting until it is durable."""
    from llm.booking import CallBook  # noqa: PLC0415 - see above

    async def at_once(_book: CallBook, *_arguments: Any) -> bool:
        return True

    _put(CallBook, "settled", at_once)


def asynchronous_commit() -> None:
    """Have the journal's commits return before they are on disk."""
    from ledger.journal import backend  # noqa: PLC0415 - see above

    _put(backend, "_PIN", "SELECT set_config('synchronous_commit', 'off', false)")


def drop_last_flush() -> None:
    """From the signal to end on, take what is in the buffer for written."""
    from ledger.journal.journals import Journals  # noqa: PLC0415 - see above
    from ledger.journal.writer import Writer  # noqa: PLC0415 - see above

    flush, refuse_calls = Writer._flush, Journals.refuse_calls
    is_ending: list[bool] = []

    def note(journals: Journals) -> None:
        is_ending.append(True)
        refuse_calls(journals)

    async def flush_or_drop(writer: Writer, data: bytes) -> None:
        if is_ending:
            writer._acknowledge()
        else:
            await flush(writer, data)

    async def leave(_journals: Journals, writer: Writer, _timeout_s: float) -> None:
        await writer.stop()

    _put(Journals, "refuse_calls", note)
    _put(Journals, "_finish", leave)
    _put(Writer, "_flush", flush_or_drop)


def close_twice() -> None:
    """Read what is open before where the journal ends, and so close it after a rival has done it."""
    from ledger.journal import recovery  # noqa: PLC0415 - see above

    one_round, open_call_ids, mark_sealed = recovery._one_round, recovery.open_call_ids, recovery._SEALED
    remembered: dict[Any, Any] = {}

    async def stale_ids(connection: Any, journal_id: Any, last_seq: int) -> Any:
        if journal_id not in remembered:
            remembered[journal_id] = await open_call_ids(connection, journal_id, last_seq)
        return remembered[journal_id]

    async def two_rounds(*arguments: Any) -> Any:
        # The rival dies before it marks the journal: whoever waits for that mark finds both endings in the book.
        _put(recovery, "_SEALED", "SELECT $1::uuid, $2::bigint")
        rival = await one_round(*arguments)
        _put(recovery, "_SEALED", mark_sealed)
        return rival if rival is None or not rival.won else await one_round(*arguments)

    _put(recovery, "_LAST", recovery._LAST.replace("seq, type, chain", "seq, 'not looked at' AS type, chain"))
    _put(recovery, "open_call_ids", stale_ids)
    _put(recovery, "_one_round", two_rounds)


def unknown_as_zero() -> None:
    """Book a cost that is not known as a bill of nothing."""
    import api.app  # noqa: PLC0415 - whoever names the function must have been imported
    from ledger.money import cost  # noqa: PLC0415 - see above

    assert api.app
    unknown, free = cost.unknown_cost, cost.no_charge

    def nothing(reason: str, **keywords: Any) -> Any:
        return free(reason, **{name: value for name, value in keywords.items() if name == "request"})

    for module in list(sys.modules.values()):
        if getattr(module, "unknown_cost", None) is unknown:
            _put(module, "unknown_cost", nothing)


def elsewhere() -> None:
    """No fault: processes cannot see each other, as if each ran on another machine, so that only the lease tells."""
    from ledger.journal import watch  # noqa: PLC0415 - see above

    def cannot_know(_writer: object) -> bool:
        return False

    _put(watch, "is_certainly_dead", cannot_know)


MUTATIONS: dict[str, Callable[[], None]] = {
    "append_after_upstream": append_after_upstream,
    "release_before_commit": release_before_commit,
    "asynchronous_commit": asynchronous_commit,
    "drop_last_flush": drop_last_flush,
    "close_twice": close_twice,
    "unknown_as_zero": unknown_as_zero,
    "elsewhere": elsewhere,
}


def _put(owner: Any, name: str, value: Any) -> None:
    assert hasattr(owner, name), f"the mutation is out of date: {owner.__name__} has no {name}"
    setattr(owner, name, value)


if __name__ in {"__main__", "__mp_main__"}:
    MUTATIONS[sys.argv[1]]()

if __name__ == "__main__":
    from api.cli import main

    main(args=sys.argv[2:])
