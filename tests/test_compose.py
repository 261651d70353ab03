"""docker-compose.yml serves exactly the variants, each hardened. By inspection; containers run in another test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from apps.variants import VARIANTS

ROOT = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]


def test_services_are_the_variants() -> None:
    assert list(SERVICES) == list(VARIANTS)


@pytest.mark.parametrize("name", VARIANTS)
def test_command_is_the_one_that_a_person_would_type(name: str) -> None:
    assert SERVICES[name]["command"] == f"python -m apps {name} --host 0.0.0.0 --port 8000"


@pytest.mark.parametrize("name", VARIANTS)
def test_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["user"].split(":")[0] not in {"", "0", "root"}
    assert service["read_only"] is True
    assert any(mount.startswith("/tmp") for mount in service["tmpfs"])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "memswap_limit", "cpus", "pids_limit"} <= service.keys()
    assert not {"ports", "privileged", "cap_add", "volumes", "devices", "network_mode", "pid", "ipc"} & service.keys()
    assert service["networks"] == ["bench"]
    assert {"gatebench.role", "gatebench.run"} <= service["labels"].keys()
    assert "start_interval" not in service.get("healthcheck", {}), "engines before 25 refuse it"


@pytest.mark.parametrize("name", VARIANTS)
def test_limits_leave_room_for_the_budget(name: str) -> None:
    budget, service = VARIANTS[name].budget, SERVICES[name]
    assert service["ulimits"]["nofile"] > (budget.worker_connections or 0) + 1_000
    assert service["pids_limit"] > budget.processes * budget.threads + 16


def test_servers_that_hold_a_thread_for_each_connection_have_room_for_them() -> None:
    assert SERVICES["mod-wsgi"]["pids_limit"] > (VARIANTS["mod-wsgi"].budget.worker_connections or 0) + 64
    assert SERVICES["werkzeug"]["pids_limit"] >= 4096
    others = {service["pids_limit"] for name, service in SERVICES.items() if name not in {"mod-wsgi", "werkzeug"}}
    assert others == {256}


def test_network_is_internal() -> None:
    assert COMPOSE["networks"]["bench"]["internal"] is True


def test_image_is_pinned_by_hashes_and_runs_as_a_plain_user() -> None:
    text = (ROOT / "Dockerfile").read_text()
    assert {line.split()[1] for line in text.splitlines() if line.startswith("FROM ")} == {"python:3.13-slim-trixie"}
    installs = re.findall(r"pip install .*", text)
    assert [install.split()[-1] for install in installs] == ["requirements.lock", "requirements-all.lock"]
    assert all("--require-hashes" in install for install in installs)
    user = re.findall(r"^USER (\S+)$", text, re.MULTILINE)[-1]
    assert all(service["user"] == user for service in SERVICES.values())
    assert text.rindex("USER ") > text.rindex("RUN "), "nothing runs as root after the image is built"


def test_build_context_has_no_more_than_it_needs() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == {
        "requirements.lock",
        "requirements-all.lock",
        "apps",
    }
