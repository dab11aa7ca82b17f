"""What recorded answers must cost, worked out by hand: a table typed from OpenAI's pricing page and thirty plain lines.

It shares nothing with the product and nothing with the package that seeds its prices; that is its only merit. USD per
1,000,000 tokens as of 2026-11-22, prompts of at most 272,000 tokens. Page: https://developers.openai.com/api/docs/pricing
"""

from decimal import Decimal
from typing import Any

# (model as answers name it, tier): input, cached input, cache write, output. Where the page shows no price for cached
# input or cache writes, these tokens cost what input costs.
USD_PER_MILLION: dict[tuple[str, str], tuple[str, str, str, str]] = {
    ("gpt-4o", "default"): ("2.50", "1.25", "2.50", "10.00"),
    ("gpt-4o-2024-08-06", "default"): ("2.50", "1.25", "2.50", "10.00"),
    ("gpt-4o-mini", "default"): ("0.15", "0.075", "0.15", "0.60"),
    ("gpt-4o-mini-2024-07-18", "default"): ("0.15", "0.075", "0.15", "0.60"),
    ("gpt-4.1", "default"): ("2.00", "0.50", "2.00", "8.00"),
    ("gpt-4.1-2025-04-14", "default"): ("2.00", "0.50", "2.00", "8.00"),
    ("gpt-4.1-mini", "default"): ("0.40", "0.10", "0.40", "1.60"),
    ("gpt-4.1-mini-2025-04-14", "default"): ("0.40", "0.10", "0.40", "1.60"),
    ("gpt-4.1-nano-2025-04-14", "default"): ("0.10", "0.025", "0.10", "0.40"),
    ("gpt-4.1-nano-2025-04-14", "priority"): ("0.20", "0.05", "0.20", "0.80"),
    ("o3-2025-04-16", "default"): ("2.00", "0.50", "2.00", "8.00"),
    ("o3-mini-2025-01-31", "default"): ("1.10", "0.55", "1.10", "4.40"),
    ("o4-mini-2025-04-16", "default"): ("1.10", "0.275", "1.10", "4.40"),
    ("gpt-5", "default"): ("1.25", "0.125", "1.25", "10.00"),
    ("gpt-5-2025-08-07", "default"): ("1.25", "0.125", "1.25", "10.00"),
    ("gpt-5-2025-08-07", "flex"): ("0.625", "0.0625", "0.625", "5.00"),
    ("gpt-5-codex", "default"): ("1.25", "0.125", "1.25", "10.00"),
    ("gpt-5-mini-2025-08-07", "default"): ("0.25", "0.025", "0.25", "2.00"),
    ("gpt-5-nano-2025-08-07", "default"): ("0.05", "0.005", "0.05", "0.40"),
    ("gpt-5-pro-2025-10-06", "default"): ("15.00", "15.00", "15.00", "120.00"),
    ("gpt-5.1-2025-11-13", "default"): ("1.25", "0.125", "1.25", "10.00"),
    ("gpt-5.1-codex-max", "default"): ("1.25", "0.125", "1.25", "10.00"),
    ("gpt-5.2-2025-12-11", "default"): ("1.75", "0.175", "1.75", "14.00"),
    ("gpt-5.3-codex", "default"): ("1.75", "0.175", "1.75", "14.00"),
    ("gpt-5.4-2026-03-05", "default"): ("2.50", "0.25", "2.50", "15.00"),
    ("gpt-5.4-2026-03-05", "priority"): ("5.00", "0.50", "5.00", "30.00"),
    ("gpt-5.4-mini-2026-03-17", "default"): ("0.75", "0.075", "0.75", "4.50"),
    ("gpt-5.4-nano-2026-03-17", "default"): ("0.20", "0.02", "0.20", "1.25"),
    ("gpt-5.5-2026-04-23", "default"): ("5.00", "0.50", "5.00", "30.00"),
    ("gpt-5.6-sol", "default"): ("4.00", "0.40", "5.00", "20.00"),
    ("gpt-5.6-terra", "default"): ("2.00", "0.20", "2.50", "12.00"),
    ("computer-use-preview-2025-03-11", "default"): ("3.00", "3.00", "3.00", "12.00"),
}
CHARGED_TOOLS = {
    "web_search_call",
    "file_search_call",
    "code_interpreter_call",
    "image_generation_call",
    "shell_call",
    "program",
    "program_output",
}
"""What may cost more than its tokens: answers with these stand in `hand_tools`, each with its derivation."""


def expected_cost(response: dict[str, Any], request: dict[str, Any]) -> Decimal | None:
    """USD of the tokens of an answer whose request is known; None where it must be unknown (or has no usage)."""
    usage = response.get("usage")
    if not usage:
        return None
    model = response.get("model") or request["model"]
    row = USD_PER_MILLION.get((model, response.get("service_tier") or "default"))
    if row is None:
        return None
    assert usage["input_tokens"] <= 272_000, "the table holds prices for shorter prompts only"
    details = usage.get("input_tokens_details") or {}
    cached = details.get("cached_tokens") or 0
    written = details.get("cache_write_tokens") or 0
    tokens = (usage["input_tokens"] - cached - written, cached, written, usage["output_tokens"])
    return sum((Decimal(price) * count for price, count in zip(row, tokens, strict=True)), Decimal(0)) / 1_000_000
