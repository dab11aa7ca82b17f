"""What `llm ledger status` says to a person: the lines made of its JSON."""

from collections.abc import Iterator
from typing import Any, Final

_PARTITIONS_SHOWN: Final = 10
_UNITS: Final = ("B", "kB", "MB", "GB", "TB")
_STEP: Final = 1024


def lines_of(found: dict[str, Any]) -> Iterator[str]:
    """Yield the lines that tell what was found."""
    where = f"embedded Postgres in {found['data_dir']}" if found["embedded"] else found["database"]
    yield f"book         {where}"
    if found["schema"]["problem"] is not None:
        yield f"schema       {found['schema']['problem']}"
        return
    yield f"schema       revision {found['schema']['needed']}, as this version needs"
    server = found["server"]
    yield (
        f"server       Postgres {server['version']}, synchronous_commit {server['synchronous_commit']}, "
        f"fsync {server['fsync']}, full_page_writes {server['full_page_writes']}"
    )
    yield from _durability(server)
    yield from _rights(found)
    yield from _journals(found["journals"])
    yield from _projections(found)
    age = found["oldest_open_call_s"]
    yield f"open calls   {found['open_calls']:,}" + ("" if age is None else f", the oldest {_seconds(age)} old")
    yield f"unknown      {found['unknown_costs']:,} costs of unknown amount (in no sum)"
    yield from _sizes(found)


def _durability(server: dict[str, Any]) -> Iterator[str]:
    if server["fsync"] != "on" or server["full_page_writes"] != "on":
        yield "             WARNING: with these settings a crash of the machine can lose or tear committed events"
    elif server["synchronous_commit"] == "off":
        yield "             (journals switch synchronous_commit on for their own sessions)"


def _rights(found: dict[str, Any]) -> Iterator[str]:
    rights = found["rights"]
    if found["separate_owner"]:
        yield f"roles        two logins: {rights['login']} appends, LLM_OWNER_DATABASE_URL owns"
    else:
        yield f"roles        one login, {rights['login']}: sessions step down to a role that may only append"
    if rights["is_superuser"]:
        yield "             the login is a superuser: guarded against mistakes, not against the holder of the URL"
    elif rights["login_may_change_events"]:
        yield "             the login may change events: guarded against mistakes, not against the holder of the URL"
    if rights["app_may_change_events"]:
        yield "             WARNING: the application's role may change events: revoke UPDATE, DELETE, TRUNCATE"
    bare = rights["unguarded_tables"]
    if bare:
        yield f"             WARNING: without append-only trigger: {', '.join(bare)}"
    else:
        yield "guards       append-only triggers stand on every partition, also for replication sessions"


def _journals(journals: dict[str, Any]) -> Iterator[str]:
    yield (
        f"journals     {journals['open']:,} open, {journals['sealed']:,} sealed with "
        f"{journals['sealed_events']:,} events"
    )
    for journal in journals["open_journals"]:
        writer = journal["writer"]
        who = f"{writer.get('host', '?')} pid {writer.get('pid', '?')} version {writer.get('version', '?')}"
        yield f"             {journal['journal_id']} at {journal['last_seq']:,}, by {who}: {_alive(journal)}"
    rest = journals["open"] - len(journals["open_journals"])
    if rest > 0:
        yield f"             and {rest:,} older ones"


def _alive(journal: dict[str, Any]) -> str:
    if journal["writer_ended"]:
        return "its process has ended; the next proxy that runs takes it over"
    if journal["beats"] is None:
        return "not watched"
    return "its heart beats" if journal["beats"] else "NO heartbeat; a running proxy takes it over after its lease"


def _projections(found: dict[str, Any]) -> Iterator[str]:
    for one in found["projections"]:
        state = (
            "up to date"
            if not one["events_behind"]
            else f"{one['events_behind']:,} events, {one['lag_s']:.1f} s behind"
        )
        if one["version_of_code"] not in {None, one["version"]}:
            state += f"; version {one['version']} there, {one['version_of_code']} here: run `llm ledger rebuild`"
        yield f"projection   {one['name']:<8} {state}"
    for stop in found["stopped"]:
        again, skip = stop["commands"]
        yield f"STOPPED      {stop['projection']} at event {stop['seq']} of {stop['journal_id']}: {stop['reason']}"
        yield f"             try it again:  {again}"
        yield f"             pass over it:  {skip}"


def _sizes(found: dict[str, Any]) -> Iterator[str]:
    partitions = found["partitions"]
    yield f"size         {_bytes(found['events_bytes'])} of events in {len(partitions)} partitions (days)"
    for one in partitions[-_PARTITIONS_SHOWN:]:
        count = f", about {one['events_estimate']:,} events" if one["events_estimate"] >= 0 else ""
        yield f"             {one['name']} {_bytes(one['total_bytes'])}{count}"


def _bytes(size: float) -> str:
    for unit in _UNITS[:-1]:
        if size < _STEP:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= _STEP
    return f"{size:.1f} {_UNITS[-1]}"


def _seconds(seconds: float) -> str:
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"
