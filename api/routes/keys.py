"""HTTP for virtual keys: /key/generate, /key/block, /key/unblock, /key/delete, /key/info, /key/list.

An administrator's, but for one's own /key/info. A key itself is answered once, when it is issued.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Depends, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import MASTER_KEY_ID, Caller
from api.context import Context, admin, caller, context
from api.errors import bad_request, not_found
from api.exact_json import ExactJson
from api.routes import key_changes
from api.routes.key_fields import read_key_wish, unknown_field
from api.routes.key_row import shown_key
from api.routes.key_shapes import (
    DeletedKeys,
    IssuedKeyShape,
    KeyInfo,
    KeyName,
    KeyNames,
    KeyPage,
    KeyShape,
    KeyWishShape,
)
from api.routes.parameters import Parameter, Parameters
from api.routes.paths import read_by_get
from api.routes.reading import snapshot
from api.routes.request_body import read_object
from api.routes.shapes import takes
from ledger.events import KEY_BLOCKED, KEY_REVOKED, KEY_UNBLOCKED
from ledger.reports.keys import KeyFilters, Totals, key_info, key_list, key_spend

router = APIRouter(tags=["keys"])

_PAGE_MAX: Final = 1_000
_OFFSET_MAX: Final = 1_000_000
_DELETED_MAX: Final = 100
_STATUSES: Final = ("current", "active", "blocked", "revoked", "all")
#: Answers that hold a key stay in no cache.
_NOT_STORED: Final = {"cache-control": "no-store"}

Running = Annotated[Context, Depends(context)]
Administrator = Annotated[Caller, Depends(admin)]
Anybody = Annotated[Caller, Depends(caller)]

_INFO: Final = Parameters(
    Parameter("key", "The key, its hash or its key_id; without it: the key that asks.", ("key_id",)),
)
_LIST: Final = Parameters(
    Parameter("page", "From 1."),
    Parameter("size", f"Keys a page: 1 to {_PAGE_MAX}, usually 100."),
    Parameter("key_id", "The key of this key_id, or hash.", ("key_hash",)),
    Parameter("key_alias", "Keys of this alias."),
    Parameter("org", "Keys of this organisation.", ("organization_id",)),
    Parameter("team", "Keys of this team.", ("team_id",)),
    Parameter("user_id", "Keys of this user.", ("user",)),
    Parameter("status", f"One of {', '.join(_STATUSES)}; current, the usual one, is all but revoked."),
    Parameter("return_full_object", "Only true: keys are always listed as objects."),
)


@router.post("/key/generate", response_model=IssuedKeyShape, openapi_extra=takes(KeyWishShape))
async def generate_key(request: Request, running: Running, who: Administrator) -> ExactJson:
    """Issue a virtual key. Its text is in this answer and nowhere else."""
    wish = read_key_wish(await read_object(request), datetime.now(UTC))
    issued = await key_changes.issue(running, who, wish)
    answer = {"key": issued.key, "token": issued.key_hash, "token_id": issued.key_hash}
    return ExactJson({**answer, **await _shown(running, issued.key_id)}, headers=_NOT_STORED)


@router.post("/key/block", response_model=KeyShape, openapi_extra=takes(KeyName))
async def block_key(request: Request, running: Running, who: Administrator) -> ExactJson:
    """Refuse a key until it is unblocked; body: {"key": the key, its hash or its key_id}."""
    return await _change(request, running, who, KEY_BLOCKED)


@router.post("/key/unblock", response_model=KeyShape, openapi_extra=takes(KeyName))
async def unblock_key(request: Request, running: Running, who: Administrator) -> ExactJson:
    """Accept a blocked key again; body: {"key": the key, its hash or its key_id}."""
    return await _change(request, running, who, KEY_UNBLOCKED)


async def _change(request: Request, running: Context, who: Caller, type_: str) -> ExactJson:
    body = await read_object(request)
    for name in body:
        if name not in {"key", "key_id"}:
            raise unknown_field(name, frozenset({"key", "key_id"}))
    name = body.get("key", body.get("key_id"))
    if not isinstance(name, str) or not name or len(body) != 1:
        raise bad_request('Send {"key": ...} with the key, its hash or its key_id.', param="key")
    found = await key_changes.find(running, name)
    await key_changes.change(running, who, found, type_)
    return ExactJson(await _shown(running, found.key["key_id"]))


@router.post("/key/delete", response_model=DeletedKeys, openapi_extra=takes(KeyNames))
async def delete_keys(request: Request, running: Running, who: Administrator) -> ExactJson:
    """Revoke keys for ever; body: {"keys": [...]} or {"key_aliases": [...]}. All are found before any is revoked."""
    body = await read_object(request)
    for name in body:
        if name not in {"keys", "key_aliases"}:
            raise unknown_field(name, frozenset({"keys", "key_aliases"}))
    keys, aliases = _names(body, "keys"), _names(body, "key_aliases")
    if not 1 <= len(keys) + len(aliases) <= _DELETED_MAX:
        raise bad_request(f"Name from 1 to {_DELETED_MAX} keys in keys or key_aliases.", param="keys")
    found = [await key_changes.find(running, name) for name in keys]
    found += [await key_changes.find_alias(running, name) for name in aliases]
    for each in found:
        await key_changes.change(running, who, each, KEY_REVOKED)
    return ExactJson({"deleted_keys": list(dict.fromkeys(each.key["key_id"] for each in found))})


def _names(body: dict[str, Any], name: str) -> list[str]:
    value = body.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in cast("list[Any]", value)):
        raise bad_request(f"{name} must be a list of texts.", param=name)
    return cast("list[str]", value)


@read_by_get(router, "/key/info", response_model=KeyInfo, openapi_extra=_INFO.openapi)
async def get_key_info(request: Request, running: Running, who: Anybody) -> ExactJson:
    """Return a key's state and what it has spent; one's own without `key`."""
    name = _INFO.read(request).text("key")
    async with snapshot(running.reads) as connection:
        if name is None:
            row = await key_info(connection, key_id=who.key_id, scope=who.scope)
        else:
            row = await key_info(connection, **key_changes.names_of(name), scope=who.scope)
        if row is not None:
            return _info(shown_key(row))
        if who.is_admin and name in {None, MASTER_KEY_ID}:
            return _info(await _master(connection))
    raise not_found(f"There is no key {key_changes.shown_name(name or who.key_id)}.", "key_not_found", "key")


def _info(shown: dict[str, Any]) -> ExactJson:
    return ExactJson({"key": shown["key_id"], "info": shown})


@read_by_get(router, "/key/list", response_model=KeyPage, openapi_extra=_LIST.openapi)
async def list_keys(request: Request, running: Running, _who: Administrator) -> ExactJson:
    """List keys, newest first, with what each has spent."""
    given = _LIST.read(request)
    if not given.flag("return_full_object", default=True):
        raise bad_request("Keys are listed as objects only; leave return_full_object out.", param="return_full_object")
    size = given.integer("size", 100, least=1, most=_PAGE_MAX)
    page = given.integer("page", 1, least=1, most=_OFFSET_MAX)
    status = given.choice("status", _STATUSES, "current")
    named = given.text("key_id")
    filters = KeyFilters(
        org=given.text("org"),
        team=given.text("team"),
        user_id=given.text("user_id"),
        key_alias=given.text("key_alias"),
        status=None if status == "all" else status,
        **({} if named is None else key_changes.names_of(named)),
    )
    async with snapshot(running.reads) as connection:
        found = await key_list(connection, filters=filters, page=page, size=size)
    return ExactJson(
        {
            "keys": [shown_key(row) for row in found.rows],
            "total_count": found.count,
            "current_page": page,
            "total_pages": -(-found.count // size),
        }
    )


async def _shown(running: Context, key_id: str) -> dict[str, Any]:
    async with snapshot(running.reads) as connection:
        row = await key_info(connection, key_id=key_id)
    if row is None:
        raise not_found(f"There is no key {key_id}.", "key_not_found", "key")
    return shown_key(row)


async def _master(connection: AsyncConnection) -> dict[str, Any]:
    """Return what /key/info says of the master key, which is no virtual key but may have spent."""
    totals: Totals = await key_spend(connection, MASTER_KEY_ID)
    return shown_key({"key_id": MASTER_KEY_ID, "key_name": "", "key_alias": MASTER_KEY_ID, "totals": totals})
