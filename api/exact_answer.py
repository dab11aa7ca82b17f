"""The answer that carries exact JSON; how values are spelt is `exact_json.py`'s affair, which knows no web server."""

from typing import Any

from starlette.responses import Response

from api.exact_json import encode


class ExactJson(Response):
    """An answer of `encode`."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        """Return the body."""
        return encode(content).encode()
