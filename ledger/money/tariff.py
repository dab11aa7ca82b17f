"""What OpenAI charges beside the prices of its models: tools, background windows, cache lifetimes, regions.

The numbers lie in `data/*.json`, each with its unit, its source and the day on which it was checked; here they are read
once and asked for by name. `tariff_prices` makes published prices of those that are prices; a test holds the sources.
"""

import hashlib
import json
from collections.abc import Iterable
from decimal import Decimal
from functools import lru_cache
from importlib.resources import files
from typing import Any, Final

from ledger.money.exact import parse
from ledger.money.usage import Meter

#: The price list's name for what tools cost, whatever the model.
TOOLS_MODEL: Final = "openai-tools"
FILES: Final = ("tools", "image_models", "tiers", "rules")
_REGION_CHARS = 2


@lru_cache(maxsize=len(FILES))
def read(name: str) -> Any:
    """One of the data files, as `{name: {"value", "unit", "source", "checked_at", ...}}` or sections of these."""
    return json.loads(_bytes(name))


@lru_cache(maxsize=1)
def data_id() -> str:
    """A short hash of all data files: prices made of them name it as their source."""
    return hashlib.sha256(b"".join(_bytes(name) for name in FILES)).hexdigest()[:12]


def window_factor(window: str) -> Decimal | None:
    """Which part of the standard token prices a background window costs; None for a window that is not known."""
    return _factors().get(window)


@lru_cache(maxsize=1)
def _factors() -> dict[str, Decimal]:
    return {window: parse(entry["value"]) for window, entry in read("rules")["window_factors"].items()}


def cache_write_12h_factor() -> Decimal:
    """How much more a cache write costs that is kept for 12 hours instead of 30 minutes."""
    return parse(read("rules")["cache_write_12h_factor"]["value"])


@lru_cache(maxsize=1024)
def regional_factor(priced_model: str) -> Decimal | None:
    """What a model's tokens cost at a regional endpoint, as a factor; None where nobody says whether it is dearer."""
    rules = read("rules")
    if priced_model in rules["regional_models"]["value"]:
        return parse(rules["regional_factor"]["value"])
    exempt: Iterable[str] = rules["regional_exempt_models"]["value"]
    return Decimal(1) if any(priced_model == name or priced_model.startswith(f"{name}-") for name in exempt) else None


def region_of_host(host: str) -> str:
    """The region of a host name such as `eu.api.openai.com`; "" for every other host."""
    region, dot, rest = host.lower().partition(".")
    is_regional = f"{dot}{rest}" == read("rules")["regional_host_suffix"]["value"]
    return region if is_regional and len(region) == _REGION_CHARS and region.isascii() and region.isalpha() else ""


def search_content_tokens(model: str) -> int:
    """Input tokens that a search of the non-preview tool is charged with as a block; 0 where usage has them."""
    tools = read("tools")
    return tools["search_content_tokens"]["value"] if _begins(model, tools["search_content_models"]) else 0


def preview_meter(model: str) -> Meter | None:
    """Which of its two prices a preview search has on this model; None where that is not said."""
    tools = read("tools")
    if _begins(model, tools["preview_unclear_models"]):
        return None
    if _begins(model, tools["preview_plain_models"]):
        return "web_search_preview"
    return "web_search_preview_reasoning" if _begins(model, tools["preview_reasoning_models"]) else None


def container_minutes_min() -> int:
    """Minutes that a container's session is charged with at least."""
    return read("tools")["container_minutes_min"]["value"]


def container_memory_default() -> str:
    """The memory of a container for which the request names none."""
    return read("tools")["container_memory_default"]["value"]


def image_model_default() -> str:
    """The model of an `image_generation` tool that names none."""
    return read("tools")["image_model_default"]["value"]


def _begins(model: str, entry: dict[str, Any]) -> bool:
    return model.startswith(tuple(entry["value"]))


def _bytes(name: str) -> bytes:
    return files("ledger.money").joinpath("data", f"{name}.json").read_bytes()
