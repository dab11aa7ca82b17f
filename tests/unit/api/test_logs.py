"""The log: no secrets in any line, whatever is logged, in both formats; access lines that cannot be forged."""

import json
import logging
import re
from collections.abc import Iterator
from decimal import Decimal

import pytest

from api.access_log import FIELDS, AccessLog
from api.config import parse
from api.logs import OWN, Guard, follow_config, secrets_of
from ledger.money.cost import Charge
from tests.support.outcomes import outcome

CONFIG = b"""
model_list:
  - {model_name: gpt-5, llm_params: {model: openai/gpt-5, api_key: upstream-key-of-mine}}
general_settings: {log_format: %s, log_level: debug}
"""
MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
URL = "postgresql://app:pass%2Fword-1@db/book"


@pytest.fixture(autouse=True)
def former_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    for name in OWN:
        logging.getLogger(name).setLevel(logging.NOTSET)


@pytest.mark.parametrize("log_format", ["text", "json"])
def test_line_holds_no_secret_in_message_arguments_or_trace(
    log_format: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = parse(CONFIG % log_format.encode(), "c.yaml", {})
    follow_config(config, URL, "the-master-key")
    logger = logging.getLogger("api.somewhere")
    try:
        int("upstream-key-of-mine")
    except ValueError:
        logger.exception("with %s and %s", "the-master-key", {"key": "sk-proj-abc_DEF-123456"})
    logger.debug("reached postgresql://app:pass%%2Fword-1@db/book or pass/word-1")
    logging.getLogger("sqlalchemy.engine").info("a row of somebody")
    told = capsys.readouterr().err
    for secret in ("upstream-key", "the-master-key", "sk-proj", "word-1", "somebody"):
        assert secret not in told
    assert "Traceback" in told
    assert "[secret]" in told
    lines = told.splitlines()
    if log_format == "json":
        first, second = map(json.loads, lines)
        assert (first["level"], first["logger"], second["level"]) == ("ERROR", "api.somewhere", "DEBUG")
        assert MOMENT.fullmatch(first["time"])
    else:
        moment, level, _ = lines[0].split(" ", 2)
        assert MOMENT.fullmatch(moment)
        assert level == "ERROR"


def test_secrets_of_a_config_are_its_keys_and_the_databases_password() -> None:
    config = parse(CONFIG % b"text", "c.yaml", {})
    assert set(secrets_of(config, URL, "the-master-key")) == {
        "the-master-key",
        "upstream-key-of-mine",
        "pass%2Fword-1",
        "pass/word-1",
    }


def test_guard_leaves_words_alone_that_only_resemble_secrets() -> None:
    guard = Guard()
    guard.learn(["short", "a-long-secret", "a-long-secret-and-more"])
    assert guard.clean("short task-force a-long-secret-and-more.") == "short task-force [secret]."


@pytest.mark.parametrize("log_format", ["text", "json"])
async def test_access_line_says_how_a_call_went_on_one_line(log_format: str) -> None:
    told: list[str] = []
    log = AccessLog(log_format, told.append)
    charge = Charge("billed", billed_usd=Decimal("0.00001500"))
    log.ended(outcome('gpt-5\n2026 INFO forged "', charge=charge, first_chunk_us=None))
    log.ended(outcome("sk-key-sent-as-a-model"))
    assert told == []
    log.flush()
    first, second = told[0].splitlines()
    assert "sk-key" not in second
    if log_format == "json":
        line = json.loads(first)
        assert [name for name in line if name in FIELDS] == list(FIELDS)
        assert line["model"] == 'gpt-5\n2026 INFO forged "'
        assert (line["cost_state"], line["cost_usd"], line["first_chunk_us"]) == ("billed", "0.000015", None)
        assert json.loads(second)["cost_usd"] is None
    else:
        assert 'model="gpt-5\\n2026 INFO forged \\"" deployment="d" stream=true status=200' in first


def test_json_logs_of_litellm_are_honoured() -> None:
    data = CONFIG % b"text" + b"litellm_settings: {json_logs: true}\n"
    config = parse(data, "c.yaml", {})
    assert config.log_format == "json"
    assert not config.warnings
