"""A run that is interrupted, killed, or meets another one (PROOFS, faults 12, 13, 14, 26)."""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import pytest

from harness.recording import read_run
from tests.gate import Command, Ended, Gate, scenario, wait_for

pytestmark = pytest.mark.slow


def started(gate: Gate, folder: Path, *options: str, duration_s: int = 4) -> Command:
    file = scenario(folder, duration_s=duration_s, rates="[50, 60]")
    return gate.start("run", file, "--variants", "asgi", "--results", folder, "--name", "r", *options)


def first_kept(command: Command, folder: Path) -> Path:
    """The first Recording on disk, with the second Trial under way."""
    kept = wait_for(lambda: next(folder.glob("r/trials/*.jsonl.gz"), None), "a Recording", 40)
    command.loading()
    return kept


def test_one_run_at_a_time_and_a_killed_one_leaves_nothing_and_can_be_resumed(gate: Gate, tmp_path: Path) -> None:
    command = started(gate, tmp_path, duration_s=2)
    kept = first_kept(command, tmp_path)

    second = gate("run", tmp_path / "tiny.toml", "--variants", "asgi", "--results", tmp_path, "--name", "second")
    assert second.code == 6
    assert f"another run is measuring here: process {command.process.pid}, since 2" in second.line
    assert second.seconds < 3
    assert not (tmp_path / "second").exists()

    assert len(command.family()) >= 4  # the harness, its reaper, a server, the load process
    command.signal(signal.SIGKILL)
    assert command.ended().code == -signal.SIGKILL
    command.assert_nothing_left(within_s=5)
    before = {path: path.read_bytes() for path in tmp_path.glob("r/trials/*")}
    assert before.keys() == {kept}
    assert [one.end.outcome for one in read_run(tmp_path / "r").recordings] == ["complete"]

    # the same lock without --results: it is taken where the run lies
    resumed = gate("run", tmp_path / "tiny.toml", "--variants", "asgi", "--resume", tmp_path / "r")
    assert resumed.code == 0, resumed.err
    assert "1 trials, predicted" in resumed.err
    after = {path: path.read_bytes() for path in tmp_path.glob("r/trials/*")}
    assert after.keys() > before.keys()
    assert after[kept] == before[kept]
    assert [one.trial.level for one in read_run(tmp_path / "r").recordings if one.end.outcome == "complete"] in (
        [50, 60],
        [60, 50],
    )
    assert json.loads((tmp_path / "r" / "run.json").read_text())["outcome"] == "complete"

    other = gate("run", tmp_path / "tiny.toml", "--variants", "wsgi-threads", "--resume", tmp_path / "r")
    assert other.code == 2
    assert "asked something else" in other.line


def in_a_trial(command: Command, folder: Path) -> None:
    command.half_way()


def in_the_warm_up(command: Command, folder: Path) -> None:
    command.loading()


def in_server_start(command: Command, folder: Path) -> None:
    command.serving()


STAGES: dict[str, Callable[[Command, Path], None]] = {
    "trial": in_a_trial,
    "warm-up": in_the_warm_up,
    "server start": in_server_start,
}


class Interrupt(NamedTuple):
    """Which signal comes when, and whether to the whole process group, as from a terminal."""

    stage: str
    signum: signal.Signals
    group: bool


INTERRUPTS = (
    Interrupt("trial", signal.SIGINT, group=False),
    Interrupt("trial", signal.SIGINT, group=True),
    Interrupt("warm-up", signal.SIGINT, group=False),
    Interrupt("server start", signal.SIGINT, group=True),
    Interrupt("trial", signal.SIGTERM, group=False),
    Interrupt("trial", signal.SIGHUP, group=False),
)


class Interrupted(NamedTuple):
    command: Command
    ended: Ended
    folder: Path


@pytest.fixture(scope="module")
def interrupted(
    gate: Gate, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest
) -> Iterator[dict[Interrupt, Future[Interrupted]]]:
    """A run for each interrupt, two at a time: they mostly wait."""
    items = [item for item in request.session.items if "interrupt" in getattr(item, "fixturenames", ())]
    folders = {item.callspec.params["interrupt"]: tmp_path_factory.mktemp("r") for item in items}  # type: ignore[attr-defined]

    def one(interrupt: Interrupt) -> Interrupted:
        command = started(gate, folders[interrupt])
        STAGES[interrupt.stage](command, folders[interrupt])
        command.signal(interrupt.signum, group=interrupt.group)
        ended = command.ended(within_s=12)
        command.assert_nothing_left()
        return Interrupted(command, ended, folders[interrupt])

    pool = ThreadPoolExecutor(2)
    yield {interrupt: pool.submit(one, interrupt) for interrupt in folders}
    pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize(
    "interrupt", INTERRUPTS, ids=lambda each: f"{each.stage}, {each.signum.name}{', to all' * each.group}"
)
def test_an_interrupt_keeps_what_was_measured_and_leaves_no_process(
    interrupt: Interrupt, interrupted: dict[Interrupt, Future[Interrupted]]
) -> None:
    command, ended, folder = interrupted[interrupt].result()
    stage, signum, _ = interrupt
    assert ended.code == 128 + signum, ended.err
    assert "Traceback" not in ended.err
    assert not list(command.scratch.iterdir())
    run = read_run(folder / "r")
    assert run.manifest["outcome"] == "interrupted"
    assert run.manifest["reason"] == f"interrupted by {signum.name}; what was measured is kept"
    if stage == "server start":
        assert not run.recordings
        return
    (recording,) = run.recordings
    assert recording.end.outcome == "interrupted"
    counts = recording.counts("ping", range(4))
    assert counts.add_up
    assert counts.unfinished > 0
    assert counts.failed == 0
    if stage == "trial":
        assert counts.completed >= 50
    assert "PARTIAL" in (folder / "r" / "report.html").read_text(encoding="utf-8")


def test_a_second_interrupt_is_immediate(gate: Gate, tmp_path: Path) -> None:
    command = started(gate, tmp_path)
    command.half_way()
    command.signal(signal.SIGINT)
    time.sleep(0.1)
    command.signal(signal.SIGINT)
    ended = command.ended()
    assert ended.code == 130
    assert ended.seconds < 1
    command.assert_nothing_left(within_s=5)


def test_an_interrupt_in_the_report_keeps_the_measurements(gate: Gate, tmp_path: Path) -> None:
    file = scenario(tmp_path, duration_s=1, rates="[50]").read_text(encoding="utf-8")
    (tmp_path / "tiny.toml").write_text(file.replace("warmup_s = 1", "warmup_s = 0"), encoding="utf-8")
    command = gate.start("run", tmp_path / "tiny.toml", "--variants", "asgi", "--results", tmp_path, "--name", "r")
    wait_for(lambda: '"complete"' in text(tmp_path / "r" / "run.json"), "the end of the measuring", 40)
    command.signal(signal.SIGINT, group=True)
    ended = command.ended(within_s=5)
    command.assert_nothing_left()
    assert ended.code == 130, ended.err
    assert "Traceback" not in ended.err
    assert len({one.trial.key for one in read_run(tmp_path / "r").recordings}) == 1
    assert not list(tmp_path.glob("r/*.part"))
    assert gate("report", tmp_path / "r").code == 0


def test_nohup_keeps_a_run_alive_when_its_terminal_goes(gate: Gate, tmp_path: Path) -> None:
    file = scenario(tmp_path)
    options = ("--variants", "asgi", "--results", tmp_path, "--name", "r")
    command = gate.start("run", file, *options, prefix=["nohup"])
    command.loading()
    command.signal(signal.SIGHUP)
    assert command.ended().code == 0
    command.assert_nothing_left()


def text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.exists() else ""
