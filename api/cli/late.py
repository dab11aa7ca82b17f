"""Groups whose commands are loaded when they are run: `llm --help` and a small command do not load what others need.

What a list of commands says of each is written where the group is made; a test holds it against the command itself.
"""

from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final, cast

import click

from api.loading import collector_paused

#: A list of commands shows the whole first sentence of each one's help.
_SUMMARY_CHARS_MAX: Final = 500


@dataclass(frozen=True, slots=True)
class Late:
    """A command that is not loaded yet: `attribute` of the module `module`, and the first sentence of its help."""

    module: str
    attribute: str
    summary: str

    def load(self) -> click.Command:
        """Load and return the command."""
        with collector_paused():
            return cast("click.Command", getattr(import_module(self.module), self.attribute))


class LateGroup(click.Group):
    """A group of late commands; others can be added to it as to any group."""

    def __init__(self, *arguments: Any, late: dict[str, Late], **keywords: Any) -> None:
        super().__init__(*arguments, **keywords)
        self.late = late

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Return the names, sorted."""
        return sorted({*self.late, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Return the command, which is loaded now if it has not been."""
        if cmd_name in self.late and cmd_name not in self.commands:
            self.add_command(self.late[cmd_name].load(), cmd_name)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the list of commands without loading any."""
        rows = [(name, self._summary(ctx, name)) for name in self.list_commands(ctx)]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def _summary(self, ctx: click.Context, name: str) -> str:
        if name in self.late:
            return self.late[name].summary
        command = super().get_command(ctx, name)
        return "" if command is None else command.get_short_help_str(_SUMMARY_CHARS_MAX)
