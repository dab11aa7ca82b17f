"""Reads the projections' tables into the shapes of `plain_fold.py`, and says whether the two agree."""

import json
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

import asyncpg

from tests.support.book import Event, spell
from tests.support.plain_fold import (
    TOKENS,
    plain_calls,
    plain_keys,
    plain_line_items,
    plain_names,
    plain_spend,
    plain_teams,
)

_DIMS = ("org", "team", "user_id", "key_id", "end_user", "model", "deployment", "tier")
_SUMS = ("calls", "attempts", *TOKENS, "billed_usd", "estimated_usd", "unknown_calls")


async def spend(connection: asyncpg.Connection) -> dict[tuple[object, ...], list[Any]]:
    """Hour and dimensions -> sums, as `plain_spend`."""
    rows = await connection.fetch("SELECT * FROM ledger.spend")
    return {
        (row["hour"].strftime("%Y-%m-%dT%H"), *(row[name] for name in _DIMS), tuple(row["tags"])): [
            row[name] for name in _SUMS
        ]
        for row in rows
    }


async def line_items(connection: asyncpg.Connection) -> dict[tuple[object, ...], list[Any]]:
    """Dimensions -> sums, as `plain_line_items`."""
    rows = await connection.fetch("SELECT *, day::text AS date FROM ledger.line_items")
    names = ("keyed", "date", "org", "team", "user_id", "key_id", "model", "meter")
    return {
        tuple(row[name] for name in names): [row["quantity"], row["amount_usd"], row["unknown_costs"]] for row in rows
    }


async def names(connection: asyncpg.Connection) -> dict[tuple[str, str, str, str, str], list[Any]]:
    """Dimension, grain, first day, name, key -> sums of what is rolled up, as `plain_names`."""
    rows = await connection.fetch(
        "SELECT * FROM ledger.spend_names JOIN ledger.spend_rolled USING (grain, start) WHERE is_current"
    )
    return {
        (row["dimension"], row["grain"], row["start"].isoformat(), row["name"], row["key_id"]): [
            row[name] for name in _SUMS
        ]
        for row in rows
    }


async def rollup_differences(connection: asyncpg.Connection) -> list[str]:
    """Say where current rollups are not the sums of the rows that they stand for; [] where they are."""
    current = {(row[0], row[1].isoformat()) for row in await connection.fetch(_CURRENT.format("spend"))}
    plain = {place: row for place, row in plain_names(await spend(connection)).items() if place[1:3] in current}
    found = _unequal("names", plain, await names(connection))
    for prefix, total in (("spend", "sum(calls), sum(billed_usd)"), ("call", "sum(succeeded), sum(failed)")):
        periods, all_names = [
            await connection.fetch(
                f"SELECT grain, start, {total} FROM ledger.{prefix}_{table}"  # noqa: S608 constants
                f" JOIN ledger.{prefix}_rolled USING (grain, start) WHERE is_current AND {which}"
                " GROUP BY 1, 2 ORDER BY 1, 2"
            )
            for table, which in (("periods", "true"), ("names", "dimension = 'all' AND grain IN ('day', 'month')"))
        ]
        found += [] if periods == all_names else [f"{prefix}_periods: {periods} are not {all_names}"]
    ends = await connection.fetchval(_ENDS)
    ended = await connection.fetchval(_ENDED)
    return found + ([] if (ends or 0) == ended else [f"{ends} ends are rolled up, {ended} calls ended"])


_CURRENT = "SELECT grain, start FROM ledger.{}_rolled WHERE is_current"
_ENDS = """
SELECT sum(succeeded + failed) FROM ledger.call_periods JOIN ledger.call_rolled USING (grain, start)
WHERE grain = 'day' AND is_current
"""
_ENDED = """
SELECT count(*) FROM ledger.calls WHERE finished_at IS NOT NULL AND (received_at AT TIME ZONE 'UTC')::date IN (
    SELECT start FROM ledger.call_rolled WHERE grain = 'day' AND is_current)
"""


async def keys(connection: asyncpg.Connection) -> dict[str, dict[str, Any]]:
    """Key -> its state, as `plain_keys`."""
    rows = await connection.fetch("SELECT * FROM ledger.keys")
    return {row["key_id"]: _key(_state_of(row)) for row in rows}


def _key(row: dict[str, Any]) -> dict[str, Any]:
    until = [spell(at) for at in row.pop("former_until")]
    row["former"] = list(zip(row.pop("former_hashes"), until, strict=True))
    row["user"] = row.pop("user_id")
    return row


async def teams(connection: asyncpg.Connection) -> dict[str, dict[str, Any]]:
    """Team -> its state, as `plain_teams`."""
    rows = await connection.fetch("SELECT * FROM ledger.teams")
    return {row["team_id"]: _state_of(row) for row in rows}


def _state_of(row: asyncpg.Record) -> dict[str, Any]:
    """Return a row as facts spell it; when it was changed, and in which batch, is left out."""
    state = {name: value for name, value in row.items() if name not in {"changed_at", "batch"}}
    state["metadata"] = json.loads(state["metadata"])
    return {name: spell(value) if isinstance(value, datetime) else value for name, value in state.items()}


async def calls(connection: asyncpg.Connection) -> dict[tuple[str, str], dict[str, Any]]:
    """Call and journal -> row of the log."""
    rows = await connection.fetch("SELECT * FROM ledger.calls WHERE received_at IS NOT NULL")
    return {(str(row["call_id"]), str(row["journal_id"])): dict(row) for row in rows}


def _state(call: dict[str, Any]) -> str | None:
    if "cost" not in call:
        return None
    last = call["cost"][2]
    if call["unknown"] > 0 or last == "unknown":
        return "unknown"
    if last == "billed" and not call["estimated_usd"]:
        return "billed"
    return "mixed" if call["billed_usd"] else "estimated"


async def differences(connection: asyncpg.Connection, events: Iterable[Event]) -> list[str]:
    """Say where the live tables are not what the plain fold makes of `events`; [] where they agree."""
    events = list(events)
    found = _unequal("keys", plain_keys(events), await keys(connection))
    found += _unequal("teams", plain_teams(events), await teams(connection))
    found += _unequal("spend", plain_spend(events), await spend(connection))
    found += _unequal("line_items", plain_line_items(events), await line_items(connection))
    return found + _log_differences(plain_calls(events), await calls(connection))


def _unequal(name: str, plain: Mapping[Any, object], live: Mapping[Any, object]) -> list[str]:
    return [
        f"{name} {place}: plain {plain.get(place)}, live {live.get(place)}"
        for place in sorted({*plain, *live}, key=str)
        if plain.get(place) != live.get(place)
    ]


def _log_differences(
    plain: dict[tuple[str, str], dict[str, Any]], live: dict[tuple[str, str], dict[str, Any]]
) -> list[str]:
    found = [f"calls {place}: only in one" for place in plain.keys() ^ live.keys()]
    for place in plain.keys() & live.keys():
        expected = plain[place] | {"cost_state": _state(plain[place])}
        expected.pop("cost", None)
        found += [
            f"calls {place} {name}: plain {value!r}, live {live[place][name]!r}"
            for name, value in expected.items()
            if live[place][name] != value
        ]
    return found


async def totals_agree(connection: asyncpg.Connection) -> bool:
    """Whether spend, both totals and the log hold the same money, and the line items their sum."""
    money = "sum(billed_usd), sum(estimated_usd)"
    rows = [
        tuple(await connection.fetchrow(f"SELECT {money}, sum({unknown}) FROM ledger.{table}") or ())  # noqa: S608 constants
        for table, unknown in (
            ("spend", "unknown_calls"),
            ("key_totals", "unknown_calls"),
            ("end_user_totals", "unknown_calls"),
            ("calls", "unknown"),
        )
    ]
    items = await connection.fetchval("""
        SELECT (sum(amount_usd), sum(unknown_costs)) IS NOT DISTINCT FROM (
            SELECT (sum(billed_usd + estimated_usd), sum(unknown_calls)) FROM ledger.spend
        ) FROM ledger.line_items WHERE keyed
    """)
    return len(set(rows)) == 1 and bool(items)
