"""Who may do what over HTTP, one line a route: what tests/acceptance/test_authorisation.py holds the proxy to.

A route that the application has and this table has not fails the test, and the other way round. Every route refuses no
key and a wrong or expired one with 401, and a blocked one with 403; the columns say what the others get:

- other: a key that asks for what belongs to another key. own: the same key asks for its own.
- view, admin: keys with that permission, asking for another's. master: the master key.
- `ok` is any answer but 401, 403, 404, 405 and 5xx. A number is that status. `open` needs no key at all.

`{call_id}`, `{response_id}` and `{key}` are those of `own`. What a POST takes stands behind its line.
"""

from dataclasses import dataclass
from typing import Final

CALLERS: tuple[str, ...] = ("other", "own", "view", "admin", "master")

TABLE: Final = """
#       path                                      other own view admin master   body
GET     /health/liveliness                        open
GET     /health/liveness                          open
GET     /health/readiness                         open
GET     /openapi.json                             open
GET     /docs                                     open
GET     /metrics                                  403   403 ok   ok    ok
GET     /models                                   ok    ok  ok   ok    ok
GET     /v1/models                                ok    ok  ok   ok    ok
GET     /openai/v1/models                         ok    ok  ok   ok    ok
GET     /models/{model:path}                      ok    ok  ok   ok    ok
GET     /v1/models/{model:path}                   ok    ok  ok   ok    ok
GET     /openai/v1/models/{model:path}            ok    ok  ok   ok    ok
POST    /key/generate                             403   403 403  ok    ok       {}
POST    /key/update                               403   403 403  ok    ok       {"key": "{key}", "user": "ann"}
POST    /key/bulk_update                          403   403 403  ok    ok       {"keys": [{"key": "{key}"}]}
POST    /key/regenerate                           403   403 403  ok    ok       {"key": "{spare}"}
POST    /key/{key}/regenerate                     403   403 403  ok    ok       {"grace_period": "1d"}
POST    /key/block                                403   403 403  ok    ok       {"key": "{spare}"}
POST    /key/unblock                              403   403 403  ok    ok       {"key": "{spare}"}
POST    /key/delete                               403   403 403  ok    ok       {"keys": ["{spare}"]}
GET     /key/info?key={key}                       404   ok  ok   ok    ok
POST    /v2/key/info                              ok    ok  ok   ok    ok       {"keys": ["{key}"]}
GET     /key/list                                 403   403 ok   ok    ok
GET     /key/aliases                              ok    ok  ok   ok    ok
POST    /team/new                                 403   403 403  ok    ok       {}
POST    /team/update                              403   403 403  ok    ok       {"team_id": "red", "org": "acme"}
POST    /team/delete                              403   403 403  ok    ok       {"team_ids": []}
GET     /team/info?team_id=red                    404   ok  ok   ok    ok
GET     /team/list                                403   403 ok   ok    ok
GET     /prices                                   403   403 ok   ok    ok
POST    /prices/set                               403   403 403  ok    ok       {"model": "gpt-9", "rates": {}}
POST    /prices/withdraw                          403   403 403  ok    ok       {"price_id": "sha256:0"}
GET     /ledger/events                            403   403 ok   ok    ok
GET     /ledger/calls/{call_id}                   404   ok  ok   ok    ok
GET     /ledger/calls/{call_id}/events            404   ok  ok   ok    ok
GET     /ledger/calls/{call_id}/replay            404   ok  ok   ok    ok
GET     /spend/logs                               ok    ok  ok   ok    ok
GET     /global/spend/report                      ok    ok  ok   ok    ok
GET     /spend/logs/v2                            ok    ok  ok   ok    ok
GET     /spend/logs/ui                            ok    ok  ok   ok    ok
GET     /spend/keys                               ok    ok  ok   ok    ok
GET     /spend/users                              ok    ok  ok   ok    ok
GET     /spend/tags                               ok    ok  ok   ok    ok
GET     /global/spend                             ok    ok  ok   ok    ok
GET     /global/spend/logs                        ok    ok  ok   ok    ok
GET     /global/spend/keys                        ok    ok  ok   ok    ok
GET     /global/spend/models                      ok    ok  ok   ok    ok
GET     /global/spend/end_users                   ok    ok  ok   ok    ok
GET     /global/spend/teams                       ok    ok  ok   ok    ok
GET     /global/spend/tags                        ok    ok  ok   ok    ok
GET     /global/spend/all_tag_names               ok    ok  ok   ok    ok
GET     /global/spend/provider                    ok    ok  ok   ok    ok
GET     /global/activity                          ok    ok  ok   ok    ok
GET     /global/activity/model                    ok    ok  ok   ok    ok
GET     /user/daily/activity                      ok    ok  ok   ok    ok
GET     /user/daily/activity/aggregated           ok    ok  ok   ok    ok
GET     /team/daily/activity                      ok    ok  ok   ok    ok
GET     /organization/daily/activity              ok    ok  ok   ok    ok
GET     /tag/daily/activity                       ok    ok  ok   ok    ok
GET     /customer/daily/activity                  ok    ok  ok   ok    ok
GET     /end_user/daily/activity                  ok    ok  ok   ok    ok
GET     /customer/list                            ok    ok  ok   ok    ok
GET     /end_user/list                            ok    ok  ok   ok    ok
POST    /spend/calculate                          ok    ok  ok   ok    ok       {"model": "gpt-4o", "input": "hi"}
GET     /organization/costs?start_time=1767225600 ok ok ok ok ok
GET     /organization/usage/completions?start_time=1767225600 ok ok ok ok ok
GET     /v1/organization/costs?start_time=1767225600 ok ok ok ok ok
GET     /v1/organization/usage/completions?start_time=1767225600 ok ok ok ok ok
GET     /openai/v1/organization/costs?start_time=1767225600 ok ok ok ok ok
GET     /openai/v1/organization/usage/completions?start_time=1767225600 ok ok ok ok ok
GET     /customer/info?end_user_id=eve            404   ok  ok   ok    ok
GET     /end_user/info?end_user_id=eve            404   ok  ok   ok    ok
POST    /v1/responses                             ok    ok  403  ok    ok       {"model": "gpt-4o", "input": "hi"}
POST    /v1/responses/compact                     ok    ok  403  ok    ok       {"model": "gpt-4o", "input": "hi"}
POST    /v1/responses/input_tokens                ok    ok  403  ok    ok       {"model": "gpt-4o", "input": "hi"}
GET     /v1/responses/{response_id}               404   ok  ok   ok    ok
GET     /v1/responses/{response_id}/input_items   404   404 404  404   404
POST    /v1/responses/{response_id}/cancel        404   ok  403  ok    ok       {}
DELETE  /v1/responses/{response_id}               404   ok  403  ok    ok
"""
#: The calls, which FastAPI does not know; the stand-in upstream has no input items.
CALLS: Final = frozenset(
    {
        "POST /v1/responses", "POST /v1/responses/compact", "POST /v1/responses/input_tokens",
        "GET /v1/responses/{response_id}", "GET /v1/responses/{response_id}/input_items",
        "POST /v1/responses/{response_id}/cancel", "DELETE /v1/responses/{response_id}",
    }
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """A route, what each of CALLERS gets (nothing: it is open), and the JSON that it takes."""

    method: str
    path: str
    expected: dict[str, str]
    body: str

    @property
    def route(self) -> str:
        """How the application names it."""
        return f"{self.method} {self.path.partition('?')[0]}"


def rows() -> list[Row]:
    """Return the table, line by line."""
    found: list[Row] = []
    for line in TABLE.strip().splitlines()[1:]:
        method, path, first, *rest = line.split(maxsplit=7)
        if first == "open":
            found.append(Row(method, path, {}, ""))
            continue
        expected = dict(zip(CALLERS, [first, *rest[:4]], strict=True))
        found.append(Row(method, path, expected, rest[4] if len(rest) > len(CALLERS) - 1 else ""))
    return found
