"""What of a deployment's address may be shown."""

import pytest

from llm.deployment import Deployment


@pytest.mark.parametrize(
    ("base", "shown"),
    [
        ("https://api.openai.com/v1", "https://api.openai.com/v1"),
        ("https://user:pass@host:8443/a@b/v1", "https://host:8443/a@b/v1"),
        ("http://user@host", "http://host"),
        ("", ""),
    ],
)
def test_shown_base_has_no_credentials(base: str, shown: str) -> None:
    assert Deployment("d", "m", "m", base, "sk-1").shown_base == shown
