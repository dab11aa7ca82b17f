"""The links between journals: opening one records where the ones before it stood, chain value and all.

So a journal whose end was cut off, or that was removed or rewritten, contradicts a later one.
"""

import json
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import asyncpg

from ledger.verification.findings import Report

_JOURNALS_AT_ONCE: Final = 500
_LINKS_MAX: Final = 100
_SEQ_MAX: Final = 2**63 - 1

_OPENINGS = """
SELECT journal_id, (facts->'links')::text AS links FROM ledger.events
WHERE journal_id = ANY ($1::uuid[]) AND seq = 1 AND type = 'journal.opened' ORDER BY journal_id
"""
_HEADS = """
SELECT e.journal_id, e.seq, encode(e.chain, 'hex') AS chain
FROM unnest($1::uuid[], $2::bigint[]) AS l (journal_id, seq)
JOIN ledger.events AS e ON e.journal_id = l.journal_id AND e.seq = l.seq AND e.journal_id = ANY ($1::uuid[])
"""


@dataclass(frozen=True, slots=True)
class _Link:
    """What journal `by` says of another: that its event `seq` carried this chain value (hex)."""

    by: UUID
    journal_id: UUID
    seq: int
    chain: str | None


async def check_links(connection: asyncpg.Connection, journals: list[UUID], report: Report) -> None:
    """Compare each link that `journals` recorded when they were opened with the event that it names."""
    for start in range(0, len(journals), _JOURNALS_AT_ONCE):
        links: list[_Link] = []
        for row in await connection.fetch(_OPENINGS, journals[start : start + _JOURNALS_AT_ONCE]):
            links += _links_of(row["journal_id"], row["links"], report)
        ids, seqs = [link.journal_id for link in links], [link.seq for link in links]
        heads = {(row["journal_id"], row["seq"]): row["chain"] for row in await connection.fetch(_HEADS, ids, seqs)}
        for link in links:
            _judge(link, heads, report)


def _links_of(by: UUID, text: str | None, report: Report) -> list[_Link]:
    links: list[_Link] = []
    try:
        for journal_id, seq, chain in json.loads(text or "[]"):
            links.append(_Link(by, UUID(journal_id), int(seq), chain))
    except (ValueError, TypeError, AttributeError, RecursionError):
        report.find("links", "journal.opened holds links that cannot be read", journal_id=by, seq=1)
    return [link for link in links if 1 <= link.seq <= _SEQ_MAX][:_LINKS_MAX]


def _judge(link: _Link, heads: dict[tuple[UUID, int], str | None], report: Report) -> None:
    report.counts["links"] += 1
    place = (link.journal_id, link.seq)
    if place not in heads:
        message = f"journal {link.by} says that this event was there when it was opened; it is missing"
    elif heads[place] != link.chain:
        message = f"journal {link.by} says that another chain value stood here when it was opened"
    else:
        return
    report.find("links", message, journal_id=link.journal_id, seq=link.seq)
