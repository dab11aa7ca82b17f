"""The config file, read and checked: a `Config`, or a `ConfigError` that names every mistake.

YAML nodes are the matter of `api.config_nodes`, keys and defaults of `api.config_models` and `api.config_settings`. The
environment is handed in by `api.settings`; nothing is read from it here but what the file refers to.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from api.config_keys import TOP_LEVEL_NOT_HONOURED
from api.config_models import ModelEntry, read_models
from api.config_nodes import FILE_BYTES_MAX, ConfigError, Finding, Findings, compose
from api.config_settings import (
    GeneralSettings,
    LlmSettings,
    RouterSettings,
    finish,
    read_general,
    read_llm,
    read_router,
)
from api.config_table import Table


@dataclass(frozen=True, slots=True)
class Config:
    """What the config file says, with defaults filled in."""

    model_list: tuple[ModelEntry, ...]
    router: RouterSettings
    general: GeneralSettings
    llm: LlmSettings
    warnings: tuple[str, ...]
    """One line for each key that has no effect here, with file and line."""
    sha256: str
    """Of the file's bytes, in hex: which config was in force."""

    @property
    def log_format(self) -> str:
        """How lines of the log are written: text or json."""
        return "json" if self.llm.json_logs else self.general.log_format


def load(path: Path, environ: Mapping[str, str]) -> Config:
    """Read the config file; `environ` answers `os.environ/NAME` and holds OPENAI_API_KEY.

    Raises:
        ConfigError: the file cannot be read, or holds mistakes; all of them are named.
    """
    try:
        with path.open("rb") as file:
            data = file.read(FILE_BYTES_MAX + 1)
    except OSError as error:
        reason = f"the config file cannot be read: {error.strerror or error}"
        raise ConfigError([Finding(str(path), 0, "", reason)]) from error
    return parse(data, str(path), environ)


def parse(data: bytes, file: str, environ: Mapping[str, str]) -> Config:
    """The config in `data`; `file` is its name in messages. See `load`.

    Raises:
        ConfigError: see `load`.
    """
    findings = Findings(file, environ)
    node = compose(data, findings)
    if node is None:
        raise ConfigError(findings.mistakes)
    root = Table(node, "", findings)
    if not root.is_mapping:
        raise ConfigError(findings.mistakes)
    models = read_models(root, findings)
    router_table = root.table("router_settings")
    llm_table = root.table("llm_settings", "litellm_settings")
    general = read_general(root.table("general_settings"), llm_table)
    router = read_router(router_table, llm_table, {model.model_name for model in models}, findings)
    llm = read_llm(llm_table)
    finish(router_table, llm_table)
    root.finish(TOP_LEVEL_NOT_HONOURED)
    if findings.mistakes:
        raise ConfigError(findings.mistakes)
    return Config(
        model_list=models,
        router=router,
        general=general,
        llm=llm,
        warnings=tuple(str(warning) for warning in sorted(findings.warnings, key=lambda warning: warning.line)),
        sha256=hashlib.sha256(data).hexdigest(),
    )
