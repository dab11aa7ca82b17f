"""Which parts of an MCP server's URL may be credentials: whoever names such a server often puts its token there.

Pure. The address stays readable, so that the book says which server it was; a token in the path cannot be told from
one. What stands where in a request is `masking.py`'s.
"""

import re
from typing import Final

#: A scheme and what browsers and servers take for its slashes; then the authority, the path, query and fragment.
_URL: Final = re.compile(r"(?s)(\s*(?:[A-Za-z][A-Za-z0-9+.\-]*:)?[/\\]*)([^/\\?#]*)([^?#]*)(\?[^#]*)?(#.*)?")


def mask_url(url: str, mask: str) -> str:
    """A URL with `mask` for its userinfo, the values of its query's parameters and its fragment.

    A parameter without a value is masked whole, since it may be a token itself.
    """
    parts = _URL.fullmatch(url)
    if parts is None:  # cannot be: the pattern takes any text
        return mask
    begin, authority, path, query, fragment = parts.groups(default="")
    userinfo, at, host = authority.rpartition("@")
    if query[1:]:
        query = "?" + "&".join(_without_value(parameter, mask) for parameter in query[1:].split("&"))
    return "".join((begin, mask if userinfo else "", at, host, path, query, f"#{mask}" if fragment[1:] else fragment))


def _without_value(parameter: str, mask: str) -> str:
    name, equals, value = parameter.partition("=")
    if not equals:
        return mask if name else ""
    return f"{name}={mask}" if value else parameter
