"""A start with a faulty config: all of its faults on standard error, nothing else anywhere, exit status 1."""

import subprocess
import sys
from pathlib import Path

FAULTY = Path(__file__).resolve().parents[2] / "unit" / "api" / "faulty_configs"


def test_start_with_a_faulty_config_prints_its_faults_to_standard_error_and_ends(tmp_path: Path) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "api.cli", "--config", str(FAULTY / "several.yaml"), "--port", "0"],
        env={"PATH": "/usr/bin:/bin", "LLM_DATA_DIR": str(tmp_path / "data")},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert ended.returncode == 1
    assert ended.stdout == ""
    assert ended.stderr.replace(f"{FAULTY}/", "") == (FAULTY / "several.txt").read_text()
    assert not (tmp_path / "data").exists()
