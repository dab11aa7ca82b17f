"""Configs with a fault each, and exactly what is printed of it: faulty_configs/NAME.yaml beside NAME.txt.

In the messages the file is called by its name alone. What else is a fault, down to the single key, is in
`test_config.py`; how the command line ends is in tests/integration/cli/test_faulty_config.py.
"""

from pathlib import Path

import pytest

from api.config import ConfigError, load
from api.config_nodes import FILE_BYTES_MAX

FAULTY = Path(__file__).parent / "faulty_configs"
FILES = sorted(FAULTY.glob("*.yaml"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_faulty_config_is_named_with_file_line_key_and_what_was_expected(file: Path) -> None:
    with pytest.raises(ConfigError) as caught:
        load(file, {"KEY": "s3cret-of-the-environment"})
    printed = str(caught.value).replace(f"{FAULTY}/", "") + "\n"
    assert printed == file.with_suffix(".txt").read_text()
    assert "s3cret" not in printed


def test_every_expectation_has_its_config() -> None:
    assert {file.stem for file in FAULTY.glob("*.txt")} == {file.stem for file in FILES}
    assert len(FILES) > 20


def test_models_that_fall_back_to_each_other_are_no_fault(tmp_path: Path) -> None:
    # The fallbacks of a fallback are not followed: there is no circle to run in.
    entry = "  - {{model_name: {0}, llm_params: {{model: openai/{0}, api_key: sk-12345678}}}}\n"
    text = (
        "model_list:\n" + entry.format("a") + entry.format("b") + "router_settings: {fallbacks: [{a: [b]}, {b: [a]}]}\n"
    )
    (tmp_path / "c.yaml").write_text(text)
    assert dict(load(tmp_path / "c.yaml", {}).router.fallbacks) == {"a": ("b",), "b": ("a",)}


def test_config_that_is_no_readable_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "large.yaml").write_bytes(b"#" * (FILE_BYTES_MAX + 1))
    (tmp_path / "a_link_to_itself").symlink_to(tmp_path / "a_link_to_itself")
    for name, said in {
        "missing.yaml": "No such file or directory",
        ".": "Is a directory",
        "a_link_to_itself": "Too many levels of symbolic links",
        "large.yaml": "larger than",
        "missing.yaml/below": "No such file or directory",
    }.items():
        with pytest.raises(ConfigError) as caught:
            load(tmp_path / name, {})
        assert said in str(caught.value)
        assert name in str(caught.value) or name == "."


def test_config_of_100_megabytes_is_refused_without_being_read(tmp_path: Path) -> None:
    with (tmp_path / "sparse.yaml").open("wb") as file:
        file.truncate(100 * 1024 * 1024)
    with pytest.raises(ConfigError, match="larger than"):
        load(tmp_path / "sparse.yaml", {})
