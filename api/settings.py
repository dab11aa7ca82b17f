"""The one place that reads the environment.

Everything else is handed what it needs. The config file may refer to further variables by `os.environ/NAME`; the config
loader looks them up in `Settings.environ`.
"""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType

_APPLICATION = "responses-ledger"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the environment says; variables that are empty count as not set. Secrets are kept out of `repr`."""

    database_url: str | None = field(repr=False)
    """DATABASE_URL: the book's database; None for an embedded one in `data_dir`."""
    owner_database_url: str | None = field(repr=False)
    """LLM_OWNER_DATABASE_URL: the role that migrates; None where `database_url` does that as well."""
    data_dir: Path
    """LLM_DATA_DIR, absolute; not created here."""
    master_key: str | None = field(repr=False)
    """LLM_MASTER_KEY."""
    openai_api_key: str | None = field(repr=False)
    """OPENAI_API_KEY."""
    environ: Mapping[str, str] = field(repr=False)
    """The whole environment, for `os.environ/NAME` in the config."""

    @classmethod
    def read(cls, environ: Mapping[str, str] | None = None) -> "Settings":
        """Read the process's environment, or the mapping that a test hands in."""
        variables = MappingProxyType(dict(os.environ if environ is None else environ))

        def get(name: str) -> str | None:
            return variables.get(name, "").strip() or None

        given = get("LLM_DATA_DIR")
        return cls(
            database_url=get("DATABASE_URL"),
            owner_database_url=get("LLM_OWNER_DATABASE_URL"),
            data_dir=Path(given).expanduser().absolute() if given else default_data_dir(variables),
            master_key=get("LLM_MASTER_KEY"),
            openai_api_key=get("OPENAI_API_KEY"),
            environ=variables,
        )


def default_data_dir(environ: Mapping[str, str], platform: str = sys.platform) -> Path:
    """Where data lies by the platform's custom; `.data` below the working directory where HOME is of no use.

    Follows XDG_DATA_HOME (XDG Base Directory Specification), which counts only when absolute.
    """
    xdg = Path(environ.get("XDG_DATA_HOME", ""))
    home = Path(environ.get("HOME", ""))
    if xdg.is_absolute() and _is_writable(xdg):
        return xdg / _APPLICATION
    if home.is_absolute() and _is_writable(home):
        parent = home / "Library" / "Application Support" if platform == "darwin" else home / ".local" / "share"
        if _is_writable(parent):
            return parent / _APPLICATION
    return Path.cwd() / ".data"


def _is_writable(directory: Path) -> bool:
    """Whether something can be made there: the nearest parent that exists allows it."""
    for candidate in (directory, *directory.parents):
        if candidate.exists():
            return candidate.is_dir() and os.access(candidate, os.W_OK | os.X_OK)
    return False
