"""The vocabulary: every type is described in docs/EVENTS.md, and the page describes nothing else."""

import re
from pathlib import Path

import pytest

from ledger import chain, events

PAGE = (Path(__file__).resolve().parents[3] / "docs" / "EVENTS.md").read_text()
TYPES = {
    value
    for name, value in vars(events).items()
    if name.isupper() and isinstance(value, str) and not name.endswith("_MAX")
}


@pytest.mark.parametrize("type_", sorted(TYPES))
def test_type_of_the_vocabulary_is_described(type_: str) -> None:
    assert re.search(rf"^(### `{type_}`$|- .*`{type_}`.*:)", PAGE, re.MULTILINE)


def test_page_describes_no_type_that_does_not_exist() -> None:
    families = "|".join(sorted({type_.partition(".")[0] for type_ in TYPES}))
    named = set(re.findall(rf"`((?:{families})\.[a-z]+)`", PAGE))
    assert named == TYPES


def test_types_are_in_the_past_tense_and_of_two_words() -> None:
    assert all(re.fullmatch(r"[a-z]+\.[a-z]+", type_) for type_ in TYPES)
    assert all(re.search(r"(ed|part|read|unstorable|incomplete)$", type_) for type_ in TYPES)


def test_terminals_end_a_call_and_a_rejection_does_too() -> None:
    assert all(type_.startswith("call.") for type_ in events.TERMINALS)
    assert {events.CALL_REJECTED} == events.ENDINGS - events.TERMINALS
    assert len(events.TERMINALS) == 6


def test_leaf_is_of_the_length_that_the_page_says() -> None:
    section = PAGE.partition("## The chain")[2]
    widths = [int(width) for width in re.findall(r"^\| (\d+) \|", section, re.MULTILINE)]
    assert sum(widths) == chain._LEAF.size
    assert f"these {sum(widths)} bytes and the type" in section


def test_limits_on_the_page_are_the_codes() -> None:
    assert f"at most {events.FACTS_BYTES_MAX // 1024} KiB" in PAGE
    assert f"more than {events.PART_BYTES_MAX // 1024 // 1024} MiB continues" in PAGE
