"""The encoder is total: whatever comes in, small canonical JSON comes out, and plain facts come out as they were."""

import json
from typing import Any

from hypothesis import HealthCheck, given, settings

from ledger.encoding import canonical, encode_facts
from ledger.events import FACTS_BYTES_MAX
from tests.support.values import FACTS, PLAIN_FACTS, TEXT

#: Drawing may be slow on a busy machine, which says nothing about the encoder.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


@UNHURRIED
@given(FACTS)
def test_encode_facts_of_anything_gives_small_canonical_json(facts: dict[str, Any]) -> None:
    encoded = encode_facts(facts)
    assert len(encoded) <= FACTS_BYTES_MAX
    decoded = json.loads(encoded, parse_float=_refused, parse_constant=_refused)
    assert canonical(decoded) == encoded
    assert not any("\x00" in text or any("\ud800" <= letter <= "\udfff" for letter in text) for text in _texts(decoded))
    assert all(-(2**63) <= number < 2**63 for number in _integers(decoded))


@UNHURRIED
@given(PLAIN_FACTS)
def test_encode_facts_of_plain_facts_leaves_them(facts: dict[str, Any]) -> None:
    assert json.loads(encode_facts(facts)) == facts


@UNHURRIED
@given(TEXT)
def test_encode_facts_of_a_text_says_altered_exactly_when_it_was(text: str) -> None:
    decoded = json.loads(encode_facts({"text": text}))
    assert (decoded["text"] != text) == decoded.get("altered", False)


def _refused(text: str) -> None:
    raise AssertionError(f"{text} is not a number that facts hold")


def _texts(value: Any) -> list[str]:
    if isinstance(value, dict):
        return [text for item in value.items() for part in item for text in _texts(part)]
    if isinstance(value, list):
        return [text for part in value for text in _texts(part)]
    return [value] if isinstance(value, str) else []


def _integers(value: Any) -> list[int]:
    if isinstance(value, dict):
        return [number for part in value.values() for number in _integers(part)]
    if isinstance(value, list):
        return [number for part in value for number in _integers(part)]
    return [value] if isinstance(value, int) else []
