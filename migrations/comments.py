"""Spells COMMENT ON for migrations, so that each of them can keep its sentences in a table beside the names.

Changing what is spelt here changes what old migrations do: add, do not alter.
"""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class View:
    """One view of schema reporting: its sentence, its query, and a sentence for each column, in their order."""

    comment: str
    query: str
    columns: Mapping[str, str]


def quoted(text: str) -> str:
    """Spell a string literal."""
    return "'" + text.replace("'", "''") + "'"


def describe(kind: str, name: str, sentence: str, columns: Mapping[str, str]) -> str:
    """Spell the comments of a TABLE or VIEW (`kind`) called `name` with its schema, and of its columns."""
    lines = [f"COMMENT ON {kind} {name} IS {quoted(sentence)};"]
    lines += [f"COMMENT ON COLUMN {name}.{column} IS {quoted(text)};" for column, text in columns.items()]
    return "\n".join(lines)


def create_view(name: str, view: View) -> str:
    """Spell a view of schema reporting with its comments; who reports may read it, and the application."""
    place = f"reporting.{name}"
    grant = f"GRANT SELECT ON {place} TO responses_ledger_reporting, responses_ledger_app;"
    return f"CREATE VIEW {place} AS {view.query};\n{describe('VIEW', place, view.comment, view.columns)}\n{grant}"
