"""Usage is checked, never clipped, and comes apart into disjoint meters."""

from typing import Any

import pytest

from ledger.money.usage import TOKENS_MAX, Usage, UsageError, decompose, read_usage


def _response(**usage: Any) -> dict[str, Any]:
    return {"usage": {"input_tokens": 10, "output_tokens": 5, **usage}}


@pytest.mark.parametrize(
    ("response", "told"),
    [
        ({"usage": [1]}, "expected an object, got array"),
        ({"usage": {"output_tokens": 1}}, "usage.input_tokens: expected a whole number, got null"),
        (_response(input_tokens="10"), "got string '10'"),
        (_response(input_tokens=10.0), "got fraction 10.0"),
        (_response(output_tokens=True), "got boolean"),
        (_response(output_tokens=-1), "got -1"),
        (_response(output_tokens=TOKENS_MAX + 1), "expected 0 to"),
        (_response(output_tokens=10**4000), "more than 18 digits"),
        (_response(input_tokens_details=7), "input_tokens_details: expected an object"),
        (_response(input_tokens_details={"cached_tokens": "x" * 1000}), "cached_tokens: expected a whole number"),
        (_response(input_tokens_details={"cached_tokens": 6, "cache_write_tokens": 5}), "exceed input_tokens (10)"),
        (_response(output_tokens_details={"reasoning_tokens": 6}), "reasoning_tokens (6) exceed output_tokens (5)"),
        (_response(total_tokens=16), "total_tokens (16) is not input_tokens plus output_tokens (15)"),
        (
            _response(
                input_tokens_details={
                    "cache_write_tokens": 5,
                    "cache_write_tokens_details": {"ttl_30m_tokens": 1, "ttl_12h_tokens": 3},
                }
            ),
            "do not sum to cache_write_tokens (5)",
        ),
    ],
)
def test_usage_that_contradicts_itself_is_refused_with_the_values(response: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        read_usage(response)
    assert told in str(caught.value)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("response", [{}, {"usage": None}])
def test_usage_that_is_absent_is_none(response: dict[str, Any]) -> None:
    assert read_usage(response) is None


@pytest.mark.parametrize("details", [{}, {"input_tokens_details": None, "output_tokens_details": {}}])
def test_usage_without_details_counts_all_input_as_uncached(details: dict[str, Any]) -> None:
    usage = read_usage(_response(**details))
    assert usage is not None
    assert usage == Usage(10, 0, 0, 5, 0)
    assert decompose(usage) == (("input_uncached", 10), ("output", 5))


def test_usage_with_every_detail_comes_apart_without_overlap() -> None:
    usage = read_usage(
        {
            "usage": {
                "input_tokens": 100,
                "input_tokens_details": {
                    "cached_tokens": 40,
                    "cache_write_tokens": 30,
                    "cache_write_tokens_details": {"ttl_30m_tokens": 10, "ttl_12h_tokens": 20},
                },
                "output_tokens": 9,
                "output_tokens_details": {"reasoning_tokens": 8},
                "total_tokens": 109,
            }
        }
    )
    assert usage is not None
    assert usage == Usage(100, 40, 30, 9, 8, 10, 20)
    assert decompose(usage) == (
        ("input_uncached", 30),
        ("input_cached", 40),
        ("input_cache_write", 10),
        ("input_cache_write_12h", 20),
        ("output", 9),
    )


def test_usage_of_nothing_has_no_quantities() -> None:
    assert decompose(Usage(0, 0, 0, 0, 0)) == ()
