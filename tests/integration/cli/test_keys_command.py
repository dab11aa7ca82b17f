"""`llm keys`: issued, changed and imported on the database itself; what a running proxy then accepts."""

import csv
import hashlib
import json
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from api.cli import keys_import
from api.cli.administering import administering, command_actor
from api.litellm_keys import read_row
from api.routes import key_batches
from ledger.errors import FencedError, LedgerUnavailableError
from ledger.postgres.connect import connect
from tests.support.cli import keys
from tests.support.routes import proxy_at

ACTOR = command_actor().key_id


async def _json(*arguments: str, url: str) -> Any:
    result = await keys(*arguments, "--json", url=url)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


async def test_keys_of_the_command_line_are_accepted_by_a_proxy_and_have_their_actor(database_url: str) -> None:
    made = await keys("issue", "--alias", "ci", "--team", "red", "--tag", "a", "--tag", "b", url=database_url)
    assert made.exit_code == 0, made.output
    secret = made.stdout.strip()
    assert secret.startswith("sk-")
    assert "shown once" in made.stderr
    shown = await _json("show", "ci", url=database_url)
    assert (shown["team"], shown["tags"], shown["created_by"]) == ("red", ["a", "b"], ACTOR)
    assert secret not in json.dumps(shown)
    listed = await keys("list", url=database_url)
    assert shown["key_id"] in listed.output
    assert "active" in listed.output
    async with proxy_at(database_url) as proxy:
        assert (await proxy.get("/key/info", secret)).json()["key"] == shown["key_id"]
    changed = await _json("update", "ci", "--user", "ann", "--clear", "tags", "--permission", "view", url=database_url)
    assert (changed["user"], changed["tags"], changed["permissions"], changed["team"]) == ("ann", [], ["view"], "red")
    blocked = await keys("block", secret, url=database_url)
    assert "blocked         true" in blocked.output
    assert (await _json("unblock", shown["key_id"], url=database_url))["blocked"] is False
    renewed = await _json("regenerate", "ci", "--grace-period", "1h", url=database_url)
    async with proxy_at(database_url) as proxy:
        for each in (secret, renewed["key"]):
            assert (await proxy.get("/key/info", each)).status_code == 200
        assert (await keys("revoke", "ci", url=database_url)).exit_code == 0
        await proxy.context.keyring._poll()
        assert (await proxy.get("/key/info", renewed["key"])).status_code == 401
        events = [(await proxy.get("/ledger/events", type=f"key.{each}")).json()["data"] for each in (
            "issued", "updated", "blocked", "unblocked", "regenerated", "revoked")]  # fmt: skip
    assert [[event["facts"]["actor"] for event in each] for each in events] == [[ACTOR]] * 6


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("show", "nobody"), 1, "There is no key with the alias 'nobody'"),
        (("revoke", "sk-nobody-has-this-key"), 1, "There is no key sk-...-key"),
        (("issue", "--duration", "soon"), 1, "duration must be"),
        (("issue", "--metadata", "{"), 2, "is no JSON"),
        (("update", "nobody"), 1, "There is no key"),
        (("import",), 2, "Name a FILE or --from-database"),
    ],
)
async def test_keys_command_that_cannot_be_done_says_why_in_a_line(
    database_url: str, arguments: tuple[str, ...], status: int, said: str
) -> None:
    result = await keys(*arguments, url=database_url)
    assert result.exit_code == status
    assert said in result.stderr
    assert "Traceback" not in result.output


SECRETS = [f"sk-litellm-{number}-aaaaaaaa" for number in range(5)]
ROWS: list[dict[str, str]] = [
    {"key_alias": "web", "models": '{gpt-5,"a b"}', "team_id": "red", "user_id": "ann", "organization_id": "acme",
     "metadata": '{"tags": ["t"], "rate": 0.5}', "expires": "2999-01-01 00:00:00+00", "spend": "12.5"},
    {"key_alias": "old", "models": "{all-proxy-models}", "expires": "2020-01-01 00:00:00", "blocked": "t"},
    {"key_alias": "rich", "max_budget": "10"},
    {"key_alias": "web"},
    {"models": "{all-team-models}"},
]  # fmt: skip
COLUMNS: tuple[str, ...] = (
    "token", "key_name", "key_alias", "spend", "expires", "models", "user_id", "team_id", "organization_id", "metadata",
    "blocked", "created_at", "max_budget", "permissions", "aliases", "model_max_budget",
)  # fmt: skip


def _row(number: int) -> dict[str, str]:
    token = hashlib.sha256(SECRETS[number].encode()).hexdigest()
    usual = {"key_name": "sk-...aaaa", "created_at": "2025-03-04 05:06:07.891", "permissions": "{}", "aliases": "{}",
             "models": "{}", "metadata": "{}", "model_max_budget": "{}"}  # fmt: skip
    return {**dict.fromkeys(COLUMNS, ""), **usual, "token": token, **ROWS[number]}


def _csv(path: Path) -> Path:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        writer.writerows(_row(number) for number in range(len(ROWS)))
    return path


async def test_keys_import_keeps_the_hash_says_what_it_refuses_and_can_be_run_again(
    database_url: str, tmp_path: Path
) -> None:
    file = str(_csv(tmp_path / "keys.csv"))
    dry = await keys("import", file, "--dry-run", url=database_url)
    assert "dry run: 2 imported, 0 exists, 3 refused" in dry.stderr
    assert (await _json("list", "--status", "all", url=database_url)) == []
    first = await keys("import", file, url=database_url)
    assert first.exit_code == 1
    lines = first.stdout.splitlines()
    assert [line.split()[2] for line in lines] == ["imported", "imported", "refused", "refused", "refused"]
    assert "metadata.rate became a text" in lines[0]
    assert "max_budget is set (10) and would not be enforced here: use --ignore-budgets" in lines[2]
    assert "alias 'web' belongs to another key" in lines[3]
    assert "all-team-models" in lines[4]
    assert "LiteLLM had counted 12.5 USD" in first.stderr
    again = await keys("import", file, "--ignore-budgets", url=database_url)
    assert "1 imported, 2 exists, 2 refused" in again.stderr
    shown = await _json("show", SECRETS[0], url=database_url)
    assert (shown["key_alias"], shown["models"], shown["team"], shown["org"]) == (
        "web",
        ["gpt-5", "a b"],
        "red",
        "acme",
    )
    assert (shown["tags"], shown["metadata"], shown["spend"]) == (["t"], {"rate": "0.5"}, 0)
    assert (shown["created_at"], shown["created_by"]) == ("2025-03-04T05:06:07.891000Z", ACTOR)
    async with proxy_at(database_url) as proxy:
        statuses = [(await proxy.get("/key/info", secret)).status_code for secret in SECRETS]
        assert statuses == [200, 403, 200, 401, 401]
        events = (await proxy.get("/ledger/events", type="key.issued")).json()["data"]
    assert {(event["facts"]["actor"], event["facts"]["source"]) for event in events} == {(ACTOR, "litellm")}


async def test_keys_import_reads_json_and_a_database(database_url: str, tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{**_row(0), "models": ["gpt-5"], "metadata": {"a": 1}, "blocked": None, "spend": 1.5}]
    file = tmp_path / "keys.json"
    file.write_text(json.dumps(rows))
    assert (await keys("import", str(file), "--dry-run", url=database_url)).exit_code == 0
    connection = await asyncpg.connect(database_url)
    await connection.execute("""
        CREATE TABLE public."LiteLLM_VerificationToken" (
            token text PRIMARY KEY, key_name text, key_alias text, spend float8 NOT NULL DEFAULT 0, expires timestamp,
            models text[], user_id text, team_id text, metadata jsonb NOT NULL DEFAULT '{}', blocked boolean,
            permissions jsonb NOT NULL DEFAULT '{}', max_budget float8, organization_id text, created_at timestamp
        )
    """)
    await connection.execute(
        """INSERT INTO public."LiteLLM_VerificationToken" (token, key_name, spend, models, metadata, created_at)
        VALUES ($1, 'sk-...aaaa', 0.25, '{gpt-5}', '{"owner": "x"}', '2025-01-01')""",
        _row(1)["token"],
    )
    await connection.close()
    done = await keys("import", "--from-database", database_url, "--json", url=database_url)
    assert (done.exit_code, json.loads(done.stdout)["outcome"]) == (0, "imported"), done.output
    shown = await _json("show", SECRETS[1], url=database_url)
    assert (shown["models"], shown["metadata"], shown["created_at"][:10]) == (["gpt-5"], {"owner": "x"}, "2025-01-01")


@pytest.mark.parametrize("content", ["[1]", "[", "a,b\n1,2\n", 'token\n"', "token\nx,y\n", "[" * 50_000])
async def test_keys_import_of_something_else_says_so(database_url: str, tmp_path: Path, content: str) -> None:
    file = tmp_path / "keys"
    file.write_text(content)
    result = await keys("import", str(file), "--dry-run", url=database_url)
    assert result.exit_code == 1
    assert "is neither CSV with a header nor a JSON array" in result.stderr


_EVENTS = """
SELECT facts->'key'->>'key_hash' AS key_hash, facts->>'actor' AS actor, (facts->>'revision')::int AS revision
FROM ledger.events WHERE type = 'key.issued'
"""
_CLAIMS = "SELECT id, revision FROM ledger.subjects WHERE kind = 'key'"


async def _fetch(url: str, query: str, *arguments: object) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(url)
    try:
        return [tuple(row) for row in await connection.fetch(query, *arguments)]
    finally:
        await connection.close()


def _many(path: Path, *rows: tuple[str, str]) -> Path:
    """Write keys: a word that their hash is made of, and an alias; a word "bad" makes no hash."""
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ("token", "key_alias"))
        writer.writeheader()
        for word, alias in rows:
            writer.writerow({"token": word if word == "bad" else _hash(word), "key_alias": alias})
    return path


def _hash(word: str) -> str:
    return hashlib.sha256(word.encode()).hexdigest()


async def test_keys_import_in_batches_gives_each_key_its_event_and_names_each_row_that_is_not_taken(
    database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_import, "_BATCH_ROWS", 3)
    opened: list[str] = []

    async def counting(url: str, **settings: Any) -> asyncpg.Connection:
        opened.append(url)
        return await connect(url, **settings)

    monkeypatch.setattr(key_batches, "connect", counting)
    # Half of a rival's issue: its event may still come.
    await _fetch(database_url, "INSERT INTO ledger.subjects (kind, id, revision) VALUES ('key', $1, 1)", _hash("rival"))
    rows = [("a", "one"), ("bad", ""), ("a", "one"), ("b", "two"), ("rival", "free"), ("c", "two"), ("d", ""),
            ("b", "three"), ("e", "one"), ("f", "free")]  # fmt: skip
    file = str(_many(tmp_path / "keys.csv", *rows))
    done = await keys("import", file, "--json", url=database_url)
    became = [json.loads(line) for line in done.stdout.splitlines()]
    assert [each["row"] for each in became] == list(range(1, 11))
    taken = [
        "imported",
        "refused",
        "exists",
        "imported",
        "refused",
        "refused",
        "imported",
        "exists",
        "refused",
        "imported",
    ]
    assert [each["outcome"] for each in became] == taken
    assert [each["key_id"] for each in became if each["outcome"] == "exists"] == [
        became[0]["key_id"],
        became[3]["key_id"],
    ]
    assert "token is no SHA-256 in hex" in became[1]["remarks"]
    assert "This key is being issued" in became[4]["remarks"]
    assert "The alias 'two' belongs to another key" in became[5]["remarks"]
    assert "The alias 'one' belongs to another key" in became[8]["remarks"]
    assert len(opened) == 1
    recorded = await _fetch(database_url, _EVENTS)
    assert sorted(recorded) == sorted((_hash(word), ACTOR, 1) for word in "abdf")
    assert sorted(await _fetch(database_url, _CLAIMS)) == sorted((_hash(word), 1) for word in [*"abdf", "rival"])
    again = await keys("import", file, url=database_url)
    assert "0 imported, 6 exists, 4 refused" in again.stderr
    assert (await _fetch(database_url, _EVENTS), opened) == (recorded, [database_url] * 2)


@pytest.mark.parametrize(("cause", "stand"), [(FencedError("taken over"), False), (TimeoutError(), True)])
async def test_keys_import_that_breaks_off_leaves_claims_where_their_events_may_still_come(
    database_url: str, monkeypatch: pytest.MonkeyPatch, cause: Exception, stand: bool
) -> None:
    async def unavailable(*_arguments: object, **_keywords: object) -> None:
        raise LedgerUnavailableError("2 events could not be made durable") from cause

    async with administering(database_url) as book:
        monkeypatch.setattr(book, "publish_first", unavailable)
        batches = key_batches.KeyBatches(database_url, book, command_actor(), source="litellm")
        keys_of_rows = [read_row({"token": _hash(word), "key_alias": word}).state for word in "ab"]
        with pytest.raises(LedgerUnavailableError):
            await batches.register(keys_of_rows)
        assert len(await _fetch(database_url, _CLAIMS)) == (2 if stand else 0)
        monkeypatch.undo()
        if not stand:
            assert all(each.is_new for each in await batches.register(keys_of_rows))
        batches.close()
