"""examples/prometheus: the alerts name metrics and labels that there are, and docs/OPERATING.md describes each."""

import re
from typing import Any

import yaml

from api.metrics.cells import Cells
from api.metrics.exposition import exposition
from api.metrics.layout import REFUSALS, Layout
from ledger.projections.lag import Lag
from tests.support.documents import ROOT

EXAMPLES = ROOT / "examples" / "prometheus"


def _alerts() -> list[dict[str, Any]]:
    (group,) = yaml.safe_load((EXAMPLES / "alerts.yaml").read_text())["groups"]
    return group["rules"]


def test_alerts_ask_for_metrics_that_are_told() -> None:
    cells = Cells(Layout(["m"]))
    told = exposition(cells.layout, cells.readings(), [Lag("spend", 0, 0.0, 0)]).decode()
    names = set(re.findall(r"^# TYPE (\w+)", told, re.MULTILINE))
    asked = {name for alert in _alerts() for name in re.findall(r"responses_ledger_\w+", alert["expr"])}
    assert len(asked) > 6
    assert not asked - names
    assert 'status="503"' in _alerts()[1]["expr"]
    assert "503" in REFUSALS


def test_alerts_are_described_and_say_what_to_look_at() -> None:
    text = (ROOT / "docs" / "OPERATING.md").read_text()
    described = set(re.findall(r"^\| `(Ledger\w+)` \|", text, re.MULTILINE))
    assert {alert["alert"] for alert in _alerts()} == described
    assert all(alert["annotations"]["summary"] for alert in _alerts())


def test_scrape_config_names_the_rules_and_the_job_that_alerts_ask_for() -> None:
    config = yaml.safe_load((EXAMPLES / "prometheus.yaml").read_text())
    (job,) = config["scrape_configs"]
    assert config["rule_files"] == ["alerts.yaml"]
    assert f'up{{job="{job["job_name"]}"}}' in _alerts()[0]["expr"]
    assert job["authorization"]["type"] == "Bearer"
