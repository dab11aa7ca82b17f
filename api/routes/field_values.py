"""Reads the values that fields of administrative bodies hold, strictly: a type or a length that is wrong is refused.

Pure. Which fields there are is said by `key_fields.py` and `team_fields.py`; the body itself by `request_body.py`.
"""

from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Any, Final, cast

from api.config_nodes import nearest
from api.errors import ApiFailure, bad_request
from api.identity import TAGS_MAX
from ledger.facts import tags_of

#: Longer names would be shortened where reports group by them.
NAME_CHARS_MAX: Final = 200
METADATA_CHARS_MAX: Final = 4_096
_INTEGER_MAX: Final = 2**63 - 1
_METADATA_DEPTH_MAX: Final = 8
#: What LiteLLM's clients send of these where they want nothing of them.
_NEUTRAL: Final[Mapping[str, Any]] = {"key_type": "default", "spend": 0}


def wrong_type(param: str, expected: str, value: Any) -> ApiFailure:
    """400: a value of another type than the field takes."""
    kinds = {dict: "an object", list: "a list", str: "a text", bool: "a boolean", type(None): "null"}
    return bad_request(f"{param} must be {expected}: got {kinds.get(type(value), 'a number')}.", param=param)


def unknown_field(name: str, known: Collection[str], same: Mapping[str, str] | None = None) -> ApiFailure:
    """400: a field that is not known, with the nearest one that is; `same` are further names, not listed."""
    accepted = ", ".join(sorted(set(known) - (same or {}).keys()))
    return bad_request(
        f"Unknown field {name[:60]!r}{nearest(name, known) or '.'} Accepted here: {accepted}.",
        param=name[:60],
        code="unknown_parameter",
    )


def asks_nothing(name: str, value: Any) -> bool:
    """Return whether a field that is not enforced asks for nothing, as LiteLLM's clients write it where they want none.

    A limit of zero is a limit: it would let nothing pass.
    """
    if value is None or value is False or value in ("", [], {}):
        return True
    return name in _NEUTRAL and not isinstance(value, bool) and value == _NEUTRAL[name]


def read_name(value: Any, param: str) -> str:
    """Return a name, stripped, of at most NAME_CHARS_MAX characters; "" for none.

    Raises:
        ApiFailure: 400.
    """
    if not isinstance(value, str):
        raise wrong_type(param, "a text", value)
    stripped = value.strip()
    if len(stripped) > NAME_CHARS_MAX:
        raise bad_request(f"{param} must have at most {NAME_CHARS_MAX} characters: got {len(stripped)}.", param=param)
    return stripped


def read_flag(value: Any, param: str) -> bool:
    """Return true or false.

    Raises:
        ApiFailure: 400.
    """
    if not isinstance(value, bool):
        raise wrong_type(param, "true or false", value)
    return value


def read_texts(value: Any, param: str, most: int, chars_max: int = NAME_CHARS_MAX) -> list[str]:
    """Return at most `most` texts of 1 to `chars_max` characters, each once, stripped.

    Raises:
        ApiFailure: 400.
    """
    if not isinstance(value, list):
        raise wrong_type(param, "a list of texts", value)
    texts: list[str] = []
    for position, member in enumerate(cast("list[Any]", value)):
        place = f"{param}[{position}]"
        if not isinstance(member, str):
            raise wrong_type(place, "a text", member)
        if not member.strip() or len(member.strip()) > chars_max:
            raise bad_request(f"{place} must have from 1 to {chars_max} characters.", param=place)
        texts.append(member.strip())
    unique = list(dict.fromkeys(texts))
    if len(unique) > most:
        raise bad_request(f"{param} must be at most {most}: got {len(unique)}.", param=param)
    return unique


def read_tags(value: Any, param: str) -> list[str]:
    """Return tags as the book holds them: sorted, each once, at most TAGS_MAX, without commas.

    Raises:
        ApiFailure: 400.
    """
    texts = read_texts(value, param, 1_000)
    for tag in texts:
        if "," in tag:
            raise bad_request(f"A tag has no comma, which separates tags in a header: got {tag[:60]!r}.", param=param)
    tags = tags_of(texts)
    if len(tags) > TAGS_MAX:
        raise bad_request(f"A call has at most {TAGS_MAX} tags, this key would bring {len(tags)}.", param=param)
    return tags


def read_metadata(value: Any, param: str) -> dict[str, Any]:
    """Return what people attach: an object of at most METADATA_CHARS_MAX characters, without fractions.

    Raises:
        ApiFailure: 400.
    """
    if not isinstance(value, dict):
        raise wrong_type(param, "an object", value)
    size = _check_metadata(value, param, 0)
    if size > METADATA_CHARS_MAX:
        raise bad_request(f"{param} must be at most {METADATA_CHARS_MAX} characters: got {size}.", param=param)
    return cast("dict[str, Any]", value)


def _check_metadata(value: Any, path: str, depth: int) -> int:
    """Return about how many characters a value takes; refuse what facts cannot hold as it is."""
    if depth > _METADATA_DEPTH_MAX:
        raise bad_request(f"metadata must be nested at most {_METADATA_DEPTH_MAX} deep.", param="metadata")
    if isinstance(value, dict):
        members = cast("dict[str, Any]", value).items()
        return sum(len(name) + 4 + _check_metadata(member, f"{path}.{name}", depth + 1) for name, member in members) + 2
    if isinstance(value, list):
        listed = enumerate(cast("list[Any]", value))
        return sum(1 + _check_metadata(member, f"{path}[{position}]", depth + 1) for position, member in listed) + 2
    is_integer = isinstance(value, int)
    if isinstance(value, Decimal) or (is_integer and not -_INTEGER_MAX <= value <= _INTEGER_MAX):
        raise bad_request(
            f"{path[:200]} must not be a fraction or a number of more than 64 bits: send it as a text, which stays as "
            "it is.",
            param=path[:200],
        )
    return len(str(value)) + 2
