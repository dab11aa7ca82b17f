"""What the description of the API says of the calls, which no framework serves: `/responses` and what lies below it.

What passes through is the upstream's affair: named here are the members that the proxy itself reads, and the headers
that it adds. The routes themselves are in `api/calls.py`.
"""

from typing import Any, Final

_HEADERS: Final = {
    name: {"description": meaning, "schema": {"type": "string"}}
    for name, meaning in {
        "x-llm-call-id": "The call's id in the book: /ledger/calls/{call_id}.",
        "x-llm-model-id": "The deployment that answered.",
        "x-llm-response-cost": "USD, exact; absent where it is not known, and for a stream.",
        "x-llm-response-cost-state": "billed, estimated or unknown; absent for a stream.",
        "x-llm-key-spend": "USD that the key has spent.",
        "x-llm-attempted-retries": "Further attempts within the group.",
        "x-llm-attempted-fallbacks": "Further attempts at other groups.",
        "x-llm-overhead-duration-ms": "Milliseconds that the proxy itself took.",
    }.items()
}
_JSON: Final = {"application/json": {"schema": {"$ref": "#/components/schemas/Response"}}}
_STREAM: Final = {"text/event-stream": {"schema": {"type": "string", "description": "the events of the stream"}}}
_ID: Final = {
    "name": "response_id",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,512}$"},
}

CALL_SCHEMAS: Final[dict[str, Any]] = {
    "CreateResponse": {
        "type": "object",
        "description": "What OpenAI's API takes; every member passes on, the unknown ones too.",
        "required": ["model"],
        "properties": {
            "model": {"type": "string", "minLength": 1, "description": "A model_name of the configuration."},
            "input": {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "object"}}]},
            "stream": {"type": ["boolean", "null"]},
            "user": {"type": ["string", "null"], "description": "The end user, where no header names one."},
            "metadata": {"type": ["object", "null"], "description": "`tags` in it are the call's."},
            "fallbacks": {"type": "array", "description": "Read by the proxy, not passed on."},
            "num_retries": {"type": "integer", "description": "Read by the proxy, not passed on."},
        },
        "additionalProperties": True,
    },
    "Response": {
        "type": "object",
        "description": "The upstream's answer, byte for byte.",
        "additionalProperties": True,
    },
}


def _operation(
    name: str, summary: str, *, parameters: tuple[dict[str, Any], ...] = (), takes: bool = False, streams: bool = False
) -> dict[str, Any]:
    operation: dict[str, Any] = {
        "tags": ["responses"],
        "summary": summary,
        "operationId": name,
        "responses": {
            "200": {
                "description": "The upstream's answer, byte for byte.",
                "headers": _HEADERS,
                "content": {**_JSON, **(_STREAM if streams else {})},
            }
        },
    }
    if parameters:
        operation["parameters"] = list(parameters)
    if takes:
        schema = {"$ref": "#/components/schemas/CreateResponse"}
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": schema}}}
    return operation


def _query(name: str, meaning: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "required": False, "description": meaning, "schema": {"type": "string"}}


CALL_PATHS: Final[dict[str, Any]] = {
    "/v1/responses": {"post": _operation("create_response", "Make a response.", takes=True, streams=True)},
    "/v1/responses/compact": {"post": _operation("compact_response", "Compact a conversation.", takes=True)},
    "/v1/responses/input_tokens": {"post": _operation("count_input_tokens", "Count tokens of an input.", takes=True)},
    "/v1/responses/{response_id}": {
        "get": _operation(
            "get_response",
            "Get a response of this key.",
            parameters=(
                _ID,
                _query("stream", "true: as a stream"),
                _query("starting_after", "Resume the stream behind this sequence number."),
            ),
            streams=True,
        ),
        "delete": _operation("delete_response", "Delete a response of this key at the upstream.", parameters=(_ID,)),
    },
    "/v1/responses/{response_id}/cancel": {
        "post": _operation("cancel_response", "Cancel a background response of this key.", parameters=(_ID,))
    },
    "/v1/responses/{response_id}/input_items": {
        "get": _operation(
            "list_input_items",
            "List the input of a response of this key.",
            parameters=(_ID, _query("after", "Items behind this one."), _query("limit", "Items a page.")),
        )
    },
}
