"""The part of the proxy that FastAPI serves: everything but the calls themselves.

Errors of every kind get OpenAI's shape here; what the routes do is in `routes/`.
"""

import importlib
import logging
import pkgutil
from typing import cast

from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.routing import APIRoute, iter_route_contexts
from starlette.exceptions import HTTPException

import api.routes
from api.errors import ApiFailure, unknown_path, wrong_method
from api.openapi import describe
from api.version import VERSION
from llm.errors import INTERNAL, ApiError

logger = logging.getLogger(__name__)

_NOT_FOUND = 404
_METHOD_NOT_ALLOWED = 405


def make_web() -> FastAPI:
    """Return the web application; `state.context` is set when the process has started."""
    web = FastAPI(
        title="responses-ledger",
        version=VERSION,
        redirect_slashes=False,
        openapi_url=None,  # routes/description.py serves it, without a page that loads scripts of others
        docs_url=None,
        redoc_url=None,
    )
    for router in _routers():
        web.include_router(router)
    web.openapi = lambda: describe(web)
    web.add_exception_handler(ApiFailure, _on_failure)
    web.add_exception_handler(RequestValidationError, _on_invalid)
    web.add_exception_handler(HTTPException, _on_http)
    web.add_exception_handler(Exception, _on_anything)
    return web


def _routers() -> list[APIRouter]:
    """Return the `router` of each module in `api.routes`: a new file there is served without being named here."""
    found: list[APIRouter] = []
    for module in pkgutil.iter_modules(api.routes.__path__):
        router = getattr(importlib.import_module(f"api.routes.{module.name}"), "router", None)
        if isinstance(router, APIRouter):
            found.append(router)
    return found


def _answer(error: ApiError) -> Response:
    return Response(error.body(), error.status, dict(error.headers()))


async def _on_failure(_request: Request, failure: Exception) -> Response:
    return _answer(cast("ApiFailure", failure).error)


async def _on_invalid(_request: Request, failure: Exception) -> Response:
    first = cast("RequestValidationError", failure).errors()[0]
    place = ".".join(str(part) for part in first["loc"] if part not in {"body", "query", "path"})
    return _answer(
        ApiError(400, f"{place or 'The request'}: {first['msg']}.", param=place or None, code="invalid_value")
    )


async def _on_http(request: Request, failure: Exception) -> Response:
    error = cast("HTTPException", failure)
    if error.status_code == _NOT_FOUND:
        return _answer(unknown_path(request.method, request.url.path))
    if error.status_code == _METHOD_NOT_ALLOWED:
        return _answer(wrong_method(request.method, request.url.path, _allowed(request)))
    return _answer(ApiError(error.status_code, str(error.detail), code="http_error"))


def _allowed(request: Request) -> list[str]:
    """Return the methods that a path takes; Starlette names those of the first route that has it."""
    path = request.url.path
    found: set[str] = set()
    for context in iter_route_contexts(request.app.routes):
        route = getattr(context, "route", context)
        if isinstance(route, APIRoute) and route.path_regex.match(path):
            found |= route.methods or set()
    return sorted(found)


async def _on_anything(request: Request, failure: Exception) -> Response:
    logger.error("%s %s failed", request.method, request.url.path, exc_info=failure)
    return _answer(INTERNAL)
