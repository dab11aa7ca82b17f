"""The description of the API: every route, its parameters, shapes, errors, and whether it needs a key."""

import json
import re
from typing import Any

import pytest

from api.web import make_web

DESCRIBED: dict[str, Any] = make_web().openapi()
OPERATIONS = [
    (f"{method} {path}", operation)
    for path, operations in DESCRIBED["paths"].items()
    for method, operation in operations.items()
]
each_operation = pytest.mark.parametrize(("name", "operation"), OPERATIONS, ids=[name for name, _ in OPERATIONS])


@each_operation
def test_operation_says_what_it_answers(name: str, operation: dict[str, Any]) -> None:
    content = operation["responses"]["200"]["content"]
    for media_type, said in content.items():
        assert said["schema"] or media_type != "application/json", f"{name}: give the route a response_model"
    if "default" not in operation["responses"]:
        for statuses in ("4XX", "5XX"):
            schema = operation["responses"][statuses]["content"]["application/json"]["schema"]
            assert schema == {"$ref": "#/components/schemas/ErrorAnswer"}


@each_operation
def test_operation_says_whether_it_needs_a_key(name: str, operation: dict[str, Any]) -> None:
    is_open = re.search(r"/health/|/openapi.json|/docs", name) is not None
    assert operation["security"] == ([] if is_open else [{"key": []}])


@each_operation
def test_operation_that_changes_something_says_what_it_takes(name: str, operation: dict[str, Any]) -> None:
    if name.startswith("post ") and not name.endswith("/cancel") and "{key}" not in name:
        assert operation["requestBody"]["content"]["application/json"]["schema"], f"{name}: openapi_extra=takes(...)"
    declared = {each["name"] for each in operation.get("parameters", []) if each["in"] == "path"}
    assert declared == {found.partition(":")[0] for found in re.findall(r"{([^}]+)}", name)}


def test_operations_of_the_hot_route_are_described() -> None:
    names = {name for name, _ in OPERATIONS}
    assert {"post /v1/responses", "get /v1/responses/{response_id}", "post /v1/responses/{response_id}/cancel"} <= names


def test_references_lead_to_schemas() -> None:
    referred = set(re.findall(r"#/components/schemas/([^\"]+)", json.dumps(DESCRIBED)))
    assert referred <= set(DESCRIBED["components"]["schemas"])
    assert "HTTPValidationError" not in DESCRIBED["components"]["schemas"]
