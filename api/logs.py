"""The log: text or JSON on standard error, with secrets cut out of every line as a last line of defence.

Nothing of a request's or an answer's body is logged anywhere; what is written here is about calls, not of them. Lines
of the access log are made in `access_log.py`.
"""

import logging
import re
import sys
from collections.abc import Iterable
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final
from urllib.parse import unquote, urlsplit

from pythonjsonlogger.json import JsonFormatter

from api.config import Config

#: This project's own packages; of all others, warnings and worse are logged, whatever the level: a library's debugging
#: output holds rows, headers and bodies.
OWN: Final = ("api", "llm", "ledger", "migrations")
_LEVELS: Final = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}
_HIDDEN: Final = "[secret]"
#: What looks like a key of OpenAI's or of this proxy, and a password within a URL.
_KEY: Final = re.compile(r"\bsk-[A-Za-z0-9_-]{8,}")
_PASSWORD: Final = re.compile(r"://([^\s:/@]*):[^\s@/]+@")
#: Shorter ones would cut words out of sentences.
_SECRET_CHARS_MIN: Final = 8


class Guard:
    """Cuts secrets out of a text: those that are known, and whatever looks like one."""

    def __init__(self) -> None:
        self._known: tuple[str, ...] = ()

    def learn(self, secrets: Iterable[str]) -> None:
        """Know these secrets from now on, and no others; those of fewer than 8 characters are left out."""
        # The longest first: one may be a part of another.
        self._known = tuple(sorted({text for text in secrets if len(text) >= _SECRET_CHARS_MIN}, key=len, reverse=True))

    def clean(self, text: str) -> str:
        """Return the text without secrets."""
        for secret in self._known:
            if secret in text:
                text = text.replace(secret, _HIDDEN)
        # Looking for a few characters first makes a line without any of this ten times as cheap.
        if "sk-" in text:
            text = _KEY.sub(_HIDDEN, text)
        return _PASSWORD.sub(rf"://\1:{_HIDDEN}@", text) if "://" in text else text


#: The one guard of the process, which every line passes; `learn` tells it the config's secrets.
GUARD: Final = Guard()


class _Text(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return GUARD.clean(super().format(record))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        del datefmt
        return moment(record.created)


class _Json(JsonFormatter):
    def format(self, record: logging.LogRecord) -> str:
        return GUARD.clean(super().format(record))

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: N802 - logging's name
        del datefmt
        return moment(record.created)


def moment(seconds: float) -> str:
    """Return a moment, given in seconds since 1970, as every line holds it: RFC 3339, in UTC, to the microsecond."""
    whole, rest = divmod(int(seconds * 1_000_000), 1_000_000)
    return f"{_second(whole)}.{rest:06d}Z"


@lru_cache(4)
def _second(seconds: int) -> str:
    """Return a whole second; a busy log asks for the same one a thousand times."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds").removesuffix("+00:00")


def secrets_of(config: Config, database_url: str, master_key: str) -> list[str]:
    """Return what must not appear in a line, as far as this process knows it."""
    url = urlsplit(database_url)
    password = url.password or ""
    keys = [entry.api_key for entry in config.model_list if entry.api_key]
    return [master_key, password, unquote(password), *keys]


def set_up_logging(log_format: str = "text", level: str = "info", secrets: Iterable[str] = ()) -> None:
    """Log to standard error from now on; may be called again, with what the config says."""
    GUARD.learn(secrets)
    handler = logging.StreamHandler(sys.stderr)
    if log_format == "json":
        names = {"asctime": "time", "levelname": "level", "name": "logger"}
        handler.setFormatter(_Json("%(asctime)s %(levelname)s %(name)s %(message)s", rename_fields=names))
    else:
        handler.setFormatter(_Text("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler], force=True)
    for name in OWN:
        logging.getLogger(name).setLevel(_LEVELS[level])


def follow_config(config: Config, database_url: str, master_key: str) -> None:
    """Log as the config says, and keep its secrets out."""
    set_up_logging(config.log_format, config.general.log_level, secrets_of(config, database_url, master_key))
