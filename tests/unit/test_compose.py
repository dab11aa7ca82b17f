"""docker-compose.yml and the Dockerfile say what a deployment needs; checked without a Docker engine."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
SECRETS = {"POSTGRES_PASSWORD": "pw", "LLM_MASTER_KEY": "sk-test"}


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    return yaml.safe_load((ROOT / "docker-compose.yml").read_text())


def test_services_are_a_database_a_migration_and_a_proxy(compose: dict[str, Any]) -> None:
    assert set(compose["services"]) == {"postgres", "migrate", "proxy"}
    assert compose["services"]["postgres"]["image"].startswith("postgres:18")
    assert compose["services"]["migrate"]["command"] == ["ledger", "migrate"]


def test_proxy_waits_for_a_healthy_database_and_a_finished_migration(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert services["proxy"]["depends_on"] == {
        "postgres": {"condition": "service_healthy"},
        "migrate": {"condition": "service_completed_successfully"},
    }
    assert services["migrate"]["restart"] == "no"
    assert services["migrate"]["healthcheck"] == {"disable": True}
    for name in ("postgres", "proxy"):
        assert services[name]["healthcheck"]["test"], name


def test_data_of_postgres_18_lies_on_a_named_volume_at_its_new_place(compose: dict[str, Any]) -> None:
    mounts = [mount.split(":") for mount in compose["services"]["postgres"]["volumes"]]
    assert mounts == [["postgres", "/var/lib/postgresql"]]
    used = {mount.split(":")[0] for service in compose["services"].values() for mount in service.get("volumes", [])}
    assert {name for name in used if not name.startswith(".")} == set(compose["volumes"])


def test_secrets_come_from_the_environment_and_have_no_default(compose: dict[str, Any]) -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    for name in SECRETS:
        uses = re.findall(r"\$\{" + name + r"([^}]*)\}", text)
        assert uses, name
        assert all(use.startswith(":?") for use in uses), name
    environment = compose["services"]["proxy"]["environment"]
    assert environment["OPENAI_API_KEY"] == "${OPENAI_API_KEY:-}"
    assert "@postgres:5432/" in environment["DATABASE_URL"]


def test_containers_are_given_longer_to_stop_than_the_proxys_grace(compose: dict[str, Any]) -> None:
    assert int(compose["services"]["proxy"]["stop_grace_period"].removesuffix("s")) > 25


def test_every_file_that_the_dockerfile_copies_passes_the_dockerignore() -> None:
    copied = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), flags=re.MULTILINE)
    allowed = set(re.findall(r"^!(.+)$", (ROOT / ".dockerignore").read_text(), flags=re.MULTILINE))
    assert {source for sources in copied for source in sources.split()} <= allowed
    for bind in yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["proxy"]["volumes"]:
        if bind.startswith("./"):
            assert bind.split(":")[0].removeprefix("./") in allowed


def test_image_does_not_run_as_root_and_installs_by_hash() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"^USER (\d+):\d+$", text, flags=re.MULTILINE) == ["10001"]
    assert "--require-hashes -r requirements.lock" in text


def test_docker_compose_itself_accepts_the_file() -> None:
    docker = shutil.which("docker")
    if docker is None or subprocess.run([docker, "compose", "version"], check=False, capture_output=True).returncode:
        pytest.skip("no docker client with the compose plugin on this machine")
    command = [docker, "compose", "-f", str(ROOT / "docker-compose.yml"), "config", "--quiet"]
    environment = {"PATH": "/usr/bin:/bin:/usr/local/bin", "HOME": "/nonexistent"}
    accepted = subprocess.run(command, check=False, capture_output=True, text=True, env={**environment, **SECRETS})
    assert accepted.returncode == 0, accepted.stderr
    refused = subprocess.run(command, check=False, capture_output=True, text=True, env=environment)
    assert refused.returncode != 0
    assert "POSTGRES_PASSWORD" in refused.stderr
