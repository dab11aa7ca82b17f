"""`llm ledger verify`: whether the book is sound; says what it checked, what it found, and what it cannot tell."""

import asyncio
import dataclasses
import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any, Final
from uuid import UUID

import click

from api.cli.database import DatabaseOptions, command_database
from api.cli.ledger_options import database_options, require_schema
from api.cli.progress import step_progress
from ledger.verification.book import NoSuchJournalError, Progress
from ledger.verification.book import verify as verify_book
from ledger.verification.findings import NOT_CHECKED, Finding, Report

#: What each count stands for, in the order in which it is told.
_CHECKED: Final = {
    "journals": "journals: seq from 1 without a gap, nothing behind the seal, row and events agree",
    "events": "events: every column and every body under its flush's chain value",
    "flushes": "chain values computed anew",
    "links": "links between journals",
    "calls": "calls: begun once, versions without a gap, ended once, bodies complete",
    "attempts": "attempts: each charged once, revisions without a gap",
    "costs": "costs: beside the end of their call",
    "corrections": "corrections of costs",
    "prices": "prices that costs name: published",
    "projections": "projections: equal to a rebuild",
    "totals": "totals: equal to the sum of the costs, to the last decimal",
}

#: A person reads this many lines; `--json` lists more.
_LISTED_MAX: Final = 30


@click.command()
@click.option("--journal", "journal_id", type=click.UUID, help="Only this journal.")
@click.option("--since", help="Only journals that may hold events of this time or later (ISO 8601; UTC without zone).")
@click.option("--json", "as_json", is_flag=True, help="As one JSON object.")
@database_options
def verify(options: DatabaseOptions, journal_id: UUID | None, since: str | None, *, as_json: bool) -> None:
    """Check the book: order, chain, calls, charges, projections, totals. Reads only; a proxy may run meanwhile.

    Exit status 1: something is wrong. Nothing is repaired: `llm ledger rebuild` computes projections anew, and events
    are what they are.
    """
    if journal_id is not None and since is not None:
        raise click.UsageError("--journal and --since exclude each other")
    start = None if since is None else _time(since)
    with command_database(options) as database, step_progress("verifying", "events") as tell:
        report = asyncio.run(_verify(database.url, journal_id, start, tell))
    click.echo(json.dumps(_as_json(report), indent=2) if as_json else "\n".join(_lines(report)))
    if not report.is_sound:
        raise click.exceptions.Exit(1)


async def _verify(url: str, journal_id: UUID | None, since: datetime | None, tell: Progress) -> Report:
    await require_schema(url)
    try:
        return await verify_book(url, journal_id=journal_id, since=since, progress=tell)
    except NoSuchJournalError as error:
        raise click.ClickException(str(error)) from error


def _time(text: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise click.UsageError(f"--since takes a date or time such as 2026-11-22T09:30Z, not {text!r}") from error
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def _as_json(report: Report) -> dict[str, Any]:
    return {
        "sound": report.is_sound,
        "checked": {name: report.counts[name] for name in _CHECKED},
        "findings_total": report.findings_total,
        "findings": [
            {name: str(value) if isinstance(value, UUID) else value for name, value in dataclasses.asdict(one).items()}
            for one in report.findings
        ],
        "open_calls_total": report.open_calls_total,
        "open_calls": [
            {
                "call_id": str(call.call_id),
                "journal_id": str(call.journal_id),
                "received_at": call.received_at.astimezone(UTC).isoformat(),
                "age_s": _age_s(call.received_at),
            }
            for call in report.open_calls
        ],
        "notes": report.notes,
        "not_checked": [*report.skipped, *NOT_CHECKED],
    }


def _lines(report: Report) -> Iterator[str]:
    yield "checked"
    for name, what in _CHECKED.items():
        if report.counts[name]:
            yield f"  {report.counts[name]:>14,}  {what}"
    yield "not checked"
    for what in (*report.skipped, *NOT_CHECKED):
        yield f"  - {what}"
    for note in report.notes:
        yield f"note: {note}"
    if report.open_calls_total:
        calls = [
            f"{call.call_id} in {call.journal_id}, {_age_s(call.received_at):,.0f} s old" for call in report.open_calls
        ]
        yield f"under way: {report.open_calls_total:,} calls in open journals, which have not ended yet"
        yield from _listed(calls, report.open_calls_total)
    if report.is_sound:
        yield "sound: nothing was found"
    else:
        yield f"NOT SOUND: {report.findings_total:,} findings"
        yield from _listed([_line(finding) for finding in report.findings], report.findings_total)


def _listed(lines: list[str], total: int) -> Iterator[str]:
    for line in lines[:_LISTED_MAX]:
        yield f"  {line}"
    if total > _LISTED_MAX:
        yield f"  and {total - _LISTED_MAX:,} more"


def _line(finding: Finding) -> str:
    places = {"journal": finding.journal_id, "event": finding.seq, "call": finding.call_id}
    where = ", ".join(f"{name} {value}" for name, value in places.items() if value is not None)
    return f"[{finding.check}] {where + ': ' if where else ''}{finding.message}"


def _age_s(received_at: datetime) -> float:
    return max(0.0, (datetime.now(UTC) - received_at).total_seconds())
