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
    pieces: list[str] = []
    _write(value, pieces)
    return "".join(pieces)


def _write(value: Any, pieces: list[str]) -> None:
    if isinstance(value, str):
        pieces.append(encode_basestring_ascii(value))
    elif isinstance(value, Mapping):
        separator = "{"
        for name, member in value.items():
            pieces.append(f"{separator}{encode_basestring_ascii(name)}:")
            _write(member, pieces)
            separator = ","
        pieces.append("}" if value else "{}")
    elif isinstance(value, list | tuple):
        separator = "["
        for member in value:
            pieces.append(separator)
            _write(member, pieces)
            separator = ","
        pieces.append("]" if value else "[]")
    else:
        pieces.append(_scalar(value))


def _scalar(value: Any) -> str:
    if value is None:
        return "null"
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
