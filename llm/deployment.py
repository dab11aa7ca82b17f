"""A deployment: one way to reach a model; those that share a model name are a group."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Deployment:
    """Where a model is served, with whose credentials, within which bounds. Times are in seconds."""

    deployment_id: str
    model_name: str
    upstream_model: str
    api_base: str
    api_key: str = field(repr=False)
    mock_response: str | None = None
    weight: float | None = None
    rpm: int | None = None
    tpm: int | None = None
    order: int | None = None
    timeout_s: float = 600.0
    stream_timeout_s: float = 600.0
    #: The region of a regional endpoint, where tokens may be dearer; "" for none.
    region: str = ""
    prices: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))

    @property
    def shown_base(self) -> str:
        """`api_base` without a user and password in it: as the book, errors and logs may show it."""
        scheme, mark, rest = self.api_base.partition("://")
        host, slash, path = rest.partition("/")
        return f"{scheme}{mark}{host.rpartition('@')[2]}{slash}{path}" if mark else self.api_base
