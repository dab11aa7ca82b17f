"""JSON answers in which every Decimal is a number with all its digits, in plain notation; no float is ever made.

`json` of the standard library cannot print a Decimal as a number, so the few kinds of values that answers hold are
written here. Money that our own shapes hold as text is spelt by `ledger.money.exact.plain`.
"""

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from json.encoder import encode_basestring_ascii
from typing import Any
from uuid import UUID

from ledger.encoding import rfc3339
from ledger.money.exact import plain


def encode(value: Any) -> str:
    """Return `value` as JSON: Decimals as numbers in plain notation, aware times as RFC 3339 in UTC, UUIDs as text.

    Raises:
        TypeError: a kind that answers do not hold, a float above all.
        ValueError: a Decimal that is no number.
    """
    return _spelt(value)


def _spelt(value: Any) -> str:  # noqa: PLR0911 one line a type; a table of functions is slower
    """Go by the exact type first: an answer may hold hundreds of thousands of values, nearly all of these few types."""
    if value is None:
        return "null"
    kind = type(value)
    if kind is str:
        return encode_basestring_ascii(value)
    if kind is int:
        return repr(value)
    if kind is dict:
        return "{" + ",".join([f"{encode_basestring_ascii(name)}:{_spelt(each)}" for name, each in value.items()]) + "}"
    if kind is list:
        return "[" + ",".join([_spelt(each) for each in value]) + "]"
    if isinstance(value, str):
        return encode_basestring_ascii(value)
    if isinstance(value, Mapping):
        return _spelt(dict(value))
    if isinstance(value, list | tuple):
        return _spelt([*value])
    return _scalar(value)


def _scalar(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, Decimal):
        if not value.is_finite():
            raise ValueError(f"{value} is no JSON number")
        return plain(value)
    if isinstance(value, datetime):
        return f'"{rfc3339(value)}"'
    if isinstance(value, UUID):
        return f'"{value}"'
    raise TypeError(f"an answer holds no {type(value).__name__}: {value!r:.100}")
