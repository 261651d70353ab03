"""docker-compose.yml serves exactly the variants, each hardened. By inspection; containers run in another test."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from apps.variants import VARIANTS
from harness.scenarios import available, load
from harness.serve import services

ROOT = Path(__file__).resolve().parents[1]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
BESIDE = {"load": "load", "load-worker": "load", "postgres": "database"}  # service → the profile that it needs


def test_services_are_the_variants() -> None:
    assert list(SERVICES) == [*VARIANTS, *BESIDE]
    assert {name: profile for name in SERVICES for profile in SERVICES[name].get("profiles", ())} == BESIDE


@pytest.mark.parametrize("name", VARIANTS)
def test_command_is_the_one_that_a_person_would_type(name: str) -> None:
    assert SERVICES[name]["command"] == f"python -m apps {name} --host 0.0.0.0 --port 8000"


@pytest.mark.parametrize("name", SERVICES)
def test_service_is_hardened(name: str) -> None:
    service = SERVICES[name]
    assert service["user"].split(":")[0] not in {"", "0", "root"}
    assert service["read_only"] is True
    assert any(mount.startswith("/tmp:") for mount in service["tmpfs"])
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert {"mem_limit", "memswap_limit", "cpus", "cpuset", "pids_limit", "ulimits"} <= service.keys()
    assert not {"ports", "privileged", "cap_add", "volumes", "devices", "network_mode", "pid", "ipc"} & service.keys()
    assert service["networks"] == ["bench"]
    assert {"gatebench.role", "gatebench.run"} <= service["labels"].keys()
    assert "healthcheck" not in service, "one a second costs 7 % of a CPU, and shows up in the target's own"


@pytest.mark.parametrize("name", VARIANTS)
def test_limits_leave_room_for_the_budget(name: str) -> None:
    budget, service = VARIANTS[name].budget, SERVICES[name]
    # more than any shipped scenario's connections, and no more than the hard limit of some engines, 20 000: they could
    # not start it; a run with a budget of 20 000 connections is held to fewer by its files, on such an engine as here
    most = max(one.connections for name in available() for one in load([name]))
    assert most + 1_000 < service["ulimits"]["nofile"] == 16_384
    # some servers have a thread for each connection, of which all scenarios that ask them open 4 096 at most
    assert service["pids_limit"] > max(budget.processes * budget.threads, 4096) + 16


def test_a_variant_is_added_by_its_row_and_make_services() -> None:
    text = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    assert services.written(text, VARIANTS) == text, "run `make services`"
    added = yaml.safe_load(services.written(text, [*VARIANTS, "another"]))["services"]
    assert list(added) == [*VARIANTS, "another", *BESIDE]
    assert services.written(services.written(text, ["another"]), VARIANTS) == text


def test_network_is_internal() -> None:
    assert COMPOSE["networks"]["bench"]["internal"] is True


def test_image_is_pinned_by_hashes_and_runs_as_a_plain_user() -> None:
    text = (ROOT / "Dockerfile").read_text()
    bases = {line.split()[1] for line in text.splitlines() if line.startswith("FROM ")}
    assert bases == {"python:3.13-slim-trixie", "server"}
    installs = re.findall(r"pip install .*", text)
    assert [install.split()[-1] for install in installs] == ["requirements.lock", "requirements-all.lock"]
    assert all("--require-hashes" in install for install in installs)
    user = re.findall(r"^USER (\S+)$", text, re.MULTILINE)[-1]
    assert {name for name, service in SERVICES.items() if service["user"] != user} == {"postgres"}, "has its own"
    assert text.rindex("USER ") > text.rindex("RUN "), "nothing runs as root after the image is built"


def test_build_context_has_no_more_than_it_needs() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    rules = [line for line in lines if line and not line.startswith("#")]
    assert rules[0] == "*"
    assert {rule[1:] for rule in rules if rule.startswith("!")} == {
        "requirements.lock",
        "requirements-all.lock",
        "apps",
        "harness",
        "scenarios",
    }


def test_servers_and_load_generator_have_cpus_apart() -> None:
    assert {SERVICES[name]["cpuset"] for name in VARIANTS} == {"${GATEBENCH_SERVER_CPUS:-0}"}
    assert {SERVICES[name]["cpuset"] for name in ("load", "load-worker")} == {"${GATEBENCH_LOAD_CPUS:-1}"}


def test_the_load_generator_is_a_master_and_its_workers() -> None:
    words = SERVICES["load"]["command"].split()
    assert words[:4] == ["python", "-m", "harness", "load"]
    assert words[-4:] == ["--workers", "${GATEBENCH_WORKERS:-2}", "--bind", "0.0.0.0"]
    assert SERVICES["load-worker"]["command"] == "python -m harness load-worker --master load"
    assert {SERVICES[name]["build"]["target"] for name in ("load", "load-worker")} == {"load"}
    assert {SERVICES[name]["build"]["target"] for name in VARIANTS} == {"server"}
