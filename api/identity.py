"""For whom a call is made: end user and tags, from the key, the headers and the body, in the order that is promised.

The key's own end user wins over everything a client can say.
"""

from collections.abc import Mapping
from typing import Any, Final, cast

from api.auth import Caller
from api.errors import bad_request
from ledger.facts import tags_of
from llm.json_spans import Members

END_USER_HEADERS: Final = ("x-llm-end-user-id", "x-litellm-end-user-id", "x-litellm-customer-id")
TAG_HEADERS: Final = ("x-llm-tags", "x-litellm-tags")
TAGS_MAX: Final = 8
_NAME_CHARS_MAX: Final = 256


def end_user_of(caller: Caller, headers: Mapping[str, str], members: Members | None) -> str:
    """Return the end user of a call, "" for none.

    Raises:
        ApiFailure: 400 for a name that is too long.
    """
    if caller.end_user:
        return caller.end_user
    for name in END_USER_HEADERS:
        if headers.get(name, "").strip():
            return _bounded(headers[name].strip(), name)
    for name in ("safety_identifier", "user"):
        value = None if members is None else members.get(name)
        if isinstance(value, str) and value:
            return _bounded(value, name)
    value = _metadata(members).get("user_id")
    return _bounded(value, "metadata.user_id") if isinstance(value, str) else ""


def tags_of_call(caller: Caller, headers: Mapping[str, str], members: Members | None) -> list[str]:
    """Return the tags of a call: the key's, the headers' and the body's, as a sorted set of at most TAGS_MAX.

    Raises:
        ApiFailure: 400 for too many tags, or one that is too long: a tag that is dropped would make a report wrong.
    """
    values = list(caller.tags)
    for name in TAG_HEADERS:
        values += headers.get(name, "").split(",")
    given = _metadata(members).get("tags")
    if isinstance(given, str):
        values += given.split(",")
    elif isinstance(given, list):
        values += [value for value in cast("list[Any]", given) if isinstance(value, str)]
    tags = tags_of(values)
    if len(tags) > TAGS_MAX:
        raise bad_request(f"A call has at most {TAGS_MAX} tags, this one has {len(tags)}.", param="metadata.tags")
    return [_bounded(tag, "tag") for tag in tags]


def _metadata(members: Members | None) -> Mapping[str, Any]:
    value = None if members is None or "metadata" not in members else members.get("metadata")
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _bounded(text: str, param: str) -> str:
    if len(text) > _NAME_CHARS_MAX:
        raise bad_request(f"{param} has {len(text)} characters, at most {_NAME_CHARS_MAX} are taken.", param=param)
    return text
