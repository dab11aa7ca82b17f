"""Whatever the file holds, the loader returns a config or a `ConfigError`, and never takes long."""

from hypothesis import given, settings
from hypothesis import strategies as st

from api.config import Config, ConfigError, parse

WORDS = st.sampled_from(
    """model_list model_name llm_params litellm_params model api_key api_base rpm timeout mock_response model_info id
    general_settings router_settings llm_settings fallbacks durability lease_s openai/gpt-4o gpt-4o m os.environ/KEY
    os.environ/NO 5 0.5 10m 64MiB 2.5e-06 true null x""".split()  # noqa: SIM905 - a list of words reads better as words
)
MARKS = st.sampled_from(
    [": ", "\n", "\n  ", "\n  - ", "\n    ", "- ", "{", "}", "[", "]", ", ", "&a ", "*a", "<<: ", "!x "]
)
TEXTS = st.lists(WORDS | MARKS | st.text(max_size=2), max_size=40).map("".join)
SCALARS = WORDS | st.integers().map(str) | st.sampled_from(["[]", "{}", "~", "'", "a: b"])


def outcome(data: bytes) -> Config | ConfigError:
    try:
        return parse(data, "c.yaml", {"KEY": "k"})
    except ConfigError as error:
        return error


@settings(deadline=None)
@given(TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")) | st.binary(max_size=60))
def test_parse_of_any_bytes_gives_a_config_or_mistakes(data: bytes) -> None:
    result = outcome(data)
    if isinstance(result, Config):
        assert result.model_list
    else:
        assert result.mistakes
        assert all(mistake.file == "c.yaml" and mistake.line >= 0 for mistake in result.mistakes)


@settings(deadline=None)
@given(st.dictionaries(WORDS, SCALARS, max_size=6), st.dictionaries(WORDS, SCALARS, max_size=6))
def test_parse_of_any_settings_names_the_line_of_each_mistake(params: dict[str, str], general: dict[str, str]) -> None:
    lines = ["model_list:", "- model_name: m", "  llm_params:", "    model: openai/a", "    api_key: k"]
    lines += [f"    {key}: {value}" for key, value in params.items() if key not in {"model", "api_key"}]
    lines += ["general_settings:", *[f"  {key}: {value}" for key, value in general.items()]]
    result = outcome("\n".join(lines).encode())
    if isinstance(result, ConfigError):
        for mistake in result.mistakes:
            key = mistake.path.rpartition(".")[2].partition("[")[0]
            is_absent = "expected beside" in mistake.message  # named at the mapping that lacks it
            assert not mistake.line or is_absent or not key or key in lines[mistake.line - 1]
