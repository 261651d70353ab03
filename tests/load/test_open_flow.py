"""An open flow keeps its schedule over blocks, blames a held hub on itself, and settles what it never sent."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.histogram import Histogram
from harness.load import schedule
from harness.proving import serving
from harness.recording import Kind, Row

SCRIPT, ROOT = Path(__file__).with_name("open_script.py"), Path(__file__).resolve().parents[2]
RATE = 5000  # in one second: more than the two blocks that are drawn before it begins


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with serving("canned") as known:
        yield known.port


class Told:
    def __init__(self, port: int, mode: str, rate: int = RATE) -> None:
        argv = [sys.executable, str(SCRIPT), str(port), str(rate), mode]
        env = {"PYTHONPATH": str(ROOT), "PATH": ""}
        done = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env=env)
        assert done.returncode == 0, done.stderr
        self.said: dict[str, Any] = json.loads(done.stdout)
        self.rows = [Row.model_validate(row) for row in self.said["rows"] if row["row"] in ("one", "two")]

    def total(self, what: str, name: str | None = None) -> int:
        return sum(getattr(row, what) for row in self.rows if name in (None, row.row))

    def histogram(self, kind: Kind) -> Histogram:
        return Histogram.merged(filter(None, (row.histogram(kind) for row in self.rows)))


def test_a_held_hub_is_lateness_from_the_intended_moment(port: int) -> None:
    told = Told(port, "stall")
    assert told.total("offered") == told.total("completed") == RATE
    wanted = np.bincount(schedule.parts([3, 1], RATE, np.random.default_rng(2))).tolist()
    assert [told.total("completed", name) for name in ("one", "two")] == wanted, "the parts are not the seed's"
    # 30 % of the arrivals fell into the stall, and waited for its end: evenly from 0 to 300 ms
    for kind in ("lateness", "response"):
        assert told.histogram(kind).quantile_us(0.9) == pytest.approx(200_000, abs=60_000)
        assert 290_000 <= told.histogram(kind).max_us <= 450_000
    assert told.histogram("service").quantile_us(0.9) < 100_000
    assert told.said["started_late"] >= 0.25 * RATE


def test_who_has_sent_everything_sleeps_until_the_last_answer() -> None:
    with serving("delay", 400) as slow:
        told = Told(slow.port, "plain", rate=20)
    assert told.total("completed") == 20
    assert told.said["rings"] <= 2 * 20, "its alarm rings on while it waits"


def test_no_more_than_a_few_blocks_are_held(port: int) -> None:
    held = Told(port, "plain").said["held"]
    assert held[0] == 0, "the schedule is laid out before the origin is known"
    assert 0 < held[1] <= 2 * schedule.BLOCK


def test_what_was_never_sent_is_settled_and_counted(port: int) -> None:
    told = Told(port, "server died")
    assert told.total("offered") == RATE
    assert told.total("completed") + told.total("failed") == RATE
    assert told.total("completed") == pytest.approx(RATE / 2, rel=0.3)
    assert told.said["never"] == [pytest.approx(told.total("failed"), abs=50)]
    assert told.said["errors"] == {"server died": told.total("failed")}


def test_what_was_not_drawn_when_somebody_interrupted_was_never_offered(port: int) -> None:
    told = Told(port, "interrupted")
    assert told.total("offered") < RATE
    assert told.total("completed") + told.total("failed") == told.total("offered")
    assert told.said["errors"] == {"interrupted": told.total("failed")}
