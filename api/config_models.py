"""The `model_list` of the config: which deployments there are, with whose key, where and at what price.

A deployment is one way to reach a model; those with the same `model_name` are a group, among which the router picks.
Mistakes are noted and the entry is left out, so that all entries are checked in one pass.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from urllib.parse import urlsplit

from api.config_keys import MODEL_INFO_NOT_HONOURED, PARAMS_NOT_HONOURED, PRICE_PREFIXES_NOT_HONOURED
from api.config_nodes import Entry, Findings
from api.config_table import Table
from ledger.money.config_price import CONFIG_KEYS
from ledger.money.exact import DECIMALS_MAX, fits, parse
from ledger.money.tariff import region_of_host

OPENAI_API_BASE = "https://api.openai.com/v1"
PROVIDER = "openai"


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One deployment."""

    model_name: str
    """What clients ask for; several deployments may share it."""
    upstream_model: str
    """What the upstream is asked for: the part behind `openai/`."""
    deployment_id: str
    """Unique in the config, and the same after a restart or a change of key."""
    api_base: str
    """Without a trailing slash; paths such as `/responses` are appended."""
    api_key: str = field(repr=False)
    """Sent upstream; "" for a mock, or where the config says that none is sent."""
    mock_response: str | None = None
    """The answer's text, given without any upstream; None for a real deployment."""
    weight: float | None = None
    rpm: int | None = None
    tpm: int | None = None
    order: int | None = None
    timeout_s: float | None = None
    stream_timeout_s: float | None = None
    region: str = ""
    """The region of a regional endpoint, whose tokens may be dearer; "" for none."""
    prices: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    """USD per token as the text in the file, by key: what `ledger.money.config_price` takes."""
    line: int = 0


def read_models(root: Table, findings: Findings) -> tuple[ModelEntry, ...]:
    """The deployments of the file, in its order."""
    listed = root.items("model_list")
    if not listed:
        if root.entry("model_list") is None or listed is not None:
            root.mistake("model_list", "expected a list of at least one model; examples/config.yaml has one")
        return ()
    models: list[ModelEntry] = []
    explicit: dict[str, str] = {}
    derived: dict[str, int] = {}
    for item in listed:
        table = Table(item.node, item.path, findings)
        model = _read_model(table, findings, explicit, derived)
        if model is not None:
            models.append(model)
    return tuple(models)


def _read_model(
    table: Table, findings: Findings, explicit: dict[str, str], derived: dict[str, int]
) -> ModelEntry | None:
    name = _read_name(table)
    params = table.table("llm_params", "litellm_params")
    info = table.table("model_info")
    table.finish()
    if params is None:
        table.mistake("llm_params", "expected llm_params with at least a model, such as model: openai/gpt-4o")
        return None
    upstream_model = _read_upstream_model(params)
    mock_response = params.read("mock_response", "a text", str, None)
    api_base = _read_api_base(params)
    api_key = "" if _is_mock(params) else _read_api_key(params, api_base, findings)
    region = _read_region(params, api_base)
    prices = _read_prices(params, info)
    rest = {
        "weight": params.number("weight", None),
        "order": params.integer("order", None),
        "timeout_s": params.seconds("timeout", None, minimum_s=0.001),
        "stream_timeout_s": params.seconds("stream_timeout", None, minimum_s=0.001),
    }
    limits = {"rpm": params.integer("rpm", None), "tpm": params.integer("tpm", None)}
    params.finish(PARAMS_NOT_HONOURED, PRICE_PREFIXES_NOT_HONOURED)
    deployment_id = _explicit_id(info, explicit)
    if info is not None:
        info.finish(MODEL_INFO_NOT_HONOURED, PRICE_PREFIXES_NOT_HONOURED)
    if name is None or upstream_model is None:
        return None
    return ModelEntry(
        model_name=name,
        upstream_model=upstream_model,
        deployment_id=deployment_id or _derived_id(name, upstream_model, api_base, derived),
        api_base=api_base,
        api_key=api_key,
        mock_response=mock_response,
        region=region,
        prices=prices,
        line=table.line,
        **rest,
        **limits,
    )


def _is_mock(params: Table) -> bool:
    # A mock needs no key: an api_key that names a missing environment variable is then no mistake.
    params.entry("api_key")
    return params.entry("mock_response") is not None


def _read_name(table: Table) -> str | None:
    name = table.text("model_name", "the name that clients ask for")
    if name is None:
        if table.entry("model_name") is None:
            table.mistake("model_name", "expected the name that clients ask for, such as gpt-4o")
    elif "*" in name:
        table.mistake("model_name", f"wildcards are not supported, found {name!r:.60}; name each model")
    return name


def _read_upstream_model(params: Table) -> str | None:
    model = params.text("model", "a model such as openai/gpt-4o")
    if model is None:
        if params.entry("model") is None:
            params.mistake("model", "expected a model such as openai/gpt-4o")
        return None
    provider, slash, name = model.partition("/")
    if not slash:
        params.mistake("model", f"expected the provider before the model, such as {PROVIDER}/{model:.60}")
    elif provider != PROVIDER:
        params.mistake("model", f"provider {provider!r:.40} is not supported; supported is {PROVIDER}/<model>")
    elif not name.strip() or "*" in name:
        params.mistake("model", f"expected the name of one model behind {PROVIDER}/, found {name!r:.60}")
    else:
        return name
    return None


def _read_api_base(params: Table) -> str:
    expected = "a URL such as https://api.openai.com/v1, without user, query or fragment"
    return params.read("api_base", expected, _url, OPENAI_API_BASE)


def _url(text: str) -> str:
    parts = urlsplit(text.strip())
    if parts.scheme not in {"http", "https"} or not parts.hostname or parts.query or parts.fragment:
        raise ValueError(text)
    if parts.username is not None or (parts.port is not None and not parts.port):
        raise ValueError(text)
    return text.strip().rstrip("/")


def _read_region(params: Table, api_base: str) -> str:
    """The region that prices depend on: as the config says, else that of the address."""
    given = params.read("data_residency", "a region such as eu or us, or global", _region, None)
    if given is not None:
        return "" if given == _GLOBAL else given
    return region_of_host(urlsplit(api_base).hostname or "")


_GLOBAL = "global"


def _region(text: str) -> str:
    region = text.strip().lower()
    if region != _GLOBAL and not (len(region) == 2 and region.isascii() and region.isalpha()):  # noqa: PLR2004 - as in eu
        raise ValueError(text)
    return region


def _read_api_key(params: Table, api_base: str, findings: Findings) -> str:
    """The key to send. `OPENAI_API_KEY` is only sent to OpenAI: another host must be given its own."""
    entry = params.entry("api_key")
    if entry is not None:
        return params.read("api_key", "a key, os.environ/NAME, or an empty text to send none", _header_text, "")
    key = findings.environ.get("OPENAI_API_KEY", "")
    if api_base == OPENAI_API_BASE:
        if not key:
            params.mistake("api_key", "expected a key, and the environment variable OPENAI_API_KEY is not set either")
        return key
    params.mistake("api_key", f'expected a key for {api_base:.80}, such as os.environ/NAME; "" sends none')
    return ""


def _header_text(text: str) -> str:
    if not text.isascii() or not text.isprintable() or text != text.strip():
        raise ValueError("not a header value")
    return text


def _read_prices(params: Table, info: Table | None) -> Mapping[str, str]:
    """The prices of `llm_params`, else those of `model_info`, where such proxies also look for them."""
    prices: dict[str, str] = {}
    for key in CONFIG_KEYS:
        for table in (params, info):
            text = None if table is None else table.read(key, _PRICE_EXPECTED, _price, None)
            if text is not None:
                prices.setdefault(key, text)
    given = {key for table in (params, info) if table is not None for key in CONFIG_KEYS if table.entry(key)}
    missing = [key for key in ("input_cost_per_token", "output_cost_per_token") if key not in given]
    if prices and missing:
        params.mistake(missing[0], f"expected beside {', '.join(sorted(prices))}: a price needs both input and output")
    return MappingProxyType(prices)


_PRICE_EXPECTED = f"USD per token of at most {DECIMALS_MAX} decimals, such as 0.0000025 or 2.5e-06"


def _price(text: str) -> str:
    value = parse(text)
    if value < 0 or not fits(value):
        raise ValueError(text)
    return text.strip()


def _explicit_id(info: Table | None, explicit: dict[str, str]) -> str | None:
    entry: Entry | None = None if info is None else info.entry("id")
    deployment_id = None if info is None else info.read("id", "an id of 1 to 200 printable characters", _id, None)
    if info is not None and entry is not None and deployment_id is not None:
        first = explicit.setdefault(deployment_id, entry.path)
        if first != entry.path:
            info.mistake("id", f"the id {deployment_id!r:.60} is that of {first} already; ids are unique")
    return deployment_id


def _id(text: str) -> str:
    if not 1 <= len(text) <= _ID_CHARACTERS_MAX or not text.isascii() or not text.isprintable():
        raise ValueError(text)
    return text


_ID_CHARACTERS_MAX = 200


def _derived_id(name: str, upstream_model: str, api_base: str, derived: dict[str, int]) -> str:
    """A hash of what the deployment is, without its key; a number tells equal ones, in the order of the file."""
    identity = "\n".join((name, f"{PROVIDER}/{upstream_model}", api_base))
    digest = hashlib.sha256(identity.encode()).hexdigest()[:16]
    derived[digest] = derived.get(digest, 0) + 1
    return digest if derived[digest] == 1 else f"{digest}-{derived[digest]}"
