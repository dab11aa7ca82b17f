"""Rows of LiteLLM that cannot become a key are refused by name; none of them ends an import, or widens a key."""

from decimal import Decimal
from typing import Any

import pytest

from api.litellm_keys import RowError, read_row

ROW = {"token": "a" * 64, "key_name": "sk-...wxyz", "models": '{gpt-5,"a b"}', "spend": "0.5"}


def test_row_as_a_csv_has_it_becomes_a_key() -> None:
    key = read_row({**ROW, "metadata": '{"tags": ["t"], "a": 0.5}', "expires": "", "blocked": "t"})
    assert (key.state["models"], key.state["tags"], key.state["metadata"]) == (["gpt-5", "a b"], ["t"], {"a": "0.5"})
    assert (key.state["blocked"], key.spend, key.notes) == (True, Decimal("0.5"), ("metadata.a became a text",))


def test_row_with_fields_that_ask_for_nothing_becomes_a_key() -> None:
    neutral: dict[str, Any] = {
        "max_budget": None,
        "aliases": {},
        "guardrails": [],
        "auto_rotate": False,
        "config": "{}",
    }
    assert read_row(ROW | neutral).state["key_hash"] == ROW["token"]
    limited = ROW | {"metadata": {"guardrails": ["pii"], "project_id": "p", "model_rpm_limit": None}}
    lost = read_row(limited, ignored=["guardrails"])
    assert (lost.notes, lost.state["metadata"]["guardrails"]) == (("guardrails is not enforced",), ["pii"])


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"key_alias": "half \ud800"}, "half a surrogate pair"),
        ({"metadata": {"a": {"\x00": 1}}}, "NUL"),
        ({"models": '{"a'}, "models is no array"),
        ({"models": "{"}, "models is no array"),
        ({"models": "{a\nb}"}, "models is no array"),
        ({"models": [{"all-proxy-models": 1}]}, "models\\[0\\] must be a text"),
        ({"spend": "1e999999999"}, "spend is too large"),
        ({"spend": "much"}, "spend is no number"),
        ({"token": "A" * 64}, "token is no SHA-256"),
        ({"blocked": "maybe"}, "blocked is neither"),
        ({"expires": 7}, "expires must be"),
        ({"max_budget": 0.0}, "max_budget is set \\(0.0\\)"),
        ({"rpm_limit": 0}, "rpm_limit is set"),
        ({"tpd_limit": "1000"}, "tpd_limit is set"),
        ({"metadata": '{"model_rpm_limit": {"gpt-5": 1}}'}, "model_rpm_limit is set"),
        ({"metadata": {"guardrails": ["pii"]}}, "guardrails is set .*--ignore guardrails"),
    ],
)
def test_row_that_cannot_be_read_is_refused(row: dict[str, Any], said: str) -> None:
    with pytest.raises(RowError, match=said):
        read_row(ROW | row)
