"""HTTP for looking at virtual keys: /key/info, /v2/key/info, /key/list, /key/aliases.

A key sees itself; who may read everything sees all. Changes are in `keys.py`.
"""

from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import MASTER_KEY_ID, Caller
from api.context import Context, caller, context, reader
from api.errors import not_found
from api.exact_answer import ExactJson
from api.routes.field_values import read_texts, unknown_field
from api.routes.key_changes import names_of, shown_name
from api.routes.key_row import shown_key
from api.routes.key_shapes import Aliases, KeyInfo, KeyInfos, KeyPage, ManyKeys
from api.routes.parameters import Parameter, Parameters
from api.routes.paths import read_by_get
from api.routes.reading import snapshot
from api.routes.request_body import read_object
from api.routes.shapes import takes
from api.routes.times import read_moment
from ledger.reports.keys import SORTS, KeyFilters, key_aliases, key_info, key_list, key_spend

router = APIRouter(tags=["keys"])

_PAGE_MAX: Final = 1_000
_OFFSET_MAX: Final = 1_000_000
_MANY_MAX: Final = 100
_STATUSES: Final = ("current", "active", "expired", "blocked", "revoked", "all")
_SORT_NAMES: Final = {"expires": "expires_at", "updated_at": "changed_at", "team_id": "team"}

Running = Annotated[Context, Depends(context)]
Reader = Annotated[Caller, Depends(reader)]
Anybody = Annotated[Caller, Depends(caller)]

_INFO: Final = Parameters(
    Parameter("key", "The key, its hash or its key_id; without it: the key that asks.", ("key_id",)),
)
_PAGE: Final = Parameter("page", "From 1.")
_SIZE: Final = Parameter("size", f"Rows a page: 1 to {_PAGE_MAX}, usually 100.")
_LIST: Final = Parameters(
    _PAGE,
    _SIZE,
    Parameter("key_id", "The key of this key_id, or hash.", ("key_hash",)),
    Parameter("key_alias", "Keys of this alias."),
    Parameter("org", "Keys of this organisation.", ("organization_id",)),
    Parameter("team", "Keys of this team.", ("team_id",)),
    Parameter("user_id", "Keys of this user.", ("user",)),
    Parameter("status", f"One of {', '.join(_STATUSES)}; current, the usual one, is all but revoked."),
    Parameter("search", "Keys with this text in their key_id, key_name, alias, org, team, user or end user."),
    Parameter("expires", "Keys that end before this moment; a UTC day counts in whole."),
    Parameter("sort_by", f"One of {', '.join([*SORTS, *_SORT_NAMES])}; usually created_at."),
    Parameter("sort_order", "desc, the usual one, or asc."),
    Parameter("return_full_object", "true, the usual one: objects; false: their key_ids only."),
)
_ALIASES: Final = Parameters(_PAGE, _SIZE, Parameter("search", "Aliases with this text in them."))


@read_by_get(router, "/key/info", response_model=KeyInfo, openapi_extra=_INFO.openapi)
async def get_key_info(request: Request, running: Running, who: Anybody) -> ExactJson:
    """Return a key's state and what it has spent; one's own without `key`."""
    name = _INFO.read(request).text("key")
    async with snapshot(running.reads) as connection:
        row = await key_info(connection, **names_of(who.key_id if name is None else name), scope=who.scope)
        if row is not None:
            return _info(shown_key(row))
        if who.may_read_all and (name == MASTER_KEY_ID or (name is None and who.is_master)):
            return _info(await _master(connection))
    raise not_found(f"There is no key {shown_name(name or who.key_id)}.", "key_not_found", "key")


def _info(shown: dict[str, Any]) -> ExactJson:
    return ExactJson({"key": shown["key_id"], "info": shown})


@router.post("/v2/key/info", response_model=KeyInfos, openapi_extra=takes(ManyKeys))
async def get_key_infos(request: Request, running: Running, who: Anybody) -> ExactJson:
    """Return the states of several keys; body: {"keys": [the keys, their hashes or their key_ids]}."""
    body = await read_object(request)
    for field in body:
        if field != "keys":
            raise unknown_field(field, {"keys"})
    names = read_texts(body.get("keys"), "keys", _MANY_MAX, 256)
    async with snapshot(running.reads) as connection:
        rows = [await key_info(connection, **names_of(name), scope=who.scope) for name in names]
    shown = [shown_key(row) for row in rows if row is not None]
    missing = [shown_name(name) for name, row in zip(names, rows, strict=True) if row is None]
    return ExactJson({"key": [each["key_id"] for each in shown], "info": shown, "not_found": missing})


@read_by_get(router, "/key/list", response_model=KeyPage, openapi_extra=_LIST.openapi)
async def list_keys(request: Request, running: Running, who: Reader) -> ExactJson:
    """List keys with what each has spent, newest first."""
    given = _LIST.read(request)
    size = given.integer("size", 100, least=1, most=_PAGE_MAX)
    page = given.integer("page", 1, least=1, most=_OFFSET_MAX)
    status = given.choice("status", _STATUSES, "current")
    named, expires = given.text("key_id"), given.text("expires")
    sort_by = given.choice("sort_by", (*SORTS, *_SORT_NAMES), "created_at") or "created_at"
    filters = KeyFilters(
        org=given.text("org"),
        team=given.text("team"),
        user_id=given.text("user_id"),
        key_alias=given.text("key_alias"),
        status=None if status == "all" else status,
        search=given.text("search") or None,
        ends_before=None if expires is None else read_moment(expires, "expires", is_end=True),
        **({} if named is None else names_of(named)),
    )
    async with snapshot(running.reads) as connection:
        found = await key_list(
            connection,
            filters=filters,
            page=page,
            size=size,
            sort_by=_SORT_NAMES.get(sort_by, sort_by),
            is_descending=given.choice("sort_order", ("desc", "asc"), "desc") == "desc",
            scope=who.scope,
        )
    shown = [shown_key(row) for row in found.rows]
    as_objects = given.flag("return_full_object", default=True)
    return ExactJson(
        {
            "keys": shown if as_objects else [each["key_id"] for each in shown],
            "total_count": found.count,
            "current_page": page,
            "total_pages": -(-found.count // size),
        }
    )


@read_by_get(router, "/key/aliases", response_model=Aliases, openapi_extra=_ALIASES.openapi)
async def list_aliases(request: Request, running: Running, who: Anybody) -> ExactJson:
    """List the aliases of the keys that are not revoked, in the order of the alphabet."""
    given = _ALIASES.read(request)
    size = given.integer("size", 100, least=1, most=_PAGE_MAX)
    page = given.integer("page", 1, least=1, most=_OFFSET_MAX)
    search = given.text("search") or None
    async with snapshot(running.reads) as connection:
        aliases, count = await key_aliases(connection, search=search, page=page, size=size, scope=who.scope)
    pages = {"total_count": count, "current_page": page, "total_pages": -(-count // size), "size": size}
    return ExactJson({"aliases": aliases, **pages})


async def _master(connection: AsyncConnection) -> dict[str, Any]:
    """Return what /key/info says of the master key, which is no virtual key but may have spent."""
    totals = await key_spend(connection, MASTER_KEY_ID)
    return shown_key({"key_id": MASTER_KEY_ID, "key_name": "", "key_alias": MASTER_KEY_ID, "totals": totals})
