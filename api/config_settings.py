"""The settings of the config: `general_settings`, `router_settings` and `llm_settings`, with their defaults.

Sections that are missing have their defaults. What is set per deployment is the matter of `api.config_models`.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from api.config_keys import GENERAL_NOT_HONOURED, LLM_NOT_HONOURED, ROUTER_NOT_HONOURED
from api.config_nodes import Entry, Findings, nearest
from api.config_table import Table, list_entries, read_entry
from llm.without_bodies import STORE_BODIES

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class GeneralSettings:
    """How the proxy runs and keeps its book."""

    master_key: str | None = field(default=None, repr=False)
    database_url: str | None = field(default=None, repr=False)
    data_dir: Path | None = None
    durability: str = "flush"
    """`flush`: a chunk is durable within one flush. `every_chunk`: before it is relayed."""
    load_tokenizer: str = "start"
    """`start`: the tokenizer of estimates is loaded behind the start. `first_use`: with the first estimate."""
    on_disconnect: str = "drain"
    """When the client leaves: `drain` reads the answer to its end, `cancel` cuts it."""
    store_bodies: str = "all"
    """`none`: neither requests nor answers are stored, only that they happened and what they cost."""
    serve_from_book: bool = True
    """Whether a stored response is given back from the book when its upstream cannot."""
    settle_background_s: float = 0.0
    """How often background responses of unknown cost are looked for and asked for; 0: never."""
    drain_timeout_s: float = 600.0
    ledger_wait_s: float = 30.0
    lease_s: float = 15.0
    shutdown_grace_s: float = 25.0
    head_timeout_s: float = 30.0
    """For how long a client may send the head of a request."""
    body_timeout_s: float = 300.0
    """For how long it may send the body."""
    max_request_bytes: int = 64 * MIB
    max_answer_bytes: int = 256 * MIB
    buffer_bytes: int = 64 * MIB
    call_buffer_bytes: int = 8 * MIB
    journal_max_events: int = 5_000_000
    journal_max_age_s: float = 21_600.0
    upstream_key_errors: str = "relay"
    """An upstream's 401 or 403: passed on as it is, or answered with an error of the proxy's own (`own`)."""
    api_description: str = "open"
    """Who may read /openapi.json and /docs: everybody, whoever has a key (`key`), or nobody (`off`)."""
    metrics_require_key: bool = True
    log_format: str = "text"
    log_level: str = "info"
    """From which level on this project's own lines are logged; others' from warning on."""
    access_log: bool = True
    """Whether each call that has ended is logged, as a line without content."""


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """Which attempts a call gets; where `llm_settings` say the same thing, these win."""

    num_retries: int = 2
    """Attempts beyond the first, within one group."""
    retry_after_s: float = 0.0
    """Shortest pause before a retry."""
    fallbacks: Mapping[str, tuple[str, ...]] = field(default_factory=lambda: MappingProxyType({}))
    """Model names to try, by the model name that failed."""
    default_fallbacks: tuple[str, ...] = ()
    max_fallbacks: int = 5
    routing_strategy: str = "simple-shuffle"


@dataclass(frozen=True, slots=True)
class LlmSettings:
    """What holds for all models."""

    request_timeout_s: float = 600.0
    json_logs: bool = False
    """LiteLLM's spelling of `log_format: json`."""


def read_general(table: Table | None, llm: Table | None) -> GeneralSettings:
    """The section `general_settings`, with what `llm_settings` say of it in LiteLLM's words; that is not finished."""
    default = GeneralSettings()
    metrics_key = None if llm is None else llm.boolean("require_auth_for_metrics_endpoint", None)
    if metrics_key is not None:
        default = replace(default, metrics_require_key=metrics_key)
    if table is None:
        return default
    if llm is not None and metrics_key is not None and table.entry("metrics_require_key") is not None:
        table.mistake(
            "metrics_require_key", f"means the same as {llm.path}.require_auth_for_metrics_endpoint; keep one"
        )
    in_bytes = table.size_bytes("max_request_bytes", None)
    in_mb = table.size_bytes("max_request_size_mb", None, unit_bytes=MIB)
    if in_bytes is not None and in_mb is not None:
        table.mistake("max_request_size_mb", "means the same as max_request_bytes; keep one")
    data_dir = table.text("data_dir", "the path of a directory")
    settings = GeneralSettings(
        master_key=table.read("master_key", "a key of at least 8 printable ASCII characters", _master_key, None),
        database_url=table.text("database_url", "a URL such as postgresql://user:password@host:5432/name"),
        data_dir=None if data_dir is None else Path(data_dir).expanduser(),
        durability=table.choice("durability", ("flush", "every_chunk"), default.durability),
        load_tokenizer=table.choice("load_tokenizer", ("start", "first_use"), default.load_tokenizer),
        on_disconnect=table.choice("on_disconnect", ("drain", "cancel"), default.on_disconnect),
        store_bodies=table.choice("store_bodies", STORE_BODIES, default.store_bodies),
        serve_from_book=table.boolean("serve_from_book", default.serve_from_book),
        settle_background_s=table.seconds("settle_background_s", default.settle_background_s),
        drain_timeout_s=table.seconds("drain_timeout_s", default.drain_timeout_s),
        ledger_wait_s=table.seconds("ledger_wait_s", default.ledger_wait_s),
        lease_s=table.seconds("lease_s", default.lease_s, minimum_s=LEASE_S_MIN),
        shutdown_grace_s=table.seconds("shutdown_grace_s", default.shutdown_grace_s),
        head_timeout_s=table.seconds("head_timeout_s", default.head_timeout_s, minimum_s=1.0),
        body_timeout_s=table.seconds("body_timeout_s", default.body_timeout_s, minimum_s=1.0),
        max_request_bytes=in_bytes or in_mb or default.max_request_bytes,
        max_answer_bytes=table.size_bytes("max_answer_bytes", default.max_answer_bytes),
        buffer_bytes=table.size_bytes("buffer_bytes", default.buffer_bytes, minimum_bytes=MIB),
        call_buffer_bytes=table.size_bytes("call_buffer_bytes", default.call_buffer_bytes, minimum_bytes=MIB),
        journal_max_events=table.integer("journal_max_events", default.journal_max_events, minimum=1000),
        journal_max_age_s=table.seconds("journal_max_age_s", default.journal_max_age_s, minimum_s=60.0),
        upstream_key_errors=table.choice("upstream_key_errors", ("relay", "own"), default.upstream_key_errors),
        api_description=table.choice("api_description", ("open", "key", "off"), default.api_description),
        metrics_require_key=table.boolean("metrics_require_key", default=default.metrics_require_key),
        log_format=table.choice("log_format", ("text", "json"), default.log_format),
        log_level=table.choice("log_level", ("debug", "info", "warning", "error"), default.log_level),
        access_log=table.boolean("access_log", default=default.access_log),
    )
    if settings.call_buffer_bytes > settings.buffer_bytes:
        table.mistake(
            "call_buffer_bytes",
            f"expected at most buffer_bytes ({settings.buffer_bytes}), found {settings.call_buffer_bytes}",
        )
    table.finish(GENERAL_NOT_HONOURED)
    return settings


LEASE_S_MIN = 5.0
"""Below this a heartbeat every 2 s and a slow commit could look like a death."""


def _master_key(text: str) -> str:
    if len(text) < _MASTER_KEY_CHARACTERS_MIN or not text.isascii() or not text.isprintable() or " " in text:
        raise ValueError("not usable as a bearer token")
    return text


_MASTER_KEY_CHARACTERS_MIN = 8


def read_router(router: Table | None, llm: Table | None, names: Collection[str], findings: Findings) -> RouterSettings:
    """The section `router_settings`, with what `llm_settings` say in its place; neither section is finished here."""
    default = RouterSettings()
    values: dict[str, int | float | None] = {"num_retries": None}
    fallbacks: dict[str, tuple[str, ...]] = {}
    default_fallbacks: tuple[str, ...] | None = None
    for table in (llm, router):  # the later wins
        if table is None:
            continue
        retries = table.integer("num_retries", None, maximum=20)
        values["num_retries"] = values["num_retries"] if retries is None else retries
        fallbacks.update(_read_fallbacks(table, names, findings))
        listed = _read_names(table, "default_fallbacks", names, findings)
        default_fallbacks = default_fallbacks if listed is None else listed
    retries = values["num_retries"]
    return RouterSettings(
        num_retries=default.num_retries if retries is None else int(retries),
        retry_after_s=default.retry_after_s if router is None else router.seconds("retry_after", 0.0),
        fallbacks=MappingProxyType(fallbacks),
        default_fallbacks=default_fallbacks or (),
        max_fallbacks=default.max_fallbacks if router is None else router.integer("max_fallbacks", 5, maximum=20),
        routing_strategy=default.routing_strategy
        if router is None
        else router.choice("routing_strategy", (default.routing_strategy,), default.routing_strategy),
    )


def read_llm(table: Table | None) -> LlmSettings:
    """The section `llm_settings`, also written `litellm_settings`."""
    default = LlmSettings()
    if table is None:
        return default
    settings = LlmSettings(
        request_timeout_s=table.seconds("request_timeout", default.request_timeout_s, minimum_s=0.001),
        json_logs=table.boolean("json_logs", default=default.json_logs),
    )
    drop = table.entry("drop_params")
    if drop is not None and table.boolean("drop_params", default=False):
        table.findings.warning(drop.line, drop.path, "has no effect here: fields pass to the upstream as they came")
    return settings


def finish(router: Table | None, llm: Table | None) -> None:
    """Judge the keys of both sections that nothing has asked for."""
    if router is not None:
        router.finish(ROUTER_NOT_HONOURED)
    if llm is not None:
        llm.finish(LLM_NOT_HONOURED)


def _read_fallbacks(table: Table, names: Collection[str], findings: Findings) -> dict[str, tuple[str, ...]]:
    """`fallbacks`: a list of mappings from a model name to a list of model names."""
    found: dict[str, tuple[str, ...]] = {}
    for item in table.items("fallbacks") or []:
        for name, targets in Table(item.node, item.path, findings).entries():
            _check_name(name, targets.line, targets.path, names, findings)
            if name in found:
                findings.mistake(targets.line, targets.path, f"fallbacks of {name!r:.60} are given twice; keep one")
            found[name] = _names_in(targets, names, findings)
            if name in found[name]:
                findings.mistake(targets.line, targets.path, f"expected other models than {name!r:.60} itself")
    return found


def _read_names(table: Table, key: str, names: Collection[str], findings: Findings) -> tuple[str, ...] | None:
    entry = table.entry(key)
    return None if entry is None else _names_in(entry, names, findings)


def _names_in(entry: Entry, names: Collection[str], findings: Findings) -> tuple[str, ...]:
    found: list[str] = []
    for item in list_entries(entry, findings) or []:
        name = read_entry(item, "a model_name of the model_list", str, "", findings)
        if name:
            _check_name(name, item.line, item.path, names, findings)
            found.append(name)
    return tuple(found)


def _check_name(name: str, line: int, path: str, names: Collection[str], findings: Findings) -> None:
    if name not in names:
        hint = nearest(name, names)
        findings.mistake(line, path, f"expected a model_name of the model_list, found {name!r:.60}{hint}")
