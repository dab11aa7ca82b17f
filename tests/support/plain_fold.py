"""What the projections must hold, computed the plain way: forty lines over a list of events; no SQL, no product."""

from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from typing import Any, cast

from tests.support.book import Event

TOKENS = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")


def plain_keys(events: Iterable[Event]) -> dict[str, dict[str, Any]]:
    """Key -> its state, with its revision and by whom it was changed last."""
    keys: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.type.startswith("key."):
            key, last = event.facts["key"], {"revision": event.facts["revision"], "changed_by": event.facts["actor"]}
            if last["revision"] > keys.get(key["key_id"], {"revision": 0})["revision"]:
                former = {"former": [(each["key_hash"], each["until"]) for each in key.get("former", [])]}
                issued = {"issued_hash": key.get("issued_hash", key["key_hash"])}
                absent = {"allowed_routes": [], "permissions": [], "store_bodies": None}
                keys[key["key_id"]] = absent | key | former | issued | last
    return keys


def plain_teams(events: Iterable[Event]) -> dict[str, dict[str, Any]]:
    """Team -> its state, with its revision and by whom it was changed last."""
    teams: dict[str, dict[str, Any]] = {}
    for event in events:
        if event.type.startswith("team."):
            team, last = event.facts["team"], {"revision": event.facts["revision"], "changed_by": event.facts["actor"]}
            if last["revision"] > teams.get(team["team_id"], {"revision": 0})["revision"]:
                teams[team["team_id"]] = team | last
    return teams


def plain_spend(events: Iterable[Event]) -> dict[tuple[object, ...], list[Any]]:
    """Hour and dimensions -> calls, attempts, five token counts, billed, estimated, unknown."""
    spend: dict[tuple[object, ...], list[Any]] = defaultdict(lambda: [0] * 7 + [Decimal(0), Decimal(0), 0])
    for event in events:
        if event.type.startswith("cost."):
            facts, dims = event.facts, event.facts["dims"]
            names = ("org", "team", "user", "key", "end_user", "model", "deployment")
            place = (dims["received_at"][:13], *(dims[name] for name in names), facts["tier"], tuple(dims["tags"]))
            usage = facts["usage"] or dict.fromkeys(TOKENS, 0)
            amounts = (Decimal(facts["billed_usd"]), Decimal(facts["estimated_usd"]), facts["unknown"])
            tokens = (usage[name] for name in TOKENS)
            row = (facts["calls"], int(event.type == "cost.recorded"), *tokens, *amounts)
            spend[place] = [old + new for old, new in zip(spend[place], row, strict=True)]
    return dict(spend)


def plain_line_items(events: Iterable[Event]) -> dict[tuple[object, ...], list[Any]]:
    """Whether by key, day, org, team, user, key, model and meter -> quantity, USD, unknown."""
    sums: dict[tuple[object, ...], list[Any]] = defaultdict(lambda: [0, Decimal(0), 0])
    for event in events:
        if event.type.startswith("cost."):
            dims, unknown = event.facts["dims"], event.facts["unknown"]
            parts = [(item["meter"], item["quantity"], Decimal(item["amount_usd"]), 0) for item in event.facts["items"]]
            for meter, *row in [*parts, *([("unknown", 0, Decimal(0), unknown)] if unknown else [])]:
                who = tuple(dims[name] for name in ("org", "team", "user", "key"))
                for keyed in (True, False):
                    names = who if keyed else ("",) * len(who)
                    place = (keyed, dims["received_at"][:10], *names, dims["model"], meter)
                    sums[place] = [old + new for old, new in zip(sums[place], row, strict=True)]
    return dict(sums)


def plain_names(spend: dict[tuple[object, ...], list[Any]]) -> dict[tuple[str, str, str, str, str], list[Any]]:
    """Dimension, grain, first day, name, key -> sums, out of what `plain_spend` made."""
    names: dict[tuple[str, str, str, str, str], list[Any]] = {}
    for place, row in spend.items():
        hour, org, team, user, key, end_user, model, deployment, tier, tags = cast("tuple[Any, ...]", place)
        month, day = hour[:7], int(hour[8:10])
        lengths = {"day": 1, "eighth": 4, "quarter": 8, "half": 16, "month": 32}
        periods = {grain: f"{month}-{(day - 1) // days * days + 1:02}" for grain, days in lengths.items()}
        named = [
            ("all", "", ""),
            ("end_user", end_user, ""),
            ("end_user_of_key", end_user, key),
            *(("tag", tag, key) for tag in tags),
        ]
        dims = {"org": org, "team": team, "user_id": user, "key_id": key, "model": model, "deployment": deployment}
        named += [(dimension, name, "") for dimension, name in (dims | {"tier": tier}).items()]
        for grain, start in periods.items():
            for dimension, name, through in named:
                at = (dimension, grain, start, name, through)
                names[at] = [old + new for old, new in zip(names.get(at, [0] * len(row)), row, strict=True)]
    return names


def _money(call: dict[str, Any], facts: dict[str, Any]) -> None:
    if facts["usage"]:
        call |= {name: call.get(name, 0) + facts["usage"][name] for name in TOKENS}
    call["unknown"] += facts["unknown"]
    for name in ("billed_usd", "estimated_usd"):
        call[name] += Decimal(facts[name])
    call["cost"] = max(call.get("cost", (0, 0, "")), (facts["attempt"], facts["revision"], facts["state"]))


def _fact(call: dict[str, Any], event: Event) -> None:
    facts = event.facts
    match event.type:
        case "call.received":
            names = ("key_id", "end_user", "tags", "model", "stream", "org", "team", "client_retry")
            stored = facts.get("store_bodies") != "none"
            call |= {name: facts[name] for name in names} | {"received_at": event.recorded_at, "user_id": facts["user"]}
            call["bodies_stored"] = stored
        case "attempt.started":
            call |= {"attempts": facts["attempt"], "deployment": facts["deployment"]}
        case "attempt.answered":
            call |= {"upstream_request_id": facts["upstream_request_id"]}
        case "client.disconnected":
            call["disconnected"] = True
        case "call.rejected":
            end = {"http_status": facts["status"], "error_code": facts["error"]["code"]}
            call |= end | {"status": "rejected", "finished_at": event.recorded_at}
        case _ if event.type.startswith("call."):
            names = ("http_status", "response_id", "chunks", "duration_us", "first_chunk_us", "delivered")
            call |= {name: facts[name] for name in names} | {"status": event.type[5:], "finished_at": event.recorded_at}
        case _:
            pass


def plain_calls(events: Iterable[Event]) -> dict[tuple[str, str], dict[str, Any]]:
    """Call and journal -> what the log says of it; only of calls whose beginning is among the events."""
    start = {"status": "in_progress", "attempts": 0, "unknown": 0, "disconnected": False, "finished_at": None}
    zero = {"billed_usd": Decimal(0), "estimated_usd": Decimal(0)}
    calls: dict[tuple[str, str], dict[str, Any]] = defaultdict(lambda: start | zero)
    for event in events:
        if event.call_id is None:
            continue
        home = event.facts["dims"]["journal_id"] if event.type == "cost.corrected" else str(event.journal_id)
        call = calls[str(event.call_id), home]
        if event.type.startswith("cost."):
            _money(call, event.facts)
        else:
            _fact(call, event)
    return {place: call for place, call in calls.items() if "received_at" in call}
