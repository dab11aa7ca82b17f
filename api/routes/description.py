"""HTTP for what the API is: /openapi.json, and /docs, the same as a page without scripts.

Both are open unless `general_settings.api_description` says otherwise: they say nothing of who uses this proxy.
"""

from html import escape
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, JSONResponse

from api.context import Context, caller, context
from api.errors import ApiFailure, unknown_path
from api.routes.paths import read_by_get

router = APIRouter(tags=["description"])

_PAGE: Final = """<!doctype html>
<html lang="en"><meta charset="utf-8"><title>responses-ledger</title>
<style>body{{font:16px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}}
code{{background:#eee;padding:.1em .3em}}dt{{margin-top:1em}}</style>
<h1>{title} {version}</h1><p>{description}</p>
<p>The whole description, with parameters and shapes: <a href="openapi.json">openapi.json</a>.</p>
<dl>
{operations}
</dl>
</html>
"""
#: Nothing is loaded from anywhere: a script on this page could ask this proxy in its reader's name.
_POLICY: Final = {"content-security-policy": "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'"}


async def reader(request: Request, running: Annotated[Context, Depends(context)]) -> None:
    """Let those pass who may read the description; a FastAPI dependency.

    Raises:
        ApiFailure: as `Authenticator.caller` where it needs a key, 404 where it is off.
    """
    match running.config.general.api_description:
        case "key":
            await caller(request)
        case "off":
            raise ApiFailure(unknown_path(request.method, request.url.path))
        case _:
            pass


Readable = Annotated[None, Depends(reader)]


@read_by_get(router, "/openapi.json", response_model=dict[str, Any])
async def get_description(request: Request, _: Readable) -> Response:
    """Return the description of the API (OpenAPI 3.1)."""
    return JSONResponse(request.app.openapi())


@read_by_get(router, "/docs", response_class=HTMLResponse)
async def get_page(request: Request, _: Readable) -> Response:
    """Return a page that lists the operations."""
    described = request.app.openapi()
    entries = [
        f"<dt><code>{method.upper()} {escape(path)}</code></dt><dd>{escape(_said(operation))}</dd>"
        for path, operations in described["paths"].items()
        for method, operation in operations.items()
    ]
    page = _PAGE.format(
        operations="\n".join(entries), **{name: escape(text) for name, text in described["info"].items()}
    )
    return HTMLResponse(page, headers=_POLICY)


def _said(operation: dict[str, Any]) -> str:
    return operation.get("description") or operation.get("summary") or ""
