"""What a call asks for: its path, its request as the engine takes it, a model that is served, whether bodies are kept.

Pure. Who calls is `auth.py`'s, what is written down of it `call_recording.py`'s.
"""

import re
from typing import Final

from api.asgi_client import Scope
from api.auth import Caller
from api.errors import ApiFailure, bad_request, wrong_method
from llm.encodings import BodyTooLarge, EncodingError, UnsupportedEncoding
from llm.errors import ApiError
from llm.headers import as_json, is_json
from llm.json_text import JsonError
from llm.request import ClientRequest, read_client_request
from llm.router import Router
from llm.without_bodies import STORE_BODIES, STORE_BODIES_HEADER

PREFIXES: Final = ("/openai/v1", "/v1", "")
_NEEDS_JSON: Final = frozenset({"/responses", "/responses/compact", "/responses/input_tokens"})
#: What the API takes at a path, and at every other one below /responses.
_METHODS: Final = dict.fromkeys(_NEEDS_JSON, ("POST",))
_METHODS_BELOW: Final = ("GET", "POST", "DELETE")
MODEL_CHARS_MAX: Final = 256
#: What may lie below /responses. Anything else (dots that lead upwards, a question mark, an escaped slash) would
#: be another path at the upstream than the one whose owner was checked here.
_PATH: Final = re.compile(r"/responses(?:/(?!\.{1,2}(?:/|$))[A-Za-z0-9_.:~-]{1,512}){0,4}/?")


def path_of_call(path: str) -> str | None:
    """Return the path of a call below its prefix (`/responses...`); None for a path that is no call."""
    for prefix in PREFIXES:
        if path.startswith(prefix) and _PATH.fullmatch(rest := path[len(prefix) :]):
            return rest.rstrip("/")
    return None


def read_call(
    scope: Scope, path: str, headers: list[tuple[str, str]], body: bytes, *, limit_bytes: int
) -> ClientRequest:
    """Read the request of a call; a body of more than `limit_bytes`, once decoded, is refused.

    Raises:
        ApiFailure: the path does not take this method, or the body cannot be read.
    """
    method: str = scope["method"]
    allowed = _METHODS.get(path, _METHODS_BELOW)
    if method not in allowed:
        raise ApiFailure(wrong_method(method, path, allowed))
    needs_json = method == "POST" and path in _NEEDS_JSON
    try:
        return read_client_request(
            method,
            path,
            scope.get("query_string", b"").decode("latin-1"),
            as_json(headers) if needs_json else headers,
            body,
            limit_bytes=limit_bytes,
            needs_json=needs_json,
        )
    except JsonError as error:
        hint = "" if is_json(headers) else " Send it with content-type: application/json."
        raise bad_request(f"We could not parse the JSON body of your request: {error}.{hint}") from error
    except BodyTooLarge as error:
        raise ApiFailure(ApiError(413, f"{error}.", code="request_too_large")) from error
    except UnsupportedEncoding as error:
        raise ApiFailure(ApiError(415, f"{error}.", code="unsupported_content_encoding")) from error
    except EncodingError as error:
        raise bad_request(f"The request body is not what its content-encoding says: {error}.") from error


def require_model(request: ClientRequest, caller: Caller, router: Router) -> None:
    """Refuse a model that is not served, or that the key may not use.

    Raises:
        ApiFailure: 400.
    """
    if request.method != "POST" or request.path not in _NEEDS_JSON:
        return
    model = request.member("model")
    if not isinstance(model, str) or not model:
        raise bad_request("Missing required parameter: 'model'.", param="model", code="missing_required_parameter")
    if len(model) > MODEL_CHARS_MAX:
        raise bad_request("The model's name is too long.", param="model", code="model_not_found")
    if not router.has(model) or (caller.models and model not in caller.models):
        served = [name for name in router.model_names if not caller.models or name in caller.models]
        shown = model if model.isprintable() else ascii(model)[1:-1]
        listed = ", ".join(served[:50]) or "none that this key may call"
        message = f"The requested model '{shown}' does not exist. Served here: {listed}."
        raise bad_request(message, param="model", code="model_not_found")


def keeps_bodies(configured: str, caller: Caller, wish: str | None) -> bool:
    """Tell whether a call's bodies are stored: only if neither config nor key nor header (`wish`) says otherwise.

    A header that cannot be read counts as a wish not to have them stored; the call is then refused.
    """
    return configured != "none" and caller.store_bodies != "none" and wish in {None, "all"}


def check_store_bodies(wish: str | None) -> None:
    """Refuse a header that asks for neither.

    Raises:
        ApiFailure: 400.
    """
    if wish is not None and wish not in STORE_BODIES:
        message = f"{STORE_BODIES_HEADER} takes {' or '.join(STORE_BODIES)}: got {wish[:40]!r}."
        raise bad_request(message, param=STORE_BODIES_HEADER)
