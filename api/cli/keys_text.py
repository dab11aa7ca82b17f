"""How keys are printed: a table, lines, or JSON as HTTP answers it."""

from datetime import UTC, datetime
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from api.exact_json import encode

#: Without a terminal a table is as wide as it needs to be.
_WIDTH: Final = 200


def print_secret(secret: str, shown: dict[str, Any], *, as_json: bool) -> None:
    """Print a new secret, this once: alone on stdout, and what it belongs to on stderr, or both as JSON."""
    if as_json:
        click.echo(encode({"key": secret, **shown}))
        return
    click.echo(f"{shown['key_id']}: shown once and stored nowhere:", err=True)
    click.echo(secret)


def print_key(shown: dict[str, Any], *, as_json: bool) -> None:
    """Print a key, a line a member; what is empty is left out."""
    if as_json:
        click.echo(encode(shown))
        return
    for name, value in shown.items():
        if value not in (None, "", [], {}, False) and name not in {"organization_id", "team_id", "user_id"}:
            click.echo(f"{name:<15} {value if isinstance(value, str) else encode(value).strip(chr(34))}")


def print_keys(keys: list[dict[str, Any]], *, as_json: bool) -> None:
    """Print keys as a table."""
    if as_json:
        click.echo(encode(keys))
        return
    table = Table("key_id", "name", "alias", "team", "user", "state", "expires", "spent USD", "unknown", box=None)
    now = datetime.now(UTC)
    for key in keys:
        state = _state(key, now)
        expires = "" if key["expires"] is None else key["expires"].strftime("%Y-%m-%d %H:%M")
        names = (key[name] for name in ("key_id", "key_name", "key_alias", "team", "user"))
        table.add_row(*map(_cell, names), state, expires, encode(key["spend"]), str(key["unknown_calls"]))
    # A click echo, so that whoever calls the command in a test or a pipe gets it.
    console = Console(width=None if Console().is_terminal else _WIDTH, highlight=False)
    with console.capture() as printed:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in printed.get().splitlines()))


def _cell(text: str) -> str:
    """Return a name without what a terminal, or rich, would obey."""
    shown = "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)
    return shown.replace("[", r"\[")


def _state(key: dict[str, Any], now: datetime) -> str:
    """Return the status by which `keys list` finds a key."""
    if key["revoked"] or key["blocked"]:
        return "revoked" if key["revoked"] else "blocked"
    return "active" if key["expires"] is None or key["expires"] > now else "expired"
