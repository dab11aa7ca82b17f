"""The scripts on bad ground: a path with a space, no HOME, no write permission, two at once, no Python.

They run in a small stand-in for the checkout whose lock files name no package, so that nothing needs a network; what
they start is a stub that says how it was started.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support.postgres import reachable_directory

ROOT = Path(__file__).resolve().parents[2]
STUB = """
import json, os, sys
print(json.dumps({"argv": sys.argv[1:], "cwd": os.getcwd(), "prefix": sys.prefix, "path": sys.path}))
"""
BASE_PYTHON = Path(sys.base_prefix) / "bin"


def clean_environment(**more: str) -> dict[str, str]:
    return {"PATH": f"{BASE_PYTHON}:/usr/local/bin:/usr/bin:/bin", "PIP_NO_INDEX": "1", **more}


def make_checkout(directory: Path) -> Path:
    checkout = directory / "a check out"
    shutil.copytree(ROOT / "scripts", checkout / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (checkout / "api").mkdir()
    (checkout / "api" / "__init__.py").touch()
    (checkout / "api" / "cli.py").write_text(STUB)
    for lock in ("requirements.lock", "requirements-dev.lock"):
        (checkout / lock).write_text("# no packages\n")
    for path in (checkout, *checkout.rglob("*")):
        path.chmod(0o755 if path.is_dir() or os.access(path, os.X_OK) else 0o644)
    return checkout


def run(checkout: Path, *arguments: str, cwd: str = "/", **more: Any) -> subprocess.CompletedProcess[str]:
    more.setdefault("env", clean_environment())
    command = [str(checkout / "scripts" / "run"), *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, cwd=cwd, timeout=240, **more)


def answer(done: subprocess.CompletedProcess[str]) -> dict[str, Any]:
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.fixture
def checkout() -> Any:
    directory = reachable_directory()
    yield make_checkout(directory)
    shutil.rmtree(directory)


def test_run_on_a_fresh_checkout_makes_an_environment_once_and_passes_its_arguments(checkout: Path) -> None:
    first = run(checkout, "--port", "4 000", cwd="/tmp", env=clean_environment(PYTHONPATH="/elsewhere", PIP_USER="1"))  # noqa: S108 - any directory but the checkout
    told = answer(first)
    assert "making" in first.stderr
    assert told["argv"] == ["--config", f"{checkout}/examples/config.yaml", "--port", "4 000"]
    assert told["cwd"] == "/tmp"  # noqa: S108 - see above
    assert told["prefix"] == f"{checkout}/.venv"
    assert told["path"][0] == str(checkout)
    assert "/elsewhere" not in told["path"]

    second = run(checkout)
    assert answer(second)["prefix"] == f"{checkout}/.venv"
    assert second.stderr == ""

    (checkout / "requirements.lock").write_text("# another lock\n")
    third = run(checkout)
    assert "installing requirements.lock" in third.stderr
    assert "making" not in third.stderr


def test_run_after_an_interrupted_installation_starts_over(checkout: Path) -> None:
    python = checkout / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.symlink_to("/nonexistent/python")
    done = run(checkout)
    assert answer(done)["prefix"] == f"{checkout}/.venv"
    assert "making" in done.stderr


def test_two_runs_at_once_make_one_environment(checkout: Path) -> None:
    command = [str(checkout / "scripts" / "run")]
    pair = [
        subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=clean_environment(), cwd="/"
        )
        for _ in range(2)
    ]
    said = [process.communicate(timeout=240) for process in pair]
    assert [process.returncode for process in pair] == [0, 0], said
    assert sum("making" in stderr for _, stderr in said) == 1


def test_run_with_a_lock_that_cannot_be_installed_fails_and_leaves_no_stamp(checkout: Path) -> None:
    (checkout / "requirements.lock").write_text(f"no-such-package==1.0 --hash=sha256:{'0' * 64}\n")
    for _ in range(2):
        done = run(checkout)
        assert done.returncode != 0
        assert "cannot install requirements.lock" in done.stderr
        assert "Traceback" not in done.stderr
        assert done.stdout == ""


def test_run_without_a_new_enough_python_says_which_is_needed(checkout: Path, tmp_path: Path) -> None:
    for program in ("sh", "dirname"):
        (tmp_path / program).symlink_to(shutil.which(program) or f"/bin/{program}")
    old = tmp_path / "python3"
    old.write_text("#!/bin/sh\ncase $1 in --version) echo Python 3.9.2 ;; *) exit 1 ;; esac\n")
    old.chmod(0o755)
    done = run(checkout, env={"PATH": str(tmp_path)})
    assert done.returncode != 0
    assert "Python 3.11 or later" in done.stderr
    assert "Python 3.9.2" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody who may not write the checkout")
def test_run_in_a_checkout_of_somebody_else_puts_the_environment_into_the_users_data(checkout: Path) -> None:
    home = checkout.parent / "data"
    home.mkdir()
    os.chown(home, 65_534, 65_534)
    environment = {**clean_environment(XDG_DATA_HOME=str(home)), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    found = subprocess.run(
        ["sh", "-c", "python3 -I -c 'import ensurepip, sys; assert sys.version_info >= (3, 11)'"],
        check=False,
        env=environment,
        user=65_534,
        capture_output=True,
    )
    if found.returncode:
        pytest.skip("no Python >= 3.11 with ensurepip that an ordinary user can run on this machine")
    told = answer(run(checkout, env=environment, user=65_534, group=65_534, extra_groups=[]))
    assert told["prefix"].startswith(f"{home}/responses-ledger/venv-")
    assert not (checkout / ".venv").exists()


def test_postgres15_script_without_postgres_15_says_so_and_counts_as_skipped() -> None:
    done = subprocess.run(
        [str(ROOT / "scripts" / "test-postgres15")],
        check=False,
        capture_output=True,
        text=True,
        env=clean_environment(PG15_BIN="/nonexistent"),
    )
    assert done.returncode == 77
    assert "no Postgres 15 in /nonexistent" in done.stderr
