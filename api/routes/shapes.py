"""The shapes of requests and answers, for the description of the API (OpenAPI) and for nothing else.

A route names its shape: `response_model=` for what it answers, `takes(...)` for the JSON object that it takes. Answers
are built by the routes themselves (`ExactJson`: exact numbers), requests are read by them; tests hold both to these
shapes. What the shapes are put into is `api/openapi.py`.
"""

from datetime import datetime
from decimal import Decimal
from typing import Annotated, Any
from uuid import UUID

from pydantic import BaseModel, Field, WithJsonSchema

UsdText = Annotated[str, Field(pattern=r"^-?\d+(\.\d+)?$", description="USD as an exact decimal number")]
UsdNumber = Annotated[Decimal, WithJsonSchema({"type": "number", "description": "USD; read it as a decimal number"})]
Count = Annotated[int, Field(ge=0)]

#: Where the schemas of shapes lie in the description.
REFERENCE = "#/components/schemas/{model}"


class Shape(BaseModel):
    """A JSON object. Every member is always there, unless it has a default here."""


class Error(Shape):
    """What went wrong: what was expected, and what to do."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(Shape):
    """Every error, in OpenAI's shape."""

    error: Error


class Totals(Shape):
    """What was spent over all time; the unknown is in no sum."""

    spend: UsdNumber
    billed_usd: UsdText
    estimated_usd: UsdText
    unknown_calls: Count
    calls: Count


class EventShape(Shape):
    """An event as /ledger shows it; `body` as `body_encoding` says, null where there is none or none was asked for."""

    journal_id: UUID
    seq: Annotated[int, Field(ge=1)]
    call_id: UUID | None
    version: int | None
    type: str
    # `schema` would hide a method of the base class.
    schema_: int = Field(alias="schema")
    recorded_at: datetime
    facts: dict[str, Any]
    body_bytes: Count | None
    body_encoding: str | None
    body: str | None
    chain: str | None


def takes(shape: type[Shape], *, is_required: bool = True) -> dict[str, Any]:
    """Return what `openapi_extra` of a route says of the JSON object that it takes."""
    schema = shape.model_json_schema(ref_template=REFERENCE)
    return {"requestBody": {"required": is_required, "content": {"application/json": {"schema": schema}}}}
