"""A PostgreSQL of the run's own: started, seeded, counted, gone. In a container, and as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from apps import postgres as apps_postgres
from harness.errors import EnvironmentFault
from harness.serve import postgres
from harness.serve.compose import LABEL, Engine, Project, Usage, docker
from harness.serve.postgres import Claim, Counts, Database, cpus_beside, database, differences
from tests.gate import ROOT, wait_for

CPUS = frozenset({max(os.sched_getaffinity(0))})
DRIVER = """\
import sys, time
from pathlib import Path
from harness.serve import postgres
postgres._no_container = lambda: "not wanted"
with postgres.database(logs=Path(sys.argv[1]), cpus=frozenset()) as made:
    print(*made.ask("show data_directory")[0], *(process.pid for process in made.watched()), flush=True)
    time.sleep(60)
"""


# -- pure ------------------------------------------------------------------------------------------------------------

ZERO = Counts(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("after", "claims", "said"),
    [
        (Counts(0, 0, 4_000, 8), [Claim("update", 200, 200, 20, 20)], []),
        (Counts(0, 0, 3_999, 8), [Claim("update", 200, 200, 20, 20)], ["3,999 updates, /update answered 4,000"]),
        (Counts(0, 0, 4_020, 8), [Claim("update", 200, 200, 20, 20)], ["4,020 updates, /update answered 4,000"]),
        (Counts(0, 0, 4_020, 8), [Claim("update", 200, 202, 20, 20)], []),
        (Counts(0, 0, 4_060, 8), [Claim("update", 200, 202, 20, 20)], ["/update answered 4,000 to 4,040"]),
        (Counts(7, 140, 0, 8), [Claim("db", 7, 7), Claim("rows", 7, 7, 20, 20)], []),
        (Counts(0, 0, 0, 0), [Claim("db", 7, 7), Claim("rows", 7, 7, 20, 20)], ["0 queries, /db", "0 reads, /rows"]),
        (Counts(None, None, 0, 0), [Claim("db", 7, 7), Claim("rows", 7, 7, 20, 20)], []),
        (Counts(0, 30, 0, 0), [Claim("rows", 2, 2, 10, 20)], []),
    ],
)
def test_what_was_answered_is_held_against_what_was_counted(
    after: Counts, claims: list[Claim], said: list[str]
) -> None:
    found = differences(ZERO, after, claims)
    assert len(found) == len(said)
    assert all(part in line for part, line in zip(said, found, strict=True))


def test_a_database_has_cpus_of_its_own_where_there_are_three(monkeypatch: pytest.MonkeyPatch) -> None:
    one, two = frozenset({0}), frozenset({1})
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    assert cpus_beside(one, two) == (two, True)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2, 3})
    assert cpus_beside(one, two) == (frozenset({2, 3}), False)


def test_nothing_to_start_is_one_line_with_the_remedy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(postgres, "binaries", lambda: None)
    with pytest.raises(EnvironmentFault) as fault, database(logs=tmp_path, cpus=CPUS):
        pass
    assert str(fault.value) == (
        "no PostgreSQL can be started: docker was not found, and no binaries were found; apt-get install postgresql, "
        "or install Docker Engine with Compose version 2"
    )


def test_the_tables_are_what_the_queries_expect() -> None:
    assert f"generate_series(1, {apps_postgres.ROWS})" in apps_postgres.TABLES
    assert "select n, n * 7919 % 10007" in apps_postgres.TABLES
    assert [apps_postgres.seeded(number) for number in (1, 2, 10_000)] == [7919, 5831, 4609]
    drawn = apps_postgres.drawn(500)
    assert drawn == sorted(set(drawn))
    assert len(drawn) == 500
    assert 1 <= drawn[0] <= drawn[-1] <= apps_postgres.ROWS
    printed = subprocess.run([sys.executable, "-m", "apps.postgres"], capture_output=True, text=True, check=True)
    assert printed.stdout == apps_postgres.TABLES + apps_postgres.COUNTS


# -- real ------------------------------------------------------------------------------------------------------------


@pytest.fixture(params=["process", "container"], scope="module")
def where(request: pytest.FixtureRequest) -> str:
    where = str(request.param)
    if where == "process" and postgres.binaries() is None:
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")
    if where == "container" and (why := postgres._no_container()):
        pytest.skip(why)
    return where


@pytest.fixture(scope="module")
def made(where: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Database]:
    """A database for a module's tests."""
    with pytest.MonkeyPatch.context() as patch:
        if where == "process":
            patch.setattr(postgres, "_no_container", lambda: "not wanted")
        with database(logs=tmp_path_factory.mktemp("logs"), cpus=CPUS, connections=8) as made:
            yield made


@pytest.mark.slow
def test_it_is_seeded_and_counts(made: Database, where: str) -> None:
    assert made.facts["where"] == where
    assert made.alive()
    assert made.ask("select id, name from gatebench") == [["1", "gatebench"]]
    rows = [(int(number), int(value)) for number, value, _ in made.ask("select * from gatebench_rows order by id")]
    assert rows == [(number, apps_postgres.seeded(number)) for number in range(1, apps_postgres.ROWS + 1)]
    before = made.counts()
    made.ask("select id, name, pg_sleep(0.001) from gatebench where id = 1")
    for number in (1, 2, 3):
        made.ask(f"select value from gatebench_rows where id = {number}")
    made.ask("update gatebench_rows set hits = hits + 1 where id in (4, 5)")
    after = made.counts()
    assert after.updates - before.updates == 2
    assert (before.queries, before.reads) != (None, None), "pg_stat_statements is there wherever these tests run"
    assert differences(before, after, [Claim("db", 1, 1), Claim("rows", 1, 1, 3, 3), Claim("update", 1, 1, 2, 2)]) == []


@pytest.mark.slow
def test_it_keeps_its_settings_and_its_cpus(made: Database) -> None:
    found = dict(made.ask("select name, current_setting(name) from pg_settings"))
    assert {name: found[name] for name in postgres.SETTINGS} == dict(postgres.SETTINGS)
    assert int(found["max_connections"]) >= 2 * 8
    assert found["listen_addresses"] in {"127.0.0.1", "*"}
    watched = made.watched()
    if isinstance(watched, Usage):
        assert watched.cpu_s > 0
    else:
        assert watched is not None
        processes = list(watched)
        assert len(processes) > 3
        assert all(process.uids().real for process in processes), "none of them is root's"
        assert all(set(process.cpu_affinity()) == CPUS for process in processes)


@pytest.mark.slow
def test_a_wrong_question_is_one_line(made: Database) -> None:
    with pytest.raises(EnvironmentFault, match="nowhere") as fault:
        made.ask("select 1 from nowhere")
    assert "\n" not in str(fault.value)


@pytest.mark.slow
def test_a_process_of_it_leaves_nothing(docker_less: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres, "_no_container", lambda: "not wanted")
    with database(logs=tmp_path, cpus=CPUS) as made:
        watched = made.watched()
        assert isinstance(watched, list)
        (folder,) = (Path(row[0]) for row in made.ask("show data_directory"))
        assert folder.stat().st_uid or os.geteuid()
    assert not made.alive()
    assert not [process for process in watched if process.is_running()]
    assert not folder.parent.exists()
    assert "database system is shut down" in (tmp_path / "postgres.log").read_text()


@pytest.mark.slow
def test_a_container_of_it_is_hardened_and_leaves_nothing(docker_engine: Engine, tmp_path: Path) -> None:
    if why := postgres._no_container():
        pytest.skip(why)
    with Project(tmp_path) as project:
        label = f"--filter=label={LABEL}={project.run}"
        with database(logs=tmp_path, cpus=CPUS, project=project) as made:
            (name,) = docker("ps", "--quiet", label).split()
            found = json.loads(docker("container", "inspect", name))[0]
            assert made.alive()
        assert not made.alive()
        assert not docker("ps", "--all", "--quiet", label).split()
    assert not docker("network", "ls", "--quiet", label).split()
    host, config = found["HostConfig"], found["Config"]
    assert config["User"] == "postgres"
    assert config["Labels"]["gatebench.role"] == "database"
    assert host["ReadonlyRootfs"] is True
    assert host["CapDrop"] == ["ALL"]
    assert host["SecurityOpt"] == ["no-new-privileges:true"]
    assert host["Memory"] == host["MemorySwap"] > 0
    assert host["PidsLimit"] > 0
    assert host["CpusetCpus"] == str(max(CPUS))
    assert not host["PortBindings"]
    assert "database system is shut down" in (tmp_path / "postgres.log").read_text()


@pytest.mark.slow
def test_a_harness_that_is_killed_leaves_no_database(tmp_path: Path, docker_less: None) -> None:
    argv = [sys.executable, "-c", DRIVER, str(tmp_path)]
    with subprocess.Popen(argv, cwd=ROOT, stdout=subprocess.PIPE, text=True, start_new_session=True) as driver:
        assert driver.stdout is not None
        folder, *pids = driver.stdout.readline().split()
        processes = [psutil.Process(int(pid)) for pid in pids]
        assert Path(folder).is_dir()
        assert len(processes) > 3
        driver.kill()
    began = time.monotonic()
    wait_for(lambda: not any(process.is_running() for process in processes), "the end of PostgreSQL", 5)
    wait_for(lambda: not Path(folder).parent.exists(), "the end of its folder", 5 - (time.monotonic() - began))


@pytest.fixture
def docker_less() -> None:
    if postgres.binaries() is None:
        pytest.skip("no PostgreSQL on this machine: apt-get install postgresql")


def test_an_engine_is_asked_before_binaries_are_taken(docker_engine: Engine) -> None:
    assert docker_engine.version
    assert "docker was not found" not in postgres._no_container()
