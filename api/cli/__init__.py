"""The command line: `llm --config FILE` serves; `llm ledger ...` looks after the book."""

from api.cli.root import main

__all__ = ["main"]
