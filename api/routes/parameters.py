"""Query parameters of reports and listings, read strictly: what is not known is refused.

A misspelt filter that is passed over would answer with somebody else's numbers. Each route declares its parameters
once; the declaration reads requests and describes itself in OpenAPI.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, Final
from uuid import UUID

from fastapi import Request

from api.config_nodes import nearest
from api.errors import bad_request
from api.routes.times import read_moment

_CHARS_MAX: Final = 2_000
_DIGITS_MAX: Final = 18
_AMOUNT: Final = re.compile(r"\d{1,12}(\.\d{1,12})?", re.ASCII)
_VALUES_MAX: Final = 100
_BOOLEANS: Final = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Parameter:
    """A parameter, what it means, and the other names under which it is known.

    One with `is_list` may be repeated, and may have brackets after its name, as OpenAI's clients write it; where
    `has_commas`, a value may also be several of them with commas between.
    """

    name: str
    meaning: str
    other_names: tuple[str, ...] = ()
    is_required: bool = False
    is_list: bool = False
    has_commas: bool = False


class Parameters:
    """What one route takes."""

    def __init__(self, *parameters: Parameter) -> None:
        self._parameters = parameters
        self._name_of = {name: each.name for each in parameters for name in (each.name, *each.other_names)}
        self._lists = {each.name: each for each in parameters if each.is_list}
        self._name_of |= {f"{name}[]": name for name in self._lists}

    def read(self, request: Request) -> "Given":
        """Return what a request gives.

        Raises:
            ApiFailure: 400 for a parameter that is unknown, given twice, missing, too long or no text.
        """
        given: dict[str, str] = {}
        lists: dict[str, list[str]] = {}
        for name, value in request.query_params.multi_items():
            known = self._name_of.get(name)
            if known is None:
                raise self._unknown(name)
            if known in given:
                raise bad_request(f"{name} is given twice (also as another name of {known}); keep one.", param=name)
            if len(value) > _CHARS_MAX or "\x00" in value:
                raise bad_request(f"{name} must be a text of at most {_CHARS_MAX} characters, without NUL.", param=name)
            if known in self._lists:
                values = [each.strip() for each in value.split(",")] if self._lists[known].has_commas else [value]
                lists.setdefault(known, []).extend(values)
                if len(lists[known]) > _VALUES_MAX:
                    raise bad_request(f"{known} takes at most {_VALUES_MAX} values.", param=known)
            else:
                given[known] = value
        for parameter in self._parameters:
            if parameter.is_required and not given.get(parameter.name):
                raise bad_request(
                    f"Missing required parameter: {parameter.name!r}: {parameter.meaning}",
                    param=parameter.name,
                    code="missing_required_parameter",
                )
        return Given(given, lists)

    def _unknown(self, name: str) -> Exception:
        accepted = ", ".join(each.name for each in self._parameters) or "none"
        hint = nearest(name, [known for known in self._name_of if not known.endswith("[]")])
        return bad_request(
            f"Unknown parameter {name[:60]!r}{hint or '.'} Accepted here: {accepted}.",
            param=name,
            code="unknown_parameter",
        )

    @property
    def openapi(self) -> dict[str, Any]:
        """What `openapi_extra` of the route says of them."""
        return {
            "parameters": [
                {
                    "name": each.name,
                    "in": "query",
                    "required": each.is_required,
                    "description": " ".join(
                        [each.meaning, *([f"Also: {', '.join(each.other_names)}."] if each.other_names else [])]
                    ),
                    "schema": _schema(each),
                }
                for each in self._parameters
            ]
        }


def _schema(parameter: Parameter) -> dict[str, Any]:
    return {"type": "array", "items": {"type": "string"}} if parameter.is_list else {"type": "string"}


class Given:
    """The parameters of one request. Readers return None, or the default, for what is absent."""

    def __init__(self, values: dict[str, str], lists: dict[str, list[str]] | None = None) -> None:
        self._values = values
        self._lists = lists or {}

    def text(self, name: str) -> str | None:
        """Return a text; "" asks for what has none."""
        return self._values.get(name)

    def texts(self, name: str) -> tuple[str, ...]:
        """Return the values of a list, each once, in their order; () where it is absent."""
        return tuple(dict.fromkeys(self._lists.get(name, ())))

    def choices(self, name: str, options: Sequence[str]) -> tuple[str, ...]:
        """Return the values of a list, each one of `options`.

        Raises:
            ApiFailure: 400.
        """
        for text in self.texts(name):
            _require_one_of(name, text, options)
        return self.texts(name)

    def integer(self, name: str, default: int, *, least: int, most: int) -> int:
        """Return an integer from `least` to `most`.

        Raises:
            ApiFailure: 400.
        """
        text = self._values.get(name)
        if text is None:
            return default
        digits = text.removeprefix("-")
        if not (digits.isascii() and digits.isdecimal() and len(digits) <= _DIGITS_MAX and least <= int(text) <= most):
            raise bad_request(f"{name} must be an integer from {least} to {most}: got {text[:60]!r}.", param=name)
        return int(text)

    def amount(self, name: str) -> Decimal | None:
        """Return an amount in USD, at least 0.

        Raises:
            ApiFailure: 400.
        """
        text = self._values.get(name)
        if text is None:
            return None
        if not _AMOUNT.fullmatch(text):
            raise bad_request(f"{name} must be an amount such as 0.25: got {text[:60]!r}.", param=name)
        return Decimal(text)

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return true or false.

        Raises:
            ApiFailure: 400.
        """
        text = self._values.get(name)
        if text is None:
            return default
        if text.lower() not in _BOOLEANS:
            raise bad_request(f"{name} must be true or false: got {text[:60]!r}.", param=name)
        return _BOOLEANS[text.lower()]

    def choice(self, name: str, options: Sequence[str], default: str | None = None) -> str | None:
        """Return one of `options`.

        Raises:
            ApiFailure: 400.
        """
        text = self._values.get(name)
        if text is None:
            return default
        _require_one_of(name, text, options)
        return text

    def uuid(self, name: str) -> UUID | None:
        """Return a UUID.

        Raises:
            ApiFailure: 400.
        """
        text = self._values.get(name)
        if text is None:
            return None
        found = read_uuid(text)
        if found is None:
            raise bad_request(f"{name} must be a UUID: got {text[:60]!r}.", param=name)
        return found

    def period(self) -> tuple[datetime | None, datetime | None]:
        """Return `start_date` (inclusive) and `end_date` (exclusive, but a bare day counts in whole).

        Raises:
            ApiFailure: 400 for what is no time, or an end that is not after the start.
        """
        start_text, end_text = self._values.get("start_date"), self._values.get("end_date")
        start = None if start_text is None else read_moment(start_text, "start_date")
        end = None if end_text is None else read_moment(end_text, "end_date", is_end=True)
        if start is not None and end is not None and start >= end:
            raise bad_request(
                f"end_date must be later than start_date: got {start_text} to {end_text}.", param="end_date"
            )
        return start, end


def _require_one_of(name: str, text: str, options: Sequence[str]) -> None:
    if text not in options:
        raise bad_request(
            f"{name} must be one of {', '.join(options)}: got {text[:60]!r}{nearest(text, options) or '.'}", param=name
        )


START_DATE: Final = Parameter("start_date", "From then on: a UTC day or a moment.")
END_DATE: Final = Parameter("end_date", "Up to then: a UTC day, which counts in whole, or a moment, which does not.")


def read_uuid(text: str) -> UUID | None:
    """Return the UUID in its usual spelling; None for anything else."""
    try:
        found = UUID(text)
    except ValueError:
        return None
    return found if str(found) == text.lower() else None
