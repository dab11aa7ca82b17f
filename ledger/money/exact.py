"""Exact decimals: the one context, the one parser and the one spelling of money.

A result that would have to be rounded raises instead (`decimal.Inexact`). Rounding belongs where a person reads a
number, never here. Neighbours: `price` bounds unit prices, `usage` bounds quantities, so products stay far below the
precision of the context.
"""

import decimal
import re
from decimal import Decimal

DECIMALS_MAX = 12  # NUMERIC(24,12), the type of every money column, would round the thirteenth silently
ZERO = Decimal(0)

EXACT = decimal.Context(
    prec=60,
    Emin=-200,
    Emax=200,
    traps=[
        decimal.Inexact,
        decimal.InvalidOperation,
        decimal.DivisionByZero,
        decimal.Overflow,
        decimal.FloatOperation,
    ],
)
"""For `EXACT.add`, `EXACT.multiply`, `EXACT.divide`: exact or an exception (a subclass of `ArithmeticError`)."""

_PLAIN = re.compile(r"[+-]?\d{1,30}(\.\d{1,30})?([eE][+-]?\d{1,3})?", re.ASCII)


def parse(text: str) -> Decimal:
    """Read a number from its text, every digit kept.

    Accepts plain and scientific notation ("0.0000025", "2.5e-06"). Raises `ValueError` for everything else, NaN and
    infinities included.
    """
    stripped = text.strip()
    if not _PLAIN.fullmatch(stripped):
        raise ValueError(f"expected a decimal number such as 0.0000025 or 2.5e-06, got {text[:60]!r}")
    return Decimal(stripped)


def plain(value: Decimal) -> str:
    """Spell a finite number in plain notation, without an exponent or trailing zeros: "0.0000025", "10", "0"."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def fits(value: Decimal) -> bool:
    """Whether a finite number is exact within `DECIMALS_MAX` decimals, trailing zeros aside."""
    exponent = value.as_tuple().exponent
    if not isinstance(exponent, int):
        return False
    return exponent >= -DECIMALS_MAX or len(plain(value).partition(".")[2]) <= DECIMALS_MAX
