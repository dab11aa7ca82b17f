"""What the SDK is configured with: by `configure`, else by the environment. The one place of the SDK that reads it.

A call's own arguments win over both; `plan.py` puts the three together.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Final

from llm.sdk.errors import UsageError

OPENAI_API_BASE: Final = "https://api.openai.com/v1"
SDK_KEY: Final = "sdk"
_NAME_CHARS_MAX: Final = 256
_TAGS_MAX: Final = 8
#: As `llm.without_bodies` has it, which would load the ledger's modules with `import llm`.
_STORE_BODIES: Final = ("all", "none")


class Unset(Enum):
    """Tells an argument that was not given from None."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


@dataclass(frozen=True, slots=True)
class Identity:
    """Whom calls are booked to in a book of the SDK's own; "" where nobody is named."""

    key: str = SDK_KEY
    user: str = ""
    end_user: str = ""
    tags: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Settings:
    """What `configure` was told; None: not told. Times in seconds."""

    proxy: str | None = None
    ledger: str | None = field(default=None, repr=False)
    api_key: str | None = field(default=None, repr=False)
    api_base: str | None = None
    timeout_s: float | None = None
    num_retries: int | None = None
    store_bodies: str | None = None
    identity: Identity = field(default_factory=Identity)

    @property
    def ledger_url(self) -> str | None:
        """The book to record in: as configured, else LLM_LEDGER_URL; never DATABASE_URL, which any program may set."""
        if self.ledger is not None:
            return self.ledger or None
        return None if self.proxy else _environment("LLM_LEDGER_URL")


_current = Settings()


def configure(
    *,
    proxy: str | Unset | None = UNSET,
    ledger: str | Unset | None = UNSET,
    api_key: str | Unset | None = UNSET,
    api_base: str | Unset | None = UNSET,
    timeout: float | Unset | None = UNSET,
    num_retries: int | Unset | None = UNSET,
    key: str | Unset | None = UNSET,
    user: str | Unset | None = UNSET,
    end_user: str | Unset | None = UNSET,
    tags: Iterable[str] | Unset | None = UNSET,
    store_bodies: str | Unset | None = UNSET,
) -> None:
    """Set what all later calls of this process go by; what is not given stays as it is, None takes it back.

    `proxy`: the URL of a proxy to send calls to, with `api_key` as its key. `ledger`: the URL of the Postgres database
    whose book calls are recorded in, "" for none whatever LLM_LEDGER_URL says; `key`, `user`, `end_user` and `tags` are
    what they are booked to. `timeout` in seconds. `store_bodies`: "none" keeps what is asked and answered out of the
    book, also a proxy's; "all" stores it, unless the call, the proxy or its key says otherwise.

    Raises:
        UsageError: a value cannot be used, or two contradict each other; nothing is changed then.
    """
    global _current  # noqa: PLW0603 - a process has one configuration, as its users expect
    require_texts(proxy=proxy, ledger=ledger, api_key=api_key, api_base=api_base, key=key, user=user, end_user=end_user)
    now = _current
    identity = Identity(
        key=_name("key", key, now.identity.key, SDK_KEY),
        user=_name("user", user, now.identity.user, ""),
        end_user=_name("end_user", end_user, now.identity.end_user, ""),
        tags=now.identity.tags if isinstance(tags, Unset) else _tags(tags or ()),
    )
    wanted = replace(
        now,
        proxy=now.proxy if isinstance(proxy, Unset) else _proxy(proxy),
        ledger=now.ledger if isinstance(ledger, Unset) else ledger,
        api_key=now.api_key if isinstance(api_key, Unset) else api_key,
        api_base=now.api_base if isinstance(api_base, Unset) else api_base,
        timeout_s=now.timeout_s if isinstance(timeout, Unset) else timeout,
        num_retries=now.num_retries if isinstance(num_retries, Unset) else num_retries,
        store_bodies=now.store_bodies if isinstance(store_bodies, Unset) else store_bodies,
        identity=identity,
    )
    _check(wanted)
    _current = wanted


def require_texts(**given: object) -> None:
    """See that what was given is text; a value is not repeated, since it may be a key.

    Raises:
        UsageError: which one is not, and what it is.
    """
    for name, value in given.items():
        if value is not None and not isinstance(value, str | Unset):
            raise UsageError(f"{name} is a text, not {type(value).__name__}")


def current() -> Settings:
    """Return the settings in force."""
    return _current


def environment_target() -> tuple[str, str | None]:
    """Return OPENAI_BASE_URL, or OpenAI's own URL, and OPENAI_API_KEY, which is meant for that place only."""
    return (_environment("OPENAI_BASE_URL") or OPENAI_API_BASE).rstrip("/"), _environment("OPENAI_API_KEY")


def _environment(name: str) -> str | None:
    return os.environ.get(name, "").strip() or None


def _proxy(url: str | None) -> str | None:
    if url is None:
        return None
    text = url.strip().rstrip("/").removesuffix("/v1")
    if not text.startswith(("http://", "https://")):
        raise UsageError(f"proxy is the URL of a proxy, such as http://127.0.0.1:4000, not {url!r:.80}")
    return text


def _name(what: str, value: str | Unset | None, present: str, usual: str) -> str:
    if isinstance(value, Unset):
        return present
    text = (value or "").strip() or usual
    if len(text) > _NAME_CHARS_MAX:
        raise UsageError(f"{what} has {len(text)} characters, at most {_NAME_CHARS_MAX} are taken")
    return text


def _tags(values: Iterable[str]) -> tuple[str, ...]:
    if isinstance(values, str):
        raise UsageError(f"tags is a list of texts, such as [{values!r:.40}]")
    found = tuple(sorted({value.strip() for value in values if value.strip()}))
    if len(found) > _TAGS_MAX:
        raise UsageError(f"a call has at most {_TAGS_MAX} tags, here are {len(found)}")
    if any(len(tag) > _NAME_CHARS_MAX or "," in tag for tag in found):
        raise UsageError(f"a tag has at most {_NAME_CHARS_MAX} characters and no comma")
    return found


def _check(wanted: Settings) -> None:
    if wanted.store_bodies is not None and wanted.store_bodies not in _STORE_BODIES:
        raise UsageError(f"store_bodies is {' or '.join(_STORE_BODIES)}, not {wanted.store_bodies!r:.40}")
    if wanted.proxy and wanted.ledger:
        raise UsageError("proxy and ledger exclude each other: the proxy records what goes through it")
    if wanted.proxy and wanted.api_base:
        raise UsageError("proxy and api_base exclude each other: the proxy's config says where models are served")
    if wanted.proxy and (wanted.identity.key != SDK_KEY or wanted.identity.user):
        raise UsageError("key and user are said by the proxy's virtual key (api_key), not by the SDK")
