"""Variants as containers: hardened, limited, reached on their own address, removed. Needs a Docker engine."""

from __future__ import annotations

import json
import os
import subprocess
import time
import uuid
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from apps.variants import VARIANTS
from harness import conformance
from harness.errors import EnvironmentFault, ServerFailed
from harness.serve import compose
from harness.serve.backends import BACKENDS, Wishes, fate, watched
from harness.serve.compose import LABEL, MB, NETWORK, Contained, Project, docker
from harness.serve.process import identity
from tests.gate import wait_for

pytestmark = pytest.mark.slow

CPU = frozenset({0})


def inspected(server: Contained) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(docker("container", "inspect", server.container.id))[0]
    return found


@pytest.mark.parametrize("name", ["wsgi-sync", "wsgi-threads", "wsgi-gevent", "asgi"])
def test_a_variant_in_a_container_conforms_and_is_gone_afterwards(project: Project, logs: Path, name: str) -> None:
    variant = VARIANTS[name]
    with project.serve(variant, cpus=CPU, folder=logs) as server:
        assert not conformance.refusals(conformance.check(server.address, variant, server.token))
        assert server.alive()
        used = server.usage()
        assert used is not None
        assert used.cpu_s > 0
        assert used.processes is not None
        assert used.processes >= variant.budget.processes
        assert watched(server) == server.usage
        container = server.container.id
    assert (logs / f"{name}.log").is_file()
    with pytest.raises(EnvironmentFault, match="No such container"):
        docker("container", "inspect", container)


def test_a_container_is_hardened_and_held_to_its_limits(project: Project, logs: Path) -> None:
    with project.serve(VARIANTS["asgi"], cpus=CPU, folder=logs, memory_mb=256) as server:
        found = inspected(server)
        network = json.loads(docker("network", "inspect", f"{project.name}_{NETWORK}"))[0]
        listening = docker("exec", server.container.id, "python", "-c", "import os; print(os.sched_getaffinity(0))")
    host, config = found["HostConfig"], found["Config"]
    assert config["User"].split(":")[0] not in {"", "0", "root"}
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert not host["CapAdd"]
    assert host["Privileged"] is False
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] == host["MemorySwap"] == 256 * MB
    assert host["PidsLimit"] > 0
    assert (host["CpusetCpus"], host["NanoCpus"]) == ("0", 1_000_000_000)
    assert listening.strip() == "{0}"
    assert not host["PortBindings"]
    assert not any((found["NetworkSettings"]["Ports"] or {}).values())
    assert host["RestartPolicy"]["Name"] in {"", "no"}
    assert not host["Binds"]
    assert config["Labels"][LABEL] == network["Labels"][LABEL] == project.run
    assert network["Internal"] is True
    assert list(found["NetworkSettings"]["Networks"]) == [f"{project.name}_{NETWORK}"]


def test_a_container_reaches_nothing_but_its_network(project: Project, logs: Path) -> None:
    code = "import socket; socket.create_connection(('192.0.2.1', 80), timeout=2)"
    refused = "unreachable|timed out"  # by the absence of a route, or by the engine's filter
    with project.serve(VARIANTS["asgi"], folder=logs) as server, pytest.raises(EnvironmentFault, match=refused):
        docker("exec", server.container.id, "python", "-c", code)


def test_the_lens_decides_the_budget_in_the_command(project: Project, logs: Path) -> None:
    row = VARIANTS["wsgi-threads"]
    wide = replace(row, budget=replace(row.budget, slots=300))
    with project.serve(wide, cpus=CPU, folder=logs) as server:
        found = inspected(server)
        findings = conformance.check(server.address, row, server.token, full=False)
    assert "--budget" in found["Config"]["Cmd"]
    assert "slots=300" in found["Config"]["Cmd"]
    assert found["HostConfig"]["PidsLimit"] > 300
    assert not conformance.refusals(findings)


def test_a_quota_shows_as_throttling(project: Project, logs: Path) -> None:
    burn = {
        "image": project.facts["image"],
        "pull_policy": "never",
        "command": ["python", "-c", "while True: pass"],
        "cpus": 0.2,
    }
    used = throttled = 0.0
    with project.running("burn", burn, {}, logs / "burn.log") as container:
        for _ in range(5):  # others who hold its CPU leave less to be held back: noise makes both smaller, never larger
            before, began = container.usage(), time.monotonic()
            time.sleep(2)
            after, took_s = container.usage(), time.monotonic() - began
            assert before is not None
            assert after is not None
            used = (after.cpu_s - before.cpu_s) / took_s
            throttled = (after.throttled_s - before.throttled_s) / took_s
            assert used < 0.26
            if used > 0.14 and throttled > 0.4:
                break
    assert used > 0.14
    assert throttled > 0.4


def test_a_server_that_is_killed_is_seen_at_once(project: Project, logs: Path) -> None:
    with project.serve(VARIANTS["asgi"], folder=logs) as server:
        docker("kill", "--signal=KILL", server.container.id)
        began = time.monotonic()
        wait_for(lambda: not server.alive(), "its end", 2)
        assert time.monotonic() - began < 1
        assert fate(server) == "died (exit code 137)"


def test_a_server_that_ends_at_once_says_why(project: Project, logs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(compose, "_SERVE", ("python", "-c", "raise SystemExit('no such app')"))
    with (
        pytest.raises(ServerFailed, match=r"asgi died \(exit code 1\) .*:\nno such app"),
        project.serve(VARIANTS["asgi"], folder=logs),
    ):
        pass
    assert "no such app" in (logs / "asgi.log").read_text()


def test_a_server_that_is_never_ready_is_given_up(
    project: Project, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose, "_SERVE", ("python", "-c", "import time; print('importing'); time.sleep(60)"))
    with (
        pytest.raises(ServerFailed, match=r"was not ready after 1 s; the end of its log:\nimporting"),
        project.serve(VARIANTS["asgi"], folder=logs, ready_timeout_s=1),
    ):
        pass


def test_a_server_without_the_token_is_not_loaded(
    project: Project, logs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compose, "_SERVE", ("env", "GATEBENCH_TOKEN=another", "python", "-m", "apps"))
    with (
        pytest.raises(ServerFailed, match="without this run's token"),
        project.serve(VARIANTS["asgi"], folder=logs),
    ):
        pass


def test_the_backend_serves_as_the_others_do_and_leaves_the_neighbours_alone(
    project: Project, neighbour: str, logs: Path
) -> None:
    wishes = Wishes(logs, {"asgi": VARIANTS["asgi"]}, memory_mb=128)
    with BACKENDS["compose"](wishes) as backend:
        assert backend.project is not None
        label = f"--filter=label={LABEL}={backend.project.run}"
        assert backend.facts["python"].startswith("3.")
        assert "uvicorn" in backend.facts["versions"]
        with backend.serve(VARIANTS["asgi"], cpus=CPU, folder=logs, port=None) as server:
            assert isinstance(server, Contained)
            assert inspected(server)["HostConfig"]["Memory"] == 128 * MB
            assert len(docker("ps", "--quiet", label).split()) == 1
    assert not docker("ps", "--all", "--quiet", label).split()
    assert not docker("network", "ls", "--quiet", label).split()
    assert docker("container", "inspect", "--format={{.State.Running}}", neighbour).strip() == "true"
    assert docker("image", "inspect", "--format={{.Id}}", str(project.facts["image"])).strip()


def test_what_a_person_starts_serves_alone_and_is_never_removed(project: Project) -> None:
    """`docker compose up wsgi-gevent`, and nothing else. The project has built its image."""
    name = f"person-{uuid.uuid4().hex[:8]}"
    words = ("compose", "--project-name", name, "--file", str(compose.FILE))
    try:
        docker(*words, "up", "--detach", "--no-build", "wsgi-gevent")
        (container,) = docker("ps", "--quiet", f"--filter=label=com.docker.compose.project={name}").split()
        found = json.loads(docker("container", "inspect", container))[0]
        address = next(str(one["IPAddress"]) for one in found["NetworkSettings"]["Networks"].values())
        state = wait_for(lambda: answered(address), "an answer", 20)
        assert state["variant"] == "wsgi-gevent"
        assert found["HostConfig"]["CpusetCpus"] == "0"
        assert not any((found["NetworkSettings"]["Ports"] or {}).values())
        assert compose.clean() == []
        assert docker("container", "inspect", "--format={{.State.Running}}", container).strip() == "true"
    finally:
        docker(*words, "down", "--timeout", "1")


def answered(address: str) -> dict[str, object] | None:
    try:
        return identity((address, 8000))
    except (OSError, ValueError):
        return None


def test_the_load_generator_and_its_workers_load_a_server_by_its_name(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"person-{uuid.uuid4().hex[:8]}"
    monkeypatch.setenv("GATEBENCH_WORKER_TOKEN", uuid.uuid4().hex)
    monkeypatch.setenv("GATEBENCH_URL", "http://asgi:8000/ping")
    monkeypatch.setenv("GATEBENCH_DURATION", "3")
    monkeypatch.setenv("GATEBENCH_LOAD_CPUS", str(max(os.sched_getaffinity(0))))
    words = ("compose", "--project-name", name, "--file", str(compose.FILE), "--profile", "load")
    try:
        docker(*words, "build", "load", timeout_s=600)
        docker(*words, "up", "--detach", "--no-build", "--scale", "load-worker=2", "asgi", "load", "load-worker")
        docker(*words, "logs", "--follow", "load", timeout_s=60)
        (load,) = docker(*words, "ps", "--all", "--quiet", "load").split()
        found = json.loads(docker("container", "inspect", load))[0]
        said = docker("logs", load, errors_too=True)
        workers = docker(*words, "logs", "--no-log-prefix", "load-worker")
    finally:
        docker(*words, "down", "--timeout", "1")
    assert "http://asgi:8000/ping:" in said, said
    assert found["State"]["ExitCode"] in (0, 4), "a noisy machine may spoil it"
    assert workers.count("1 trials") == 2, workers
    host = found["HostConfig"]
    assert (host["ReadonlyRootfs"], host["CapDrop"], host["Privileged"]) == (True, ["ALL"], False)
    assert found["Config"]["User"].split(":")[0] not in {"", "0", "root"}
    assert not any((found["NetworkSettings"]["Ports"] or {}).values())


def test_what_is_not_in_the_compose_file_is_said(project: Project, logs: Path) -> None:
    with (
        pytest.raises(EnvironmentFault, match="no such service"),
        project.serve(replace(VARIANTS["asgi"], name="unheard-of"), folder=logs),
    ):
        pass


def test_no_secret_stands_in_a_file_or_in_the_list_of_processes(project: Project, logs: Path) -> None:
    with project.serve(VARIANTS["asgi"], folder=logs) as server:
        texts = [path.read_text() for path in project.scratch.glob("*.json")]
        shown = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert texts
    assert not any(server.token in text for text in [*texts, shown])
