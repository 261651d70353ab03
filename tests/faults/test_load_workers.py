"""PROOFS, faults 10, 11, 12 and 17, where several processes make the load: lost, stalled, orphaned, out of time."""

from __future__ import annotations

import json
import signal
import time
from pathlib import Path

import psutil
import pytest

from harness.load.process import TOKEN
from harness.proving import Known, serving
from harness.recording import read_run
from harness.serve.process import free_port
from tests.gate import ROOT, Command, Gate, scenario, wait_for

pytestmark = pytest.mark.slow
RATE, SECONDS = 200, 4


def workers(command: Command) -> list[psutil.Process]:
    return [process for process in command.family() if "harness.load.worker" in process.cmdline()]


def master_of(command: Command) -> psutil.Process:
    return next(process for process in command.family() if process.cmdline()[-2:-1] == ["harness.load"])


def started(gate: Gate, known: Known, *more: object, **env: str) -> Command:
    url = f"http://127.0.0.1:{known.port}/"
    options = ["--rate", RATE, "--duration", SECONDS, "--processes", 2, "--json", *more]
    return gate.start("load", url, *options, env=env)


def test_a_killed_worker_voids_the_trial_and_its_share_is_stated(gate: Gate) -> None:
    with serving("delay", 5, log=True) as known:
        load = started(gate, known)
        load.loading()
        time.sleep(2.2)
        lost = workers(load)[1]
        lost.kill()
        since = time.monotonic()
        ended = load.ended()
        took_s = time.monotonic() - since
        log = known.end()
    answer = json.loads(ended.out)
    assert ended.code == 4
    assert (answer["verdict"], answer["limited_by"]) == ("VOID", "generator")
    assert answer["reason"] == "1 of 2 load workers was lost: 50 % of the load"
    assert took_s < 5, "the survivor does not go on with a load that nobody asked for"
    assert 0.25 * len(log) < answer["completed"] < len(log), "what the survivor saw is kept"
    load.assert_nothing_left()


def test_a_worker_that_stands_still_for_half_a_second_voids_the_trial(gate: Gate) -> None:
    with serving("delay", 5) as known:
        load = started(gate, known)
        load.loading()
        time.sleep(1.5)
        held = workers(load)[0]
        held.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        held.send_signal(signal.SIGCONT)
        ended = load.ended()
    answer = json.loads(ended.out)
    assert ended.code == 4
    assert (answer["verdict"], answer["limited_by"]) == ("VOID", "generator")
    assert answer["reason"].startswith("1 of 2 load workers stalled for 0.")
    assert answer["reason"].endswith("50 % of the load came late")
    assert answer["offered"] == sum(answer[kind] for kind in ("completed", "failed", "timed_out", "unfinished"))


def test_a_stalled_worker_of_closed_users_voids_the_trial_too(gate: Gate) -> None:
    with serving("delay", 5) as known:
        url = f"http://127.0.0.1:{known.port}/"
        load = gate.start("load", url, "--users", 4, "--duration", 3, "--processes", 2, "--json")
        load.loading()
        time.sleep(1.2)
        held = workers(load)[0]
        held.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        held.send_signal(signal.SIGCONT)
        ended = load.ended()
    assert ended.code == 4
    assert "1 of 2 load workers stalled" in json.loads(ended.out)["reason"]


def test_a_worker_that_never_wakes_is_lost(gate: Gate) -> None:
    with serving("delay", 5) as known:
        load = started(gate, known)
        load.loading()
        time.sleep(0.8)
        workers(load)[0].send_signal(signal.SIGSTOP)
        ended = load.ended()
    assert ended.code == 4
    assert json.loads(ended.out)["reason"] == "1 of 2 load workers was lost: 50 % of the load"
    load.assert_nothing_left()


def test_a_run_repeats_the_trial_with_a_new_worker(gate: Gate, tmp_path: Path) -> None:
    asked = scenario(tmp_path, duration_s=3)
    run = gate.start("run", asked, "--variants", "asgi", "--processes", 2, "--results", tmp_path, "--name", "r")
    run.loading()
    time.sleep(1.2)
    workers(run)[0].kill()
    ended = run.ended()
    first, *_, second = read_run(tmp_path / "r").recordings  # noise may have spoilt one in between
    assert ended.code == 0, ended.err
    assert (first.end.outcome, second.end.outcome) == ("generator_failed", "complete")
    assert first.end.reason == "1 of 2 load workers was lost: 50 % of the load"
    assert first.rows
    assert second.counts("ping", range(3)).completed == 150


def test_no_worker_outlives_a_killed_harness(gate: Gate) -> None:
    with serving("delay", 5) as known:
        load = started(gate, known)
        load.loading()
        assert len(wait_for(lambda: workers(load), "workers", 5)) == 2
        load.signal(signal.SIGKILL)
        load.process.wait()
        load.assert_nothing_left(5)


def test_no_worker_outlives_a_killed_master(gate: Gate) -> None:
    with serving("delay", 5) as known:
        load = started(gate, known)
        load.loading()
        master_of(load).kill()
        ended = load.ended()
        assert ended.code == 6
        assert "load process" in ended.line
        load.assert_nothing_left(5)


def test_a_worker_started_by_hand_ends_when_its_master_is_silent(gate: Gate) -> None:
    master, token = f"127.0.0.1:{free_port()}", {TOKEN: "secret"}
    with serving("delay", 5) as known:
        worker = gate.start("load-worker", "--master", master, env=token)
        options = ["--rate", 200, "--duration", 60, "--workers", 1, "--bind", master]
        load = gate.start("load", f"http://127.0.0.1:{known.port}/", *options, env=token)
        load.loading()
        master_of(load).kill()
        ended = worker.ended(15)
    assert ended.code == 6
    assert ended.line == f"gatebench: the master at {master} has been silent for 5 s: ended"


JUMPING = """\
import itertools, time
real, calls = time.time, itertools.count()
time.time = lambda: real() + (-1) ** next(calls) * 3600
"""


def test_a_jumping_wall_clock_changes_nothing(gate: Gate, tmp_path: Path) -> None:
    """At every reading by an hour, forwards and backwards, in all processes: Locust's own workers would leave."""
    (tmp_path / "sitecustomize.py").write_text(JUMPING)
    with serving("delay", 5, log=True) as known:
        load = started(gate, known, PYTHONPATH=f"{tmp_path}:{ROOT}")
        ended = load.ended()
        log = known.end()
    answer = json.loads(ended.out)
    assert ended.code == 0, ended.err
    assert answer["verdict"] != "VOID"
    assert answer["failed"] + answer["timed_out"] + answer["unfinished"] == 0
    assert len(log) >= answer["completed"] > 0.7 * RATE * (SECONDS - 1)
