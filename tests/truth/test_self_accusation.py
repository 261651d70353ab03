"""PROOFS T5 and fault 21: a generator that was disturbed says so itself, in both modes, and why; a clean one not."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from harness.physics import VOID, Verdict, judge
from harness.proving import Freeze, Prover, scenario, serving
from harness.serve.process import spawn, stop
from harness.trial import Arrivals

if TYPE_CHECKING:  # the plugin itself is imported by pytest, which rewrites its assertions
    from tests.quietness import Quiet

pytestmark = [pytest.mark.realtime, pytest.mark.slow]

CGROUP = Path("/sys/fs/cgroup/cpu")
LOADS: list[tuple[Arrivals, float]] = [("poisson", 2_000), ("closed", 16)]
CONTROLS, CLEAN_AT_LEAST = 20, 19


@contextlib.contextmanager
def spinner(prover: Prover) -> Iterator[None]:
    """A process that never rests, pinned to the generator's CPU."""
    process = spawn([sys.executable, "-c", "while True: pass"], prover.generator_cpus, stdin=subprocess.DEVNULL)
    try:
        yield
    finally:
        stop(process)


@contextlib.contextmanager
def quota(prover: Prover) -> Iterator[None]:
    """20 % of a CPU for the generator: by a control group where we may make one, else by stopping it in turns."""
    group = CGROUP / f"gatebench-test-{os.getpid()}"
    pid = str(prover.generator.pid)
    try:
        group.mkdir()
        (group / "cpu.cfs_quota_us").write_text("20000")
        (group / "cgroup.procs").write_text(pid)
    except OSError as error:
        print(f"no control group ({error}): in turns")
        with turns(prover):
            yield
        return
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            (CGROUP / "cgroup.procs").write_text(pid)
        group.rmdir()


@contextlib.contextmanager
def turns(prover: Prover) -> Iterator[None]:
    ended, pid = threading.Event(), prover.generator.pid

    def run() -> None:
        while not ended.is_set():
            os.kill(pid, signal.SIGSTOP)
            ended.wait(0.08)
            os.kill(pid, signal.SIGCONT)
            ended.wait(0.02)

    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def judged(prover: Prover, arrivals: Arrivals, level: float, *, stopped_s: float = 0.0) -> Verdict:
    """Against a server that takes 5 ms, so that what is clean is clear."""
    freezes = []

    def started(origin: float) -> None:
        if stopped_s:
            freezes.append(Freeze(prover.generator.pid, 2.2, stopped_s))
            freezes[0].begin(origin)

    with serving("delay", 5) as known:
        verdict = judge(prover.drive(known.port, scenario(arrivals, level, 4, warmup_s=1), started=started))
    for freeze in freezes:
        freeze.join()
    print(f"{arrivals}: {verdict}")
    return verdict


Disturbance = Callable[[Prover], AbstractContextManager[None]]


@pytest.mark.parametrize(("arrivals", "level"), LOADS)
@pytest.mark.parametrize(
    ("disturbance", "level_factor", "causes"),
    [(spinner, 1, ("others held its CPU",)), (quota, 25, ("its CPU time is limited", "others held its CPU"))],
    ids=["spinner", "quota"],
)
def test_a_starved_generator_voids_the_trial_and_says_why(
    disturbance: Disturbance,
    level_factor: int,
    causes: tuple[str, ...],
    arrivals: Arrivals,
    level: float,
    prover: Prover,
    quiet: Quiet,
) -> None:
    def proof() -> None:
        asked = min(
            level * level_factor, 16_000
        )  # far more than the disturbed one can do, and no trouble for a free one
        assert judged(prover, arrivals, asked).limited_by != "generator", "clean before it is disturbed"
        with disturbance(prover):
            verdict = judged(prover, arrivals, asked)
        assert (verdict.name, verdict.limited_by) == (VOID, "generator"), verdict
        assert any(cause in verdict.reason for cause in causes), verdict.reason

    quiet.proved(proof)


@pytest.mark.parametrize(("arrivals", "level"), LOADS)
def test_a_generator_that_was_stopped_voids_the_trial(
    arrivals: Arrivals, level: float, prover: Prover, quiet: Quiet
) -> None:
    def proof() -> None:
        assert judged(prover, arrivals, level).limited_by != "generator", "clean before it is disturbed"
        verdict = judged(prover, arrivals, level, stopped_s=0.5)
        assert (verdict.name, verdict.limited_by) == (VOID, "generator"), verdict
        assert "it was stopped" in verdict.reason

    quiet.proved(proof)


@pytest.mark.parametrize(("arrivals", "level"), LOADS)
def test_a_clean_run_is_not_accused(arrivals: Arrivals, level: float, prover: Prover, quiet: Quiet) -> None:
    """At least 19 in 20. Runs into which noise came count neither way, whatever their verdict."""
    clean: list[bool] = []
    for _ in range(2 * CONTROLS):
        verdict, noise = quiet.heard(lambda: judged(prover, arrivals, level))
        print(noise)
        clean += [verdict.limited_by != "generator"] if noise.quiet else []
        if len(clean) == CONTROLS:
            break
    else:
        pytest.skip(f"only {len(clean)} of {2 * CONTROLS} runs were undisturbed, {sum(clean)} of them clean")
    print(f"{arrivals}: {sum(clean)} of {CONTROLS} clean runs were not accused")
    assert sum(clean) >= CLEAN_AT_LEAST
