"""Where a call goes: arguments over configuration over environment, and no key to a place that it is not meant for."""

from typing import Any

import pytest

import llm
from llm.sdk import settings
from llm.sdk.plan import TIMEOUT_S_MAX, Plan, Target, make_plan, upstream_model
from llm.sdk.settings import current

OPENAI = "https://api.openai.com/v1"


@pytest.fixture(autouse=True)
def as_if_new(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(settings, "_current", settings.Settings())
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "LLM_LEDGER_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-environment")


def plan(model: str = "gpt-4o", **given: Any) -> Plan:
    return make_plan(current(), model, **given)


def test_plan_of_a_bare_call_goes_to_openai_with_the_environments_key() -> None:
    assert plan() == Plan((Target("gpt-4o", OPENAI, "sk-environment"),), 2, 600.0)


def test_plan_without_any_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    with pytest.raises(llm.UsageError, match="set OPENAI_API_KEY"):
        plan()


def test_key_of_the_environment_goes_to_the_environments_base_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", "https://gateway.example/v1/")
    assert plan().targets == (Target("gpt-4o", "https://gateway.example/v1", "sk-environment"),)
    with pytest.raises(llm.UsageError, match="OPENAI_API_KEY is not sent there"):
        plan(api_base="https://other.example/v1")
    assert plan(api_base="https://other.example/v1", api_key="").targets[0].api_key == ""


def test_arguments_win_over_configuration_and_configuration_over_environment() -> None:
    llm.configure(api_key="sk-configured", api_base="https://c.example/v1", timeout=5, num_retries=4)
    assert plan() == Plan((Target("gpt-4o", "https://c.example/v1", "sk-configured"),), 4, 5.0)
    given = plan(api_key="sk-given", api_base="https://g.example/v1", timeout=7, num_retries=0)
    assert given == Plan((Target("gpt-4o", "https://g.example/v1", "sk-given"),), 0, 7.0)
    llm.configure(api_key=None, api_base=None, timeout=None, num_retries=None)
    assert plan().targets[0] == Target("gpt-4o", OPENAI, "sk-environment")


def test_mock_response_needs_no_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    assert plan(mock_response="Hi").targets[0].mock_response == "Hi"


def test_fallbacks_inherit_the_place_unless_they_name_one() -> None:
    other = {"model": "openai/o3", "api_base": "https://o.example/v1", "api_key": "sk-o"}
    assert plan(fallbacks=["openai/gpt-4o-mini", other]).targets[1:] == (
        Target("gpt-4o-mini", OPENAI, "sk-environment"),
        Target("o3", "https://o.example/v1", "sk-o"),
    )


def test_fallback_to_another_place_without_its_key_is_refused() -> None:
    with pytest.raises(llm.UsageError, match=r"no key for https://o\.example/v1"):
        plan(api_key="sk-mine", fallbacks=[{"model": "o3", "api_base": "https://o.example/v1"}])


def test_fallback_to_the_same_model_elsewhere_is_a_group_of_its_own() -> None:
    twice = plan(fallbacks=[{"model": "gpt-4o", "api_base": "https://o.example/v1", "api_key": "k"}]).deployments()
    assert [(each.model_name, each.upstream_model) for each in twice] == [("gpt-4o", "gpt-4o"), ("gpt-4o#2", "gpt-4o")]
    assert twice[0].deployment_id != twice[1].deployment_id


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"timeout": 0}, "timeout"),
        ({"timeout": "5"}, "timeout"),
        ({"timeout": float("nan")}, "timeout"),
        ({"num_retries": -1}, "num_retries"),
        ({"num_retries": True}, "num_retries"),
        ({"api_base": "ftp://x"}, "api_base"),
        ({"api_base": "https://u:p@x/v1", "api_key": "k"}, "api_base"),
        ({"fallbacks": [{"api_key": "k"}]}, "no model"),
        ({"fallbacks": [{"model": "m", "weight": 1}]}, "weight"),
        ({"fallbacks": ["m"] * 6}, "at most 5"),
        ({"fallbacks": "gpt"}, "fallbacks is a list"),
        ({"fallbacks": {"model": "m"}}, "fallbacks is a list"),
        ({"fallbacks": [3]}, "a mapping, not int"),
        ({"fallbacks": [{"model": "m", "api_key": 3}]}, "api_key is a text, not int"),
        ({"api_base": 3, "api_key": "k"}, "api_base is a text, not int"),
        ({"api_key": b"sk-secret"}, "api_key is a text, not bytes"),
        ({"mock_response": ["x"]}, "mock_response is a text, not list"),
    ],
)
def test_argument_that_cannot_be_used_is_named(given: dict[str, Any], said: str) -> None:
    with pytest.raises(llm.UsageError, match=said):
        plan(**given)


def test_provider_is_openai_or_unsaid() -> None:
    assert upstream_model("openai/gpt-4o") == upstream_model("gpt-4o") == "gpt-4o"
    assert upstream_model("ft:gpt-4o:org::id") == "ft:gpt-4o:org::id"
    with pytest.raises(llm.UsageError, match="only provider is openai"):
        upstream_model("anthropic/claude")


def test_timeout_of_httpx_counts_by_its_silence() -> None:
    class Timeout:
        read: float | None = 3.0

    assert plan(timeout=Timeout()).timeout_s == 3.0
    Timeout.read = None
    assert plan(timeout=Timeout()).timeout_s == TIMEOUT_S_MAX


def test_proxy_takes_every_call_and_its_own_key() -> None:
    llm.configure(proxy="http://127.0.0.1:4000/v1/", api_key="sk-virtual")
    assert plan("any/name") == Plan(
        (Target("any/name", "http://127.0.0.1:4000/v1", "sk-virtual"),), 0, 600.0, "http://127.0.0.1:4000"
    )
    given: list[dict[str, Any]] = [{"api_base": OPENAI}, {"fallbacks": ["m"]}, {"mock_response": "Hi"}]
    for each in given:
        with pytest.raises(llm.UsageError, match=f"{next(iter(each))} cannot be said to a proxy"):
            plan(**each)


def test_proxy_is_never_given_the_key_of_openai() -> None:
    llm.configure(proxy="http://127.0.0.1:4000")
    with pytest.raises(llm.UsageError, match="a proxy needs a key"):
        plan()


@pytest.mark.parametrize(
    "given",
    [
        {"proxy": "127.0.0.1:4000"},
        {"proxy": "http://p", "ledger": "postgres://x"},
        {"proxy": "http://p", "api_base": OPENAI},
        {"proxy": "http://p", "key": "team"},
        {"tags": "one"},
        {"tags": ["a,b"]},
        {"tags": [str(number) for number in range(9)]},
        {"user": "u" * 300},
        {"store_bodies": "some"},
        {"store_bodies": False},
    ],
)
def test_configuration_that_cannot_be_used_changes_nothing(given: dict[str, Any]) -> None:
    before = current()
    with pytest.raises(llm.UsageError):
        llm.configure(**given)
    assert current() is before


def test_book_is_configured_or_named_by_its_own_variable_never_by_database_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgres://program")
    assert current().ledger_url is None
    monkeypatch.setenv("LLM_LEDGER_URL", "postgres://book")
    assert current().ledger_url == "postgres://book"
    llm.configure(ledger="postgres://other")
    assert current().ledger_url == "postgres://other"
    llm.configure(ledger="")
    assert current().ledger_url is None
    llm.configure(ledger=None, proxy="http://p")
    assert current().ledger_url is None


def test_bodies_are_kept_unless_the_configuration_says_none() -> None:
    assert plan().keeps_bodies
    for proxy in (None, "http://p"):
        llm.configure(store_bodies="none", proxy=proxy, api_key="sk-any")
        assert not plan().keeps_bodies
    for kept in ("all", None):
        llm.configure(store_bodies=kept)
        assert plan().keeps_bodies


def test_secrets_are_in_no_repr() -> None:
    llm.configure(api_key="sk-secret", ledger="postgres://u:secret@h/db")
    assert "secret" not in repr(current())
    assert "secret" not in repr(plan())


@pytest.mark.parametrize("name", ["proxy", "ledger", "api_key", "api_base", "key", "user", "end_user"])
def test_setting_that_is_no_text_is_refused_at_once_and_changes_nothing(name: str) -> None:
    before = current()
    with pytest.raises(llm.UsageError, match=f"{name} is a text, not int"):
        llm.configure(**{name: 3})  # pyright: ignore[reportArgumentType] - that is what is refused
    assert current() == before
