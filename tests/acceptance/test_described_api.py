"""The API against its own description: what is generated from it, and what a real book answers.

Two things are held: no request whatever makes the proxy fail, and every answer is as described, without a member that
the description does not name.
"""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.strategies import SearchStrategy
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from api.web import make_web
from tests.support.postgres import Databases
from tests.support.proxy import MASTER_KEY, configuration
from tests.support.proxy_process import Proxy

EXAMPLES = 6
AUTHORIZED = {"authorization": f"Bearer {MASTER_KEY}"}
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


def _closed(value: Any) -> Any:
    """The description with every object closed: what it does not name is then a fault of the answer."""
    if isinstance(value, list):
        return [_closed(member) for member in value]
    if not isinstance(value, dict):
        return value
    made = {name: _closed(member) for name, member in value.items()}
    if isinstance(made.get("properties"), dict) and made.get("type") == "object":
        made.setdefault("additionalProperties", False)
    return made


DESCRIBED: dict[str, Any] = _closed(copy.deepcopy(make_web().openapi()))
SCHEMA = schemathesis.openapi.from_dict(DESCRIBED)
OPERATIONS = [(path, method) for path, found in DESCRIBED["paths"].items() for method in found]


@pytest.fixture(scope="module")
def url(databases: Databases, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A proxy with a mock, a key, a plain call, a streamed one and a refused one in its book."""
    database_url = databases.create(migrated=True)
    mock = {"model_name": "gpt-4o", "llm_params": {"model": "openai/gpt-4o", "mock_response": "hello"}}
    with Proxy(configuration([mock]), database_url, tmp_path_factory.mktemp("described")) as proxy:
        with httpx.Client(base_url=proxy.url, headers=AUTHORIZED) as client:
            for more in ({}, {"stream": True, "user": "alice", "metadata": {"tags": ["a"]}}, {"model": "nope"}):
                client.post("/v1/responses", json={"model": "gpt-4o", "input": "hello", **more})
            # Reports know a call once it is folded, which no answer waits for.
            while not _is_folded(client):
                pass
        yield proxy.url
        assert "Traceback" not in proxy.log, proxy.log
    databases.drop(database_url)


def _is_folded(client: httpx.Client) -> bool:
    logs = client.get("/spend/logs?end_user=alice&status=completed").json()
    return bool(logs) and client.get("/customer/info?end_user_id=alice").status_code == 200


def _requests(path: str, method: str) -> SearchStrategy[schemathesis.Case[Any]]:
    """Requests that the description allows and, where it leaves room for others, that it does not."""
    operation = SCHEMA[path][method]
    allowed = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    described = DESCRIBED["paths"][path][method]
    if not any(each["in"] == "query" for each in described.get("parameters", [])) and "requestBody" not in described:
        return allowed
    return allowed | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)


@pytest.mark.parametrize(("path", "method"), OPERATIONS, ids=[f"{method} {path}" for path, method in OPERATIONS])
def test_route_answers_generated_requests_as_described(url: str, path: str, method: str) -> None:
    @settings(
        max_examples=EXAMPLES,
        derandomize=True,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
    )
    @given(case=_requests(path, method))
    def check(case: schemathesis.Case[Any]) -> None:
        case.call_and_validate(base_url=url, headers=AUTHORIZED, checks=CHECKS)

    check()


def _good(url: str) -> list[tuple[str, str, str, Any]]:
    """Requests that are served: method, path as described, path as asked, body."""
    with httpx.Client(base_url=url, headers=AUTHORIZED) as client:
        key = client.post("/key/generate", json={"key_alias": "described", "metadata": {"a": 1}}).json()["key"]
        calls = client.get("/spend/logs?limit=1000").json()
        call_id = next(row["call_id"] for row in calls if row["stream"] and row["status"] == "completed")
    year = "start_date=2020-01-01&end_date=2100-01-01"
    return [
        ("get", "/key/info", f"/key/info?key={key}", None),
        ("get", "/key/list", "/key/list", None),
        ("post", "/key/block", "/key/block", {"key": key}),
        ("post", "/key/unblock", "/key/unblock", {"key": key}),
        ("post", "/key/delete", "/key/delete", {"keys": [key]}),
        ("get", "/models", "/models", None),
        ("get", "/models/{model}", "/models/gpt-4o", None),
        ("get", "/spend/logs", "/spend/logs", None),
        ("get", "/global/spend/report", f"/global/spend/report?{year}", None),
        ("get", "/customer/info", "/customer/info?end_user_id=alice", None),
        ("get", "/ledger/calls/{call_id}", f"/ledger/calls/{call_id}", None),
        ("get", "/ledger/calls/{call_id}/events", f"/ledger/calls/{call_id}/events", None),
        ("get", "/ledger/calls/{call_id}/replay", f"/ledger/calls/{call_id}/replay", None),
        ("get", "/ledger/events", "/ledger/events?bodies=text", None),
        ("get", "/health/readiness", "/health/readiness", None),
        ("post", "/v1/responses", "/v1/responses", {"model": "gpt-4o", "input": "hello"}),
    ]


def test_routes_answer_a_real_books_rows_as_described(url: str) -> None:
    for method, described, asked, body in _good(url):
        content = None if body is None else json.dumps(body).encode()
        answer = httpx.request(
            method, url + asked, content=content, headers={**AUTHORIZED, "content-type": "application/json"}
        )
        assert answer.status_code == 200, (asked, answer.text)
        SCHEMA[described][method].validate_response(answer)


@pytest.mark.parametrize("name", ["KeyShape", "LogRow", "SpendReport", "CallStory", "EventShape"])
def test_shape_that_lacks_a_member_would_be_noticed(name: str) -> None:
    assert DESCRIBED["components"]["schemas"][name]["additionalProperties"] is False


def test_no_file_is_needed_to_be_described(tmp_path: Path) -> None:
    (tmp_path / "openapi.json").write_text(json.dumps(make_web().openapi()))
    assert schemathesis.openapi.from_path(tmp_path / "openapi.json").raw_schema["openapi"].startswith("3.1")
