"""The encoder of facts: what it alters, what it says about it, what it leaves alone."""

import json
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from ledger.encoding import canonical, encode_facts, plain_decimal, rfc3339
from ledger.events import FACTS_BYTES_MAX
from tests.support.values import FORMS, WICKED, nested


@pytest.mark.parametrize("name", WICKED)
def test_encode_facts_of_a_wicked_value_gives_small_canonical_json(name: str) -> None:
    encoded = encode_facts({"kept": "word", "wicked": WICKED[name]})
    assert len(encoded) <= FACTS_BYTES_MAX
    assert canonical(json.loads(encoded)) == encoded
    assert b"\\u0000" not in encoded.replace(b"\\\\", b"")


@pytest.mark.parametrize("name", sorted(WICKED.keys() - {"escaped nul", "set", ""}))
def test_encode_facts_that_had_to_be_altered_says_so(name: str) -> None:
    assert json.loads(encode_facts({"wicked": WICKED[name]}))["altered"] is True


@pytest.mark.parametrize("name", sorted(WICKED.keys() - {"many names", "wide"}))
def test_encode_facts_beside_a_wicked_value_keeps_a_short_word(name: str) -> None:
    decoded = json.loads(encode_facts({"wicked": WICKED[name], "kept": "word"}))
    assert decoded.get("kept") == "word"


def test_encode_facts_with_an_escape_of_nul_in_words_keeps_the_words() -> None:
    assert json.loads(encode_facts({"a": "\\u0000"})) == {"a": "\\u0000"}


def test_encode_facts_with_nul_and_surrogates_writes_them_in_words() -> None:
    assert json.loads(encode_facts({"a": "x\x00y\ud800"})) == {"a": "x\\u0000y\\ud800", "altered": True}


@pytest.mark.parametrize(("value", "form"), FORMS)
def test_encode_facts_with_a_kind_that_has_a_form_does_not_call_it_altered(value: Any, form: Any) -> None:
    assert json.loads(encode_facts({"value": value})) == {"value": form}


def test_encode_facts_of_a_cycle_ends() -> None:
    cycle: list[Any] = []
    cycle.append(cycle)
    assert json.loads(encode_facts({"cycle": cycle}))["altered"] is True


def test_encode_facts_with_a_repr_that_raises_names_the_kind_only() -> None:
    class Wicked:
        def __repr__(self) -> str:
            raise RuntimeError("somebody else's code")

    assert json.loads(encode_facts({"a": Wicked(), "b": {Wicked(): 1}})) == {
        "a": "[Wicked]",
        "b": {"[Wicked]": 1},
        "altered": True,
    }


@pytest.mark.parametrize("value", [2**63 - 1, -(2**63) + 1, "ü€\U0001f600", "\x01\x7f\u2028", {}, [], nested(15)])
def test_encode_facts_of_plain_values_leaves_them(value: Any) -> None:
    assert json.loads(encode_facts({"value": value})) == {"value": value}


def test_encode_facts_at_the_limit_leaves_them_and_beyond_it_cuts() -> None:
    around = len(encode_facts({"value": ""}))
    whole = "x" * (FACTS_BYTES_MAX - around)
    assert json.loads(encode_facts({"value": whole})) == {"value": whole}
    cut = json.loads(encode_facts({"value": whole + "x"}))
    assert cut["altered"] is True
    assert cut["value"].endswith(f"[cut, {len(whole) + 1} characters]")


def test_encode_facts_of_the_most_values_that_fit_leaves_them() -> None:
    most = [1] * ((FACTS_BYTES_MAX - len('{"v":[]}')) // 2)
    assert json.loads(encode_facts({"v": most})) == {"v": most}


def test_canonical_of_differently_ordered_facts_is_the_same() -> None:
    assert canonical({"b": 1, "a": {"d": "ü", "c": None}}) == '{"a":{"c":null,"d":"ü"},"b":1}'.encode()


def test_plain_decimal_of_a_small_number_has_no_exponent() -> None:
    assert plain_decimal(Decimal("2.5e-6")) == "0.0000025"


def test_rfc3339_of_a_naive_time_is_refused() -> None:
    with pytest.raises(ValueError, match="naive"):
        rfc3339(datetime(2026, 1, 1))  # noqa: DTZ001 - the point


def test_encode_facts_too_large_without_strings_keeps_the_first_words() -> None:
    facts = {**{f"\x01{number}" * 40: "\x01" * 1_000 for number in range(50)}, "numbers": [[10**18] * 100] * 100}
    encoded = encode_facts({"attempt": 1, "key_id": "0193a5b2-0000-7000-8000-000000000001", **facts})
    assert len(encoded) <= FACTS_BYTES_MAX
    decoded = json.loads(encoded)
    assert (decoded["attempt"], decoded["key_id"]) == (1, "0193a5b2-0000-7000-8000-000000000001")
    assert decoded["altered"] is True
