"""HTTP for changes of virtual keys: /key/generate, update, regenerate, block, unblock, delete, bulk_update.

An administrator's. A secret is answered once, when it is made; what is read of keys is in `key_reads.py`.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Final, cast

from fastapi import APIRouter, Depends, Request

from api.auth import Caller
from api.context import Context, admin, context
from api.errors import ApiFailure, bad_request, not_found
from api.exact_answer import ExactJson
from api.routes import key_changes
from api.routes.field_values import unknown_field
from api.routes.key_changes import IssuedKey
from api.routes.key_fields import read_key_regeneration, read_key_update, read_key_wish
from api.routes.key_row import shown_key
from api.routes.key_shapes import (
    BulkUpdate,
    BulkUpdated,
    DeletedKeys,
    IssuedKeyShape,
    KeyName,
    KeyNames,
    KeyRegenerationShape,
    KeyShape,
    KeyUpdateShape,
    KeyWishShape,
    NamedKeyRegenerationShape,
    NamedKeyShape,
)
from api.routes.reading import snapshot
from api.routes.request_body import read_object
from api.routes.shapes import takes
from ledger.events import KEY_BLOCKED, KEY_REVOKED, KEY_UNBLOCKED
from ledger.reports.keys import key_info

router = APIRouter(tags=["keys"])

_MANY_MAX: Final = 100
#: Answers that hold a key stay in no cache.
_NOT_STORED: Final = {"cache-control": "no-store"}

Running = Annotated[Context, Depends(context)]
Administrator = Annotated[Caller, Depends(admin)]


@router.post("/key/generate", response_model=IssuedKeyShape, openapi_extra=takes(KeyWishShape))
async def generate_key(request: Request, running: Running, who: Administrator) -> ExactJson:
    """Issue a virtual key. Its text is in this answer and nowhere else."""
    wish = read_key_wish(await read_object(request), datetime.now(UTC))
    return await _with_secret(running, await key_changes.issue(running.keys, who, wish))


@router.post("/key/update", response_model=NamedKeyShape, openapi_extra=takes(KeyUpdateShape))
async def update_key(request: Request, running: Running, who: Administrator) -> ExactJson:
    """Change fields of a key: what is absent stays, null resets; in force on every proxy within a second."""
    wanted = read_key_update(await read_object(request), datetime.now(UTC))
    found = await key_changes.update(running.keys, who, wanted)
    return ExactJson({"key": found.key["key_id"], **await _shown(running, found.key["key_id"])})


@router.post("/key/bulk_update", response_model=BulkUpdated, openapi_extra=takes(BulkUpdate))
async def update_keys(request: Request, running: Running, who: Administrator) -> ExactJson:
    """Change several keys, each as /key/update does; what fails does not keep the others from being changed."""
    body = await read_object(request)
    given = body.get("keys")
    if set(body) != {"keys"} or not isinstance(given, list) or not 1 <= len(cast("list[Any]", given)) <= _MANY_MAX:
        raise bad_request(f'Send {{"keys": [...]}} with from 1 to {_MANY_MAX} bodies of /key/update.', param="keys")
    done: list[dict[str, Any]] = []
    failed: list[dict[str, Any]] = []
    for position, each in enumerate(cast("list[Any]", given)):
        try:
            wanted = read_key_update(_object(each), datetime.now(UTC))
            found = await key_changes.update(running.keys, who, wanted)
        except ApiFailure as failure:
            failed.append({"position": position, "failed_reason": failure.error.message, "code": failure.error.code})
        else:
            key_id = found.key["key_id"]
            done.append({"key": key_id, "key_info": await _shown(running, key_id)})
    answer = {"total_requested": len(done) + len(failed), "successful_updates": done, "failed_updates": failed}
    return ExactJson(answer)


@router.post("/key/regenerate", response_model=IssuedKeyShape, openapi_extra=takes(KeyRegenerationShape))
async def regenerate_key(request: Request, running: Running, who: Administrator) -> ExactJson:
    """Give a key a new secret; the old one is accepted for `grace_period`, usually not at all."""
    wanted = read_key_regeneration(await read_object(request), datetime.now(UTC))
    return await _with_secret(running, await key_changes.regenerate(running.keys, who, wanted))


@router.post(
    "/key/{key}/regenerate",
    response_model=IssuedKeyShape,
    openapi_extra=takes(NamedKeyRegenerationShape, is_required=False),
)
async def regenerate_named_key(key: str, request: Request, running: Running, who: Administrator) -> ExactJson:
    """Give the key that the path names a new secret; a body may be sent as to /key/regenerate."""
    wanted = read_key_regeneration(await read_object(request, may_be_empty=True), datetime.now(UTC), key)
    return await _with_secret(running, await key_changes.regenerate(running.keys, who, wanted))


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
            raise unknown_field(name, {"key", "key_id"})
    name = body.get("key", body.get("key_id"))
    if not isinstance(name, str) or not name or len(body) != 1:
        raise bad_request('Send {"key": ...} with the key, its hash or its key_id.', param="key")
    found = await key_changes.find(running.keys, name)
    await key_changes.change(running.keys, who, found, type_)
    return ExactJson(await _shown(running, found.key["key_id"]))


@router.post("/key/delete", response_model=DeletedKeys, openapi_extra=takes(KeyNames))
async def delete_keys(request: Request, running: Running, who: Administrator) -> ExactJson:
    """Revoke keys for ever; body: {"keys": [...]} or {"key_aliases": [...]}. All are found before any is revoked."""
    body = await read_object(request)
    for name in body:
        if name not in {"keys", "key_aliases"}:
            raise unknown_field(name, {"keys", "key_aliases"})
    keys, aliases = _names(body, "keys"), _names(body, "key_aliases")
    if not 1 <= len(keys) + len(aliases) <= _MANY_MAX:
        raise bad_request(f"Name from 1 to {_MANY_MAX} keys in keys or key_aliases.", param="keys")
    found = [await key_changes.find(running.keys, name) for name in keys]
    found += [await key_changes.find_alias(running.keys, name) for name in aliases]
    for each in found:
        await key_changes.change(running.keys, who, each, KEY_REVOKED)
    return ExactJson({"deleted_keys": list(dict.fromkeys(each.key["key_id"] for each in found))})


def _names(body: dict[str, Any], name: str) -> list[str]:
    value = body.get(name) or []
    if not isinstance(value, list) or not all(isinstance(each, str) and each for each in cast("list[Any]", value)):
        raise bad_request(f"{name} must be a list of texts.", param=name)
    return cast("list[str]", value)


def _object(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise bad_request("Each of keys must be an object, as /key/update takes it.", param="keys")
    return cast("dict[str, Any]", value)


async def _with_secret(running: Context, issued: IssuedKey) -> ExactJson:
    answer = {"key": issued.key, "token": issued.key_hash, "token_id": issued.key_hash}
    return ExactJson({**answer, **await _shown(running, issued.key_id)}, headers=_NOT_STORED)


async def _shown(running: Context, key_id: str) -> dict[str, Any]:
    async with snapshot(running.reads) as connection:
        row = await key_info(connection, key_id=key_id)
    if row is None:
        raise not_found(f"There is no key {key_id}.", "key_not_found", "key")
    return shown_key(row)
