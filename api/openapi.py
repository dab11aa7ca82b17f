"""The description of the API (OpenAPI 3.1): what FastAPI knows of the routes, and what it cannot know.

That is: the calls themselves, which no framework serves (`api/calls.py`); which routes need a key; the shape of every
error. The shapes of the other routes are declared beside them (`api/routes/shapes.py`).
"""

from collections.abc import Iterable, Mapping
from typing import Any, Final, cast

from fastapi import FastAPI
from fastapi.dependencies.models import Dependant
from fastapi.openapi.utils import get_openapi
from fastapi.routing import APIRoute, iter_route_contexts

from api.context import caller
from api.openapi_calls import CALL_PATHS, CALL_SCHEMAS
from api.routes.shapes import REFERENCE, ErrorAnswer
from api.version import VERSION

_KEY: Final = "key"
_ERROR: Final = {
    "description": "An error in OpenAI's shape: what was expected, and what to do.",
    "content": {"application/json": {"schema": {"$ref": REFERENCE.format(model="ErrorAnswer")}}},
}
_INTRODUCTION: Final = (
    "A proxy for OpenAI's Responses API that keeps books. Calls go to `/v1/responses` (also `/responses` and "
    "`/openai/v1/responses`); keys, spend and the record of each call are read by the other routes."
)


def describe(web: FastAPI) -> dict[str, Any]:
    """Return the whole description; computed once for an application."""
    if web.openapi_schema is None:
        made = get_openapi(
            title="responses-ledger", version=VERSION, description=_INTRODUCTION, routes=[*_described(web)]
        )
        schemas = made.setdefault("components", {}).setdefault("schemas", {})
        for of_fastapi in ("HTTPValidationError", "ValidationError"):
            schemas.pop(of_fastapi, None)
        schemas.update(CALL_SCHEMAS)
        schemas.update(_lifted({"ErrorAnswer": ErrorAnswer.model_json_schema(ref_template=REFERENCE)}))
        made["paths"] = {**CALL_PATHS, **made["paths"]}
        for body in _bodies(made["paths"]):
            schemas.update(_lifted({"": body}))
        made["components"]["securitySchemes"] = {_KEY: {"type": "http", "scheme": "bearer"}}
        open_paths = {route.path for route in _described(web) if not needs_key(route.dependant)}
        _complete(made["paths"], open_paths)
        web.openapi_schema = made
    return web.openapi_schema


def _described(web: FastAPI) -> Iterable[APIRoute]:
    """Yield the routes that the description names."""
    for found in iter_route_contexts(web.routes):
        route = getattr(found, "route", found)
        if isinstance(route, APIRoute) and route.include_in_schema:
            yield route


def needs_key(dependant: Dependant) -> bool:
    """Tell whether a route asks who calls: `caller`, or what builds upon it in `api.context`."""
    return any(
        (each.call is not None and each.call.__module__ == caller.__module__ and each.call.__name__ != "context")
        or needs_key(each)
        for each in dependant.dependencies
    )


def _bodies(paths: Mapping[str, Any]) -> Iterable[dict[str, Any]]:
    for operations in paths.values():
        for operation in operations.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                yield content["schema"]


def _lifted(schemas: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Take the definitions out of schemas that hold their own, and return all that have names."""
    found: dict[str, Any] = {name: schema for name, schema in schemas.items() if name}
    for schema in schemas.values():
        found.update(cast("dict[str, Any]", schema.pop("$defs", {})))
    return found


def _complete(paths: Mapping[str, Any], open_paths: set[str]) -> None:
    """Say of each operation that errors have one shape, and whether it needs a key."""
    for path, operations in paths.items():
        for operation in operations.values():
            responses = operation["responses"]
            responses.pop("422", None)
            if "default" not in responses:
                responses.update({"4XX": _ERROR, "5XX": _ERROR})
            operation["security"] = [] if path in open_paths else [{_KEY: []}]
