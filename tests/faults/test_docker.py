"""Docker that is missing, mute or dying; a container without memory; a harness that is killed (faults 8, 12, 27)."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from apps.variants import VARIANTS
from harness.errors import EnvironmentFault, ServerFailed
from harness.serve.backends import fate
from harness.serve.compose import LABEL, OWNER, Project, clean, docker, engine, is_orphan, orphans, owner, remove
from tests.gate import ROOT, Gate, scenario, wait_for

DAEMON = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
SOCKET = "permission denied while trying to connect to the Docker daemon socket at unix:///var/run/docker.sock"
# Stands in for the command: tells what it was asked, and is as good as the real one until the file `gone` is there.
STUB = """\
#!/bin/sh
echo "$@" >>{folder}/asked
gone() {{ echo "{daemon}" >&2; exit 1; }}
[ -e {folder}/gone ] && gone
[ "$1" = events ] || exec {real} "$@"
{real} "$@" &
while kill -0 $! 2>/dev/null; do [ -e {folder}/gone ] && kill $! && gone; sleep 0.05; done
"""
# A harness of its own, which can be killed.
DRIVER = """\
import sys, time
from pathlib import Path
from apps.variants import VARIANTS
from harness.serve.compose import Project
logs = Path(sys.argv[1])
with Project(logs, variant="asgi") as project, project.serve(VARIANTS["asgi"], folder=logs):
    print(project.run, flush=True)
    time.sleep(60)
"""


def stub(folder: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """The only `docker` on PATH."""
    path = folder / "bin" / "docker"
    path.parent.mkdir()
    path.write_text(text, encoding="utf-8")
    path.chmod(0o755)
    monkeypatch.setenv("PATH", f"{path.parent}:/usr/bin:/bin")


def answering(version: str, compose: str) -> str:
    """A command that knows versions only."""
    cases = f'version) echo "{version}";; compose) {compose};; info) echo 2;; *) exit 3;;'
    return f'#!/bin/sh\ncase "$1" in {cases} esac\n'


@pytest.fixture
def real() -> str:
    """The real command, where there is an engine."""
    try:
        engine()
    except EnvironmentFault as fault:
        pytest.skip(str(fault))
    return str(shutil.which("docker"))


def labelled(run: str) -> list[str]:
    """What there is of a run."""
    label = f"--filter=label={LABEL}={run}"
    return [*docker("ps", "--all", "--quiet", label).split(), *docker("network", "ls", "--quiet", label).split()]


# -- no engine that could be used ------------------------------------------------------------------------------------


def test_without_docker_it_is_one_line_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(EnvironmentFault) as fault:
        engine()
    assert str(fault.value) == (
        "docker was not found; install Docker Engine 20.10 or newer with Compose version 2, or choose --backend process"
    )
    assert orphans() == []
    assert clean() == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            f'#!/bin/sh\necho "{DAEMON}" >&2; exit 1\n',
            "is the docker daemon running?; start it (systemctl start docker)",
        ),
        (f'#!/bin/sh\necho "{SOCKET}" >&2; exit 1\n', "join the group `docker`, or be root"),
        ("#!/bin/sh\nexit 1\n", "docker version: it gave no reason"),
        ("#!/bin/sh\necho '\x1b[31mred\n\nlast' >&2; exit 1\n", "docker version: last; `docker info` may say more"),
        (answering("19.03.15", "echo 2.26.1"), "the Docker engine says it is '19.03.15'; install Docker Engine 20.10"),
        (answering("nonsense", "echo 2.26.1"), "the Docker engine says it is 'nonsense'"),
        (answering("27.1.0", "exit 1"), "docker compose version 2 is needed, and there is none"),
        (answering("27.1.0", "echo 1.29.2"), "docker compose version 2 is needed, and there is only '1.29.2'"),
        ("not a program", "cannot start"),
    ],
)
def test_an_engine_that_cannot_be_used_is_one_line_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    stub(tmp_path, monkeypatch, text)
    with pytest.raises(EnvironmentFault) as fault:
        engine()
    assert said.lower() in str(fault.value).lower()
    assert str(fault.value).isprintable()


@pytest.mark.parametrize("compose", ["2.26.1-4", "v2.40.3", "5.0.0"])
@pytest.mark.parametrize("version", ["20.10.24+dfsg1", "28.2.2", "29.0.0-rc.1"])
def test_an_engine_that_is_new_enough_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str, compose: str
) -> None:
    stub(tmp_path, monkeypatch, answering(version, f"echo {compose}"))
    assert engine() == (version, compose.removeprefix("v"), "2")


def test_an_engine_that_hangs_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stub(tmp_path, monkeypatch, "#!/bin/sh\nexec sleep 30\n")
    began = time.monotonic()
    with pytest.raises(EnvironmentFault, match=r"docker ps did not end within 0\.2 s"):
        docker("ps", timeout_s=0.2)
    assert time.monotonic() - began < 5


def test_only_what_lost_its_harness_is_an_orphan() -> None:
    boot, numbering, pid, born = owner().split("/")
    assert not is_orphan(owner(), runs=True)
    assert not is_orphan(owner(), runs=False)
    assert is_orphan(f"{boot}/{numbering}/{pid}/{int(born) + 1}", runs=True), "its number was given to another"
    assert is_orphan(f"{boot}/{numbering}/4194303/1", runs=True)
    assert not is_orphan(f"{boot}/1/4194303/1", runs=False), "a container's processes have numbers of their own"
    assert is_orphan(f"another boot/{numbering}/{pid}/{born}", runs=False)
    assert not is_orphan(f"another boot/{numbering}/{pid}/{born}", runs=True), "another machine may use this engine"
    assert not is_orphan("", runs=False), "a person's own"
    assert not is_orphan("a/b/c/d/e", runs=False)


# -- an engine that dies, and what is removed ------------------------------------------------------------------------


def in_the_middle_of(folder: Path, name: str, runs: list[str]) -> None:
    """A server is up, and a neighbour called `name`, when the engine goes."""
    with (
        Project(folder / "logs", variant="asgi") as project,
        project.serve(VARIANTS["asgi"], folder=folder / "logs") as server,
    ):
        runs.append(project.run)
        docker("run", "--detach", "--name", name, "--network=none", str(project.facts["image"]), "sleep", "600")
        (folder / "gone").touch()
        began = time.monotonic()
        wait_for(lambda: not server.alive(), "the engine's end", 2)
        assert time.monotonic() - began < 1
        assert fate(server).startswith("ended with the Docker engine (docker container: Cannot connect")
        assert server.log_tail() == ""


@pytest.mark.slow
def test_an_engine_that_dies_ends_the_run_and_its_containers_are_removed_later(
    real: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, runs = f"neighbour-{uuid.uuid4().hex[:8]}", list[str]()
    stub(tmp_path, monkeypatch, STUB.format(folder=tmp_path, daemon=DAEMON, real=real))
    with pytest.raises(
        EnvironmentFault, match=r"start it .*; then `gatebench doctor --clean` removes what this run has"
    ):
        in_the_middle_of(tmp_path, name, runs)
    (tmp_path / "gone").unlink()
    (run,) = runs
    try:
        assert len(labelled(run)) == 2
        assert run not in orphans(), "its harness is this very process"
        said = remove(run)
        assert sorted(said) == [f"removed container gatebench-{run}-asgi-1", f"removed network gatebench-{run}_bench"]
        assert not labelled(run)
        assert docker("container", "inspect", "--format={{.State.Running}}", name).strip() == "true"
    finally:
        docker("rm", "--force", name)
    asked = (tmp_path / "asked").read_text().splitlines()
    assert not [words for words in asked if "prune" in words or "rmi" in words or " down" in words]


@pytest.mark.slow
@pytest.mark.parametrize("keeper_too", [False, True])
def test_a_harness_that_is_killed_leaves_no_container(real: str, tmp_path: Path, keeper_too: bool) -> None:
    argv = [sys.executable, "-c", DRIVER, str(tmp_path)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as driver:
        assert driver.stdout is not None
        run = driver.stdout.readline().strip()
        assert len(labelled(run)) == 2
        assert run not in orphans()
        if keeper_too:
            pattern = f"harness.serve.compose {run}"
            listed = subprocess.run(["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True).stdout
            (keeper,) = (int(line.split()[0]) for line in listed.splitlines() if line.endswith(pattern))
            os.kill(keeper, signal.SIGKILL)
        driver.kill()
    if keeper_too:
        assert len(labelled(run)) == 2
        assert run in orphans()
        assert f"removed container gatebench-{run}-asgi-1" in clean()
        assert run not in orphans()
    else:
        wait_for(lambda: not labelled(run), "the keeper's work", 5)


@pytest.mark.slow
def test_a_persons_own_container_is_no_leftover(real: str, tmp_path: Path) -> None:
    with Project(tmp_path, variant="asgi") as project:
        image, name = str(project.facts["image"]), f"own-{uuid.uuid4().hex[:8]}"
        hidden = ["--network=none", f"--label={LABEL}=none"]
        docker("run", "--detach", "--name", name, *hidden, image, "sleep", "600")
        try:
            assert "none" not in orphans()
            clean()
            owned = docker("container", "inspect", f'--format={{{{index .Config.Labels "{OWNER}"}}}}', name)
            assert owned.strip() == ""
        finally:
            docker("rm", "--force", name)


# -- memory ----------------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_a_server_out_of_memory_has_failed_and_is_told_so(real: str, tmp_path: Path) -> None:
    row = VARIANTS["wsgi-sync"]
    many = replace(row, budget=row.budget.with_processes(16, slots=16))
    said = ""
    with Project(tmp_path, variant="asgi") as project:
        try:
            with project.serve(many, cpus=frozenset({0}), folder=tmp_path, memory_mb=64) as server:
                wait_for(lambda: not server.alive(), "its end", 20)
                said = fate(server)
        except ServerFailed as failure:  # before it was ready
            said = str(failure)
    assert "ran out of memory, which is limited to 64 MB" in said


# -- the same through the command line -------------------------------------------------------------------------------


@pytest.fixture
def offered(gate: Gate) -> None:
    if "compose" not in gate("run", "--help").out:
        pytest.skip("this `gatebench run` has no --backend compose")


@pytest.mark.usefixtures("offered")
def test_a_run_without_docker_ends_with_six(gate: Gate, tmp_path: Path) -> None:
    options = ("--variants", "asgi", "--results", tmp_path, "--backend", "compose")
    (tmp_path / "bin").mkdir()
    ended = gate("run", scenario(tmp_path), *options, PATH=str(tmp_path / "bin"))
    assert ended.code == 6
    assert "docker was not found; install Docker Engine" in ended.line


@pytest.mark.slow
@pytest.mark.usefixtures("offered")
def test_a_run_whose_server_has_too_little_memory_ends_with_five(gate: Gate, real: str, tmp_path: Path) -> None:
    options = ("--variants", "wsgi-sync", "--lens", "equal-slots=16", "--results", tmp_path, "--name", "r")
    ended = gate("run", scenario(tmp_path), *options, "--backend", "compose", "--memory", "64")
    assert ended.code == 5, ended.err
    assert "wsgi-sync ran out of memory, which is limited to 64 MB" in ended.err


@pytest.mark.slow
@pytest.mark.usefixtures("offered")
def test_a_run_whose_engine_dies_ends_with_six(
    gate: Gate, real: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stub(tmp_path, monkeypatch, STUB.format(folder=tmp_path, daemon=DAEMON, real=real))
    file = scenario(tmp_path, duration_s=4)
    options = ("--variants", "asgi", "--results", tmp_path, "--name", "r", "--backend", "compose")
    command = gate.start("run", file, *options, PATH=os.environ["PATH"])
    command.half_way()
    (tmp_path / "gone").touch()
    ended = command.ended()
    (tmp_path / "gone").unlink()
    assert ended.code == 6, ended.err
    assert "then `gatebench doctor --clean` removes what this run has left" in ended.line
    assert any(line.startswith("removed container gatebench-") for line in clean())


@pytest.mark.slow
@pytest.mark.usefixtures("offered")
@pytest.mark.parametrize("stage", ["serving", "half_way"])
def test_an_interrupted_run_leaves_no_container(gate: Gate, real: str, tmp_path: Path, stage: str) -> None:
    file = scenario(tmp_path, duration_s=4)
    options = ("--variants", "asgi", "--results", tmp_path, "--name", "r", "--backend", "compose")
    before = set(docker("ps", "--all", "--quiet", f"--filter=label={OWNER}").split())
    command = gate.start("run", file, *options)
    if stage == "half_way":
        command.half_way()
    else:  # as soon as anything of it is there
        wait_for(lambda: set(docker("ps", "--all", "--quiet", f"--filter=label={OWNER}").split()) - before, "it", 60)
    ours = set(docker("ps", "--all", "--quiet", f"--filter=label={OWNER}").split()) - before
    command.signal(signal.SIGINT, group=True)
    ended = command.ended(within_s=20)
    assert ended.code == 130, ended.err
    assert "Traceback" not in ended.err
    command.assert_nothing_left()
    assert not ours & set(docker("ps", "--all", "--quiet").split())


@pytest.mark.slow
@pytest.mark.usefixtures("offered")
def test_a_run_that_is_killed_leaves_no_container(gate: Gate, real: str, tmp_path: Path) -> None:
    file = scenario(tmp_path, duration_s=4)
    options = ("--variants", "asgi", "--results", tmp_path, "--name", "r", "--backend", "compose")
    command = gate.start("run", file, *options)
    command.half_way()
    before = set(docker("ps", "--quiet", f"--filter=label={OWNER}").split())
    assert before
    command.signal(signal.SIGKILL)
    command.ended()
    command.assert_nothing_left(within_s=5)
    assert not before & set(docker("ps", "--all", "--quiet", f"--filter=label={OWNER}").split())


@pytest.fixture(autouse=True)
def _nothing_stays() -> Iterator[None]:
    yield
    if shutil.which("docker"):
        clean()
