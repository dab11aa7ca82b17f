"""The projections' columns as SQLAlchemy sees them. The tables themselves are made by migrations."""

from typing import Any

from sqlalchemy import (
    ARRAY,
    BigInteger,
    Boolean,
    Date,
    DateTime,
    Integer,
    Numeric,
    TableClause,
    Text,
    Uuid,
    column,
    table,
)
from sqlalchemy.dialects.postgresql import JSONB
from sqlalchemy.sql.type_api import TypeEngine

_TIME = DateTime(timezone=True)
_USD = Numeric(24, 12)
_TEXTS = ARRAY(Text)

TOKENS = ("input_tokens", "cached_tokens", "cache_write_tokens", "output_tokens", "reasoning_tokens")


def _table(name: str, **columns: TypeEngine[Any]) -> TableClause:
    return table(name, *(column(key, type_) for key, type_ in columns.items()), schema="ledger")


CALLS = _table(
    "calls",
    call_id=Uuid(),
    journal_id=Uuid(),
    received_at=_TIME,
    finished_at=_TIME,
    status=Text(),
    http_status=Integer(),
    error_code=Text(),
    method=Text(),
    path=Text(),
    stream=Boolean(),
    key_id=Text(),
    key_alias=Text(),
    org=Text(),
    team=Text(),
    user_id=Text(),
    end_user=Text(),
    tags=_TEXTS,
    model=Text(),
    deployment=Text(),
    upstream_model=Text(),
    answered_model=Text(),
    tier=Text(),
    response_id=Text(),
    upstream_request_id=Text(),
    attempts=Integer(),
    **dict.fromkeys(TOKENS, BigInteger()),
    billed_usd=_USD,
    estimated_usd=_USD,
    unknown=Integer(),
    cost_state=Text(),
    first_chunk_us=BigInteger(),
    duration_us=BigInteger(),
    chunks=BigInteger(),
    request_bytes=BigInteger(),
    answer_bytes=BigInteger(),
    client_address=Text(),
    client_retry=Integer(),
    disconnected=Boolean(),
    delivered=Boolean(),
    bodies_stored=Boolean(),
)

SPEND = _table(
    "spend",
    hour=_TIME,
    org=Text(),
    team=Text(),
    user_id=Text(),
    key_id=Text(),
    end_user=Text(),
    model=Text(),
    deployment=Text(),
    tier=Text(),
    tags=_TEXTS,
    calls=BigInteger(),
    attempts=BigInteger(),
    **dict.fromkeys(TOKENS, BigInteger()),
    billed_usd=_USD,
    estimated_usd=_USD,
    unknown_calls=BigInteger(),
)

LINE_ITEMS = _table(
    "line_items",
    keyed=Boolean(),
    day=Date(),
    org=Text(),
    team=Text(),
    user_id=Text(),
    key_id=Text(),
    model=Text(),
    meter=Text(),
    quantity=BigInteger(),
    amount_usd=_USD,
    unknown_costs=BigInteger(),
)

_TOTALS: dict[str, TypeEngine[Any]] = {
    "calls": BigInteger(),
    "billed_usd": _USD,
    "estimated_usd": _USD,
    "unknown_calls": BigInteger(),
}

KEY_TOTALS = _table("key_totals", key_id=Text(), **_TOTALS)
END_USER_TOTALS = _table("end_user_totals", end_user=Text(), **_TOTALS)

KEYS = _table(
    "keys",
    key_id=Text(),
    key_hash=Text(),
    key_name=Text(),
    key_alias=Text(),
    org=Text(),
    team=Text(),
    user_id=Text(),
    end_user=Text(),
    models=_TEXTS,
    metadata=JSONB(),
    tags=_TEXTS,
    expires_at=_TIME,
    blocked=Boolean(),
    revoked=Boolean(),
    created_at=_TIME,
    created_by=Text(),
    changed_at=_TIME,
    changed_by=Text(),
    revision=BigInteger(),
    allowed_routes=_TEXTS,
    permissions=_TEXTS,
    store_bodies=Text(),
    issued_hash=Text(),
    former_hashes=_TEXTS,
    former_until=ARRAY(_TIME),
)

TEAMS = _table(
    "teams",
    team_id=Text(),
    team_alias=Text(),
    org=Text(),
    metadata=JSONB(),
    blocked=Boolean(),
    deleted=Boolean(),
    created_at=_TIME,
    created_by=Text(),
    changed_at=_TIME,
    changed_by=Text(),
    revision=BigInteger(),
)
