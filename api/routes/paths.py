"""Registers what is read by GET: under each of its paths, and by HEAD as well."""

from collections.abc import Callable
from typing import Any, TypeVar

from fastapi import APIRouter

Endpoint = TypeVar("Endpoint", bound=Callable[..., Any])


def read_by_get(router: APIRouter, path: str, *others: str, **options: Any) -> Callable[[Endpoint], Endpoint]:
    """Register an endpoint under `path` and `others`; only GET of `path` is in the OpenAPI description.

    `options` are those of `APIRouter.add_api_route`.
    """

    def register(endpoint: Endpoint) -> Endpoint:
        router.add_api_route(path, endpoint, methods=["GET"], **options)
        for other in others:
            router.add_api_route(other, endpoint, methods=["GET"], include_in_schema=False)
        for each in (path, *others):
            router.add_api_route(each, endpoint, methods=["HEAD"], include_in_schema=False)
        return endpoint

    return register
