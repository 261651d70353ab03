"""`gatebench load URL`: every arrival pattern, the table, the .hgrm file, and what Ctrl-C keeps."""

from __future__ import annotations

import json
import re
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.errors import UsageError
from harness.load.schedule import ARRIVALS, draw
from harness.load_url import drive
from harness.proving import serving
from tests.gate import Command, Ended, Gate, wait_for

KEYS = {
    *("offered_rps", "achieved_rps", "offered", "completed", "failed", "timed_out", "unfinished"),
    *("response_us", "service_us", "lateness_us", "blocked_us", "errors", "verdict", "limited_by", "reason"),
}
MARKS = {"p50", "p90", "p99", "p999", "p9999", "max", "n"}

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    with serving("delay", 5) as known:
        yield f"http://127.0.0.1:{known.port}/"


@pytest.fixture(scope="module")
def answers(gate: Gate, url: str) -> dict[str, Ended]:
    """Of every pattern; all at once, as each is a small load."""
    words = ("load", url, "--rate", 150, "--duration", 2, "--json", "--arrivals")
    commands = {pattern: gate.start(*words, pattern) for pattern in ARRIVALS}
    return {pattern: command.ended() for pattern, command in commands.items()}


@pytest.mark.parametrize("pattern", sorted(ARRIVALS))
def test_every_pattern_sends_its_whole_schedule(answers: dict[str, Ended], pattern: str) -> None:
    answer = json.loads(answers[pattern].out)
    assert answer.keys() >= KEYS
    assert all(answer[f"{kind}_us"].keys() == MARKS for kind in ("response", "service", "lateness", "blocked"))
    times = draw(pattern, 150, 2, 1)
    measured = int((times >= 1).sum())  # the first second is the warm-up
    assert (answer["arrivals"], answer["offered"], answer["completed"]) == (pattern, measured, measured)
    assert sum(samples for _, samples in answer["response_histogram_us"]) == measured
    assert 5_000 <= answer["service_us"]["p50"] <= 30_000


def test_the_table_has_percentiles_and_bars_and_the_file_is_written(gate: Gate, url: str, tmp_path: Path) -> None:
    path = tmp_path / "a.hgrm"
    ended = gate("load", url, "--rate", 200, "--duration", 2, "--arrivals", "constant", "--hgrm", path)
    assert "200.0/s of 200.0/s offered (constant)" in ended.out
    head = next(line for line in ended.out.splitlines() if line.startswith("ms "))
    assert head.split() == ["ms", "p50", "p90", "p99", "p99.9", "p99.99", "max", "n"]
    assert "n/a (needs 662)" in ended.out
    assert re.search(r"≤ [0-9.]+ +█+ +\d+", ended.out), ended.out
    text = path.read_text()
    assert text.splitlines()[0].split() == ["Value", "Percentile", "TotalCount", "1/(1-Percentile)"]
    assert re.search(r"Total count +=? +200\]", text)


def test_a_folder_that_is_not_there_is_said_before_the_load(gate: Gate, url: str, tmp_path: Path) -> None:
    ended = gate("load", url, "--hgrm", tmp_path / "none" / "a.hgrm", "--duration", 600)
    assert ended.code == 2
    assert "there is no folder" in ended.line


def test_an_unknown_pattern_is_answered_with_all_there_are(gate: Gate, url: str) -> None:
    ended = gate("load", url, "--rate", 10, "--arrivals", "sawtooth")
    assert ended.code == 2
    assert all(pattern in ended.line for pattern in ARRIVALS)


def test_a_shape_makes_another_schedule(gate: Gate, url: str) -> None:
    words = ("--rate", 200, "--duration", 2, "--arrivals", "steps", "--shape", "at=1,0.25")
    answer = json.loads(gate("load", url, *words, "--json").out)
    assert answer["offered"] == answer["completed"] == 50, "of 200 + 50 arrivals the second second's"


@pytest.mark.parametrize(
    ("arrivals", "shape", "said"),
    [
        ("steps", ["through=1"], "arrivals = 'steps' takes no through; it takes at"),
        ("poisson", ["at=1,1"], "arrivals = 'poisson' takes no at; it takes no shape"),
        ("steps", ["at=1,2"], "at is a list of 1 to 100 shares of the rate, each from 0 to 1"),
        ("steps", ["at=1"], "at is a list of 1 to 100 shares of the rate, each from 0 to 1"),
        ("ramp", ["through=0,0"], "through needs a share above 0"),
        ("burst", ["every_s=nan"], "every_s is a number of seconds, from 0.001 to 86400"),
        ("burst", ["every_s=1e999"], "every_s is a number of seconds, from 0.001 to 86400"),
        ("burst", ["every_s"], "'every_s': write it as key=1 or key=0,0.5,1"),
        ("steps", ["at=a\nb"], "'at=a\\nb': write it as key=1 or key=0,0.5,1"),
        ("burst", ["every_s=1", "every_s=2"], "'every_s' is given twice; a list is key=0,0.5,1"),
        ("closed", ["at=1,1"], "arrivals = 'closed' takes no shape; --rate makes it open"),
    ],
)
def test_a_shape_that_the_pattern_has_not_is_answered_with_what_it_has(
    arrivals: str, shape: list[str], said: str
) -> None:
    rate = None if arrivals == "closed" else 10.0
    words: dict[str, Any] = {"duration": 1, "timeout": 1.0, "connections": 1, "seed": 1, "users": None}
    with pytest.raises(UsageError) as refusal:
        drive("http://127.0.0.1:9/", rate=rate, arrivals=arrivals, shape=shape, **words)
    assert str(refusal.value) == f"--shape: {said}"


def test_a_refused_shape_is_one_line(gate: Gate, url: str) -> None:
    ended = gate("load", url, "--rate", 10, "--arrivals", "steps", "--shape", "through=0,1")
    assert ended.code == 2
    assert ended.err.strip() == ended.line == "gatebench: --shape: arrivals = 'steps' takes no through; it takes at"


def running(gate: Gate, url: str, *words: str) -> Command:
    """A load of ten minutes, a little over two seconds in."""
    command = gate.start("load", url, "--rate", 100, "--arrivals", "constant", "--duration", 600, *words)
    wait_for(lambda: next(command.scratch.glob("gatebench-*/rows.jsonl"), None), "the load", 30)
    time.sleep(2.2)
    return command


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)], ids=str
)
def test_a_signal_keeps_and_prints_what_was_measured(gate: Gate, url: str, signum: int, code: int) -> None:
    command = running(gate, url, "--json")
    command.signal(signum)
    ended = command.ended(10)
    command.assert_nothing_left()
    answer = json.loads(ended.out)
    assert ended.code == code
    assert ended.seconds < 4
    assert answer["outcome"] == "interrupted"
    # whole seconds but for the warm-up; the 59 000 arrivals that never came are nobody's failure
    assert answer["offered"] in (100, 200)
    assert answer["completed"] >= answer["offered"] - 2
    assert sum(answer["errors"].values()) == answer["failed"]
    assert answer["achieved_rps"] == pytest.approx(100, rel=0.05)


def test_the_table_says_that_it_was_interrupted(gate: Gate, url: str, tmp_path: Path) -> None:
    path = tmp_path / "a.hgrm"
    command = running(gate, url, "--hgrm", str(path))
    command.signal(signal.SIGINT)
    ended = command.ended(10)
    assert ended.code == 130
    assert "interrupted: these are the whole seconds until then" in ended.out
    assert path.exists()
