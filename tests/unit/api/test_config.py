"""The config loader: every mistake with its place, nothing lost, nothing guessed."""

import re
from pathlib import Path

import pytest

from api.config import Config, ConfigError, load, parse
from api.config_nodes import FILE_BYTES_MAX

ROOT = Path(__file__).resolve().parents[3]
ENVIRON = {"OPENAI_API_KEY": "sk-from-environment", "KEY": "sk-other", "EMPTY": ""}
MODEL = "model_list:\n  - model_name: m\n    llm_params: {model: openai/gpt-4o}\n"


def read(text: str, environ: dict[str, str] | None = None) -> Config:
    return parse(text.encode(), "c.yaml", ENVIRON if environ is None else environ)


def mistakes(text: str | bytes, environ: dict[str, str] | None = None) -> list[str]:
    data = text.encode() if isinstance(text, str) else text
    with pytest.raises(ConfigError) as caught:
        parse(data, "c.yaml", ENVIRON if environ is None else environ)
    assert str(caught.value) == "\n".join(str(mistake) for mistake in caught.value.mistakes)
    return [str(mistake) for mistake in caught.value.mistakes]


def params(line: str) -> str:
    return f"model_list:\n  - model_name: m\n    llm_params:\n      model: openai/gpt-4o\n      {line}\n"


LAUGHS = "a0: &a0 [x,x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{i}: &a{i} [{','.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9)
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "c.yaml: the file is empty; expected at least a model_list"),
        ("# nothing\n", "c.yaml: the file is empty"),
        ("- a\n", "c.yaml:1: expected a mapping of keys to values, found a list"),
        ("just text", "c.yaml:1: expected a mapping of keys to values, found a single value"),
        ("{}", "c.yaml:1: model_list: expected a list of at least one model"),
        ("model_list: []", "c.yaml:1: model_list: expected a list of at least one model"),
        ("model_list: {a: b}", "c.yaml:1: model_list: expected a list, found a mapping"),
        ("a: [1\nb: 2", "c.yaml:2: not valid YAML"),
        ("a: 1\n\tb: 2", "indent with spaces"),
        (MODEL + "---\n" + MODEL, "without a second '---'"),
        (b"a: \xff", "c.yaml:1: the file is not UTF-8"),
        (b"a: b\nc: \x00", "c.yaml: not valid YAML"),
        (MODEL.encode("utf-16"), "c.yaml:1: the file is not UTF-8"),
        (b"#" * (FILE_BYTES_MAX + 1), "c.yaml: the file is larger than"),
        (LAUGHS, "with aliases expanded"),
        ("a: &a [*a]\n", "levels of nesting, with aliases expanded"),
        ("[" * 100 + "]" * 100, "levels of nesting"),
        ("[" * 10_000, "nested too deep"),
        (MODEL + MODEL, "c.yaml:4: model_list: given twice, first in line 1; keep one"),
        (MODEL + "? [a]\n: b\n", "expected a plain key"),
        (MODEL + "<<: 5\n", "expected a mapping, or a list of mappings, to merge"),
    ],
)
def test_parse_of_a_file_that_is_no_config_says_where_and_why(text: str | bytes, expected: str) -> None:
    assert any(expected in mistake for mistake in mistakes(text))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("api_key: os.environ/MISSING", "c.yaml:5: model_list[0].llm_params.api_key: the environment variable MISSING"),
        ("api_key: os.environ/EMPTY", "the environment variable EMPTY is empty"),
        ("api_key: os.environ/", "the environment variable (no name) is not set"),
        ('api_key: "sk-x\\n"', "api_key: expected a key, os.environ/NAME"),
        ("api_base: ftp://x", "api_base: expected a URL such as https://api.openai.com/v1"),
        ("api_base: https://u:p@host/v1", "api_base: expected a URL"),
        ("api_base: https://host/v1?a=b", "api_base: expected a URL"),
        ("api_base: http://host:99999", "api_base: expected a URL"),
        ("data_residency: europe", "data_residency: expected a region such as eu or us, or global"),
        ("api_base: http://127.0.0.1:1", "api_key: expected a key for http://127.0.0.1:1"),
        ("rpm: many", "rpm: expected a whole number from 0 to"),
        ("rpm: 1.5", "found '1.5'"),
        ("rpm: [1]", "rpm: expected a whole number from 0 to 1000000000000000, found a list"),
        ("rpm: !!python/name:os.system x", "found the tag"),
        ("weight: -1", "weight: expected a number of at least 0, found '-1'"),
        ("timeout: 0", "timeout: expected a duration of at least 0.001 s"),
        ("timeout: 5 parsecs", "timeout: expected a duration"),
        ("input_cost_per_token: 2.5e-13", "at most 12 decimals"),
        ("input_cost_per_token: .nan", "input_cost_per_token: expected USD per token"),
        ("input_cost_per_token: -1", "input_cost_per_token: expected USD per token"),
        ("input_cost_per_token: 0.1", "output_cost_per_token: expected beside input_cost_per_token"),
        ("api_bass: http://x", "c.yaml:5: model_list[0].llm_params.api_bass: unknown key; did you mean api_base?"),
        ("zzz: 1", "model_list[0].llm_params.zzz: unknown key"),
        ("model: openai/b", "c.yaml:5: model_list[0].llm_params.model: given twice, first in line 4"),
    ],
)
def test_parse_of_a_wrong_param_names_line_key_and_expectation(line: str, expected: str) -> None:
    assert any(expected in mistake for mistake in mistakes(params(line)))


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("{}", "c.yaml:1: model_list[0].model_name: expected the name that clients ask for"),
        ("{}", "c.yaml:1: model_list[0].llm_params: expected llm_params with at least a model"),
        ("text", "c.yaml:1: model_list[0]: expected a mapping"),
        ("{model_name: m, llm_params: {}}", "llm_params.model: expected a model such as openai/gpt-4o"),
        (
            "{model_name: m, llm_params: {model: gpt-4o}}",
            "expected the provider before the model, such as openai/gpt-4o",
        ),
        (
            "{model_name: m, llm_params: {model: anthropic/x}}",
            "provider 'anthropic' is not supported; supported is openai",
        ),
        ("{model_name: m, llm_params: {model: openai/}}", "expected the name of one model behind openai/"),
        ('{model_name: "*", llm_params: {model: "openai/*"}}', "wildcards are not supported"),
        ("{model_name: m, llm_params: {model: openai/a}, litellm_params: {model: openai/a}}", "means the same as"),
        ("{model_name: m, llm_params: {model: openai/a}, model_inf: {}}", "did you mean model_info?"),
        ("{model_name: m, llm_params: {model: openai/a}, model_info: {id: ''}}", "id: expected an id"),
    ],
)
def test_parse_of_a_wrong_model_says_what_was_expected(entry: str, expected: str) -> None:
    assert any(expected in mistake for mistake in mistakes(f"model_list: [{entry}]"))


@pytest.mark.parametrize(
    ("section", "expected"),
    [
        (
            "general_settings: {durability: sometimes}",
            "c.yaml:4: general_settings.durability: expected one of flush, every_ch",
        ),
        ("general_settings: {on_disconnect: ignore}", "expected one of drain, cancel, found 'ignore'"),
        ("general_settings: {lease_s: 1}", "lease_s: expected a duration of at least 5 s"),
        ("general_settings: {drain_timeout: 5}", "unknown key; did you mean drain_timeout_s?"),
        ("general_settings: {max_request_bytes: 1, max_request_size_mb: 1}", "means the same as max_request_bytes"),
        ("general_settings: {call_buffer_bytes: 128 MiB}", "expected at most buffer_bytes (67108864)"),
        ("general_settings: {master_key: tooshrt}", "master_key: expected a key of at least 8"),
        ("general_settings: []", "general_settings: expected a mapping of keys to values, found a list"),
        ("router_settings: {routing_strategy: least-busy}", "expected one of simple-shuffle, found 'least-busy'"),
        ("router_settings: {num_retries: -1}", "num_retries: expected a whole number from 0 to 20"),
        ("router_settings: {fallbacks: {m: [m]}}", "fallbacks: expected a list, found a mapping"),
        (
            "router_settings: {fallbacks: [{m: [n]}]}",
            "fallbacks[0].m[0]: expected a model_name of the model_list, found 'n'",
        ),
        ("router_settings: {fallbacks: [{m: m}]}", "fallbacks[0].m: expected a list"),
        (
            "router_settings: {fallbacks: [{m: [{model: m}]}]}",
            "expected a model_name of the model_list, found a mapping",
        ),
        ("router_settings: {fallbacks: [{m: []}, {m: []}]}", "are given twice"),
        ("llm_settings: {default_fallbacks: [x]}", "default_fallbacks[0]: expected a model_name"),
        ("llm_settings: {}\nlitellm_settings: {}", "means the same as llm_settings"),
        (
            "general_settings: {metrics_require_key: on}\nlitellm_settings: {require_auth_for_metrics_endpoint: on}",
            "c.yaml:4: general_settings.metrics_require_key: means the same as litellm_settings.require_auth",
        ),
        ("llm_settings: {require_auth_for_metrics_endpoint: maybe}", "expected true or false, found 'maybe'"),
        ("router_setting: {}", "c.yaml:4: router_setting: unknown key; did you mean router_settings?"),
    ],
)
def test_parse_of_a_wrong_setting_says_what_was_expected(section: str, expected: str) -> None:
    assert any(expected in mistake for mistake in mistakes(MODEL + section))


def test_parse_with_several_mistakes_reports_all_in_the_order_of_lines() -> None:
    found = mistakes(params("rpm: x\n      tpm: y") + "general_settings:\n  lease_s: z\n  nonsense: 1\n")
    assert [mistake.split(" ")[0] for mistake in found] == ["c.yaml:5:", "c.yaml:6:", "c.yaml:8:", "c.yaml:9:"]


def test_parse_with_a_mistake_in_a_secret_does_not_show_it() -> None:
    for text in (params('api_key: "sk-s3cret\\n"'), MODEL + "general_settings: {master_key: s3cret}"):
        assert "s3cret" not in "".join(mistakes(text))
    found = mistakes(params("rpm: os.environ/KEY"))
    assert "sk-other" not in "".join(found)


@pytest.mark.parametrize(
    ("lines", "region"),
    [
        ("rpm: 1", ""),
        ("data_residency: EU", "eu"),
        ("api_base: https://us.api.openai.com/v1\n      api_key: sk-x", "us"),
        ("api_base: https://us.api.openai.com/v1\n      api_key: sk-x\n      data_residency: global", ""),
    ],
)
def test_parse_takes_the_region_from_the_address_unless_it_is_said(lines: str, region: str) -> None:
    [model] = read(params(lines)).model_list
    assert model.region == region


def test_parse_without_a_key_for_openai_names_the_variable() -> None:
    assert any("OPENAI_API_KEY is not set" in mistake for mistake in mistakes(MODEL, {}))
    assert read(MODEL).model_list[0].api_key == "sk-from-environment"


def test_parse_for_another_host_never_takes_openais_key() -> None:
    found = mistakes(params("api_base: https://elsewhere.example/v1"))
    assert any("expected a key for https://elsewhere.example/v1" in mistake for mistake in found)
    [model] = read(params('api_base: https://elsewhere.example/v1/\n      api_key: ""')).model_list
    assert (model.api_key, model.api_base) == ("", "https://elsewhere.example/v1")


def test_parse_of_a_mock_needs_no_key() -> None:
    [model] = read(params("mock_response: hi\n      api_key: os.environ/MISSING"), {}).model_list
    assert (model.mock_response, model.api_key) == ("hi", "")


def test_parse_keeps_prices_as_the_text_in_the_file() -> None:
    [model] = read(
        params("input_cost_per_token: 2.5e-06\n      output_cost_per_token: 0.000010")
        + "    model_info: {id: d-1, cache_read_input_token_cost: 1.25e-6, input_cost_per_token: 9}\n"
    ).model_list
    assert model.deployment_id == "d-1"
    assert dict(model.prices) == {
        "input_cost_per_token": "2.5e-06",
        "output_cost_per_token": "0.000010",
        "cache_read_input_token_cost": "1.25e-6",
    }


def test_parse_gives_deployments_stable_and_unique_ids() -> None:
    def ids(*entries: str) -> list[str]:
        return [model.deployment_id for model in read("model_list:\n" + "".join(entries)).model_list]

    one = "  - {model_name: m, llm_params: {model: openai/a, api_key: k1}}\n"
    two = "  - {model_name: m, llm_params: {model: openai/a, api_key: k2}}\n"
    other = "  - {model_name: m, llm_params: {model: openai/b}}\n"
    assert ids(one) == ids(two)
    assert ids(one, other, two) == [ids(one)[0], ids(other)[0], ids(one)[0] + "-2"]
    same = "  - {model_name: m, llm_params: {model: openai/a}, model_info: {id: x}}\n"
    assert any("ids are unique" in mistake for mistake in mistakes("model_list:\n" + same + same))


def test_parse_warns_of_known_keys_without_effect_with_their_line() -> None:
    config = read(
        params("extra_headers: {a: b}\n      input_cost_per_token_priority: 1")
        + "litellm_settings:\n  drop_params: true\n  callbacks: [x]\ngeneral_settings:\n  alerting: [slack]\n"
        + "router_settings:\n  cooldown_time: 5\nenvironment_variables: {A: b}\n"
    )
    assert [warning.partition(": ")[2].partition(": ")[0] for warning in config.warnings] == [
        "model_list[0].llm_params.extra_headers",
        "model_list[0].llm_params.input_cost_per_token_priority",
        "litellm_settings.drop_params",
        "litellm_settings.callbacks",
        "general_settings.alerting",
        "router_settings.cooldown_time",
        "environment_variables",
    ]
    lines = [int(warning.split(":")[1]) for warning in config.warnings]
    assert lines == [5, 6, 8, 9, 11, 13, 14]


def test_parse_of_all_settings_reads_each() -> None:
    config = read(
        MODEL.replace(
            "{model: openai/gpt-4o}",
            "{model: openai/a/b, weight: 2.5, rpm: 1_000, tpm: 5, order: 1, timeout: 30s, stream_timeout: 500ms}",
        )
        + "  - {model_name: n, llm_params: {model: openai/n}}\n"
        + """
general_settings:
  master_key: os.environ/KEY
  database_url: postgres://u:p@h/d
  data_dir: /srv/data
  durability: every_chunk
  on_disconnect: cancel
  drain_timeout_s: 10m
  ledger_wait_s: 1.5
  max_request_size_mb: 3
  max_answer_bytes: 10 MB
  buffer_bytes: 32MiB
  journal_max_age_s: 1h
router_settings:
  {num_retries: 1, retry_after: 2, fallbacks: [{m: [n]}], max_fallbacks: 3, routing_strategy: simple-shuffle}
litellm_settings: {num_retries: 7, request_timeout: 60, default_fallbacks: [m]}
"""
    )
    [model, _] = config.model_list
    assert (model.upstream_model, model.weight, model.rpm, model.tpm, model.order) == ("a/b", 2.5, 1000, 5, 1)
    assert (model.timeout_s, model.stream_timeout_s) == (30.0, 0.5)
    general = config.general
    assert (general.master_key, general.database_url, general.data_dir) == (
        "sk-other",
        "postgres://u:p@h/d",
        Path("/srv/data"),
    )
    assert (general.durability, general.on_disconnect, general.drain_timeout_s) == ("every_chunk", "cancel", 600.0)
    assert (general.ledger_wait_s, general.max_request_bytes, general.max_answer_bytes) == (1.5, 3 << 20, 10_000_000)
    assert (general.buffer_bytes, general.call_buffer_bytes, general.journal_max_age_s) == (32 << 20, 8 << 20, 3600.0)
    router = config.router
    assert (router.num_retries, router.retry_after_s, router.max_fallbacks) == (1, 2.0, 3)
    assert (dict(router.fallbacks), router.default_fallbacks) == ({"m": ("n",)}, ("m",))
    assert config.llm.request_timeout_s == 60.0
    assert config.warnings == ()
    for secret in ("sk-other", "u:p@h", "sk-from-environment"):
        assert secret not in repr(config)


@pytest.mark.parametrize(
    ("section", "requires_key"),
    [
        ("", True),
        ("general_settings: {metrics_require_key: false}", False),
        ("litellm_settings: {require_auth_for_metrics_endpoint: false}", False),
        ("litellm_settings: {require_auth_for_metrics_endpoint: true}", True),
        ("general_settings: {lease_s: 20}\nllm_settings: {require_auth_for_metrics_endpoint: false}", False),
    ],
)
def test_parse_takes_who_may_read_metrics_in_litellms_words_too(section: str, *, requires_key: bool) -> None:
    config = read(MODEL + section)
    assert config.general.metrics_require_key is requires_key
    assert config.warnings == ()


def test_parse_follows_anchors_and_merges() -> None:
    config = read(
        "model_list:\n  - model_name: a\n    llm_params: &p {model: openai/a, rpm: 1}\n"
        "  - model_name: b\n    llm_params: {<<: *p, rpm: 2}\n"
    )
    assert [(model.upstream_model, model.rpm) for model in config.model_list] == [("a", 1), ("a", 2)]


def test_load_of_a_missing_file_names_it(tmp_path: Path) -> None:
    for path in (tmp_path / "absent.yaml", tmp_path):
        with pytest.raises(ConfigError, match="the config file cannot be read") as caught:
            load(path, {})
        assert str(path) in str(caught.value)


def test_load_of_the_example_needs_no_environment() -> None:
    config = load(ROOT / "examples" / "config.yaml", {})
    [model] = config.model_list
    assert model.model_name == "gpt-4o"
    assert model.mock_response
    assert "\n" not in model.mock_response
    assert config.warnings == ()
    assert len(config.sha256) == 64


def test_load_of_the_example_with_its_settings_uncommented_is_valid() -> None:
    text = (ROOT / "examples" / "config.yaml").read_text()
    head, models, rest = text.partition("  # - model_name")
    settings = re.sub(r"(?m)^( *)# ( *)(?:# )?", r"\1\2", models + rest)
    environ = {"OPENAI_API_KEY": "k", "LLM_MASTER_KEY": "sk-12345", "DATABASE_URL": "postgres://h"}
    config = read(head + settings, environ)
    assert [model.model_name for model in config.model_list] == ["gpt-4o", "gpt-4o-mini"]
    assert config.model_list[1].prices == {"input_cost_per_token": "0.00000015", "output_cost_per_token": "0.0000006"}
    assert config.router.fallbacks["gpt-4o"] == ("gpt-4o-mini",)
    assert config.general.master_key == "sk-12345"
