"""Locust's own statistics are the same whether it is told each call as an event or all of them in bulk."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from harness.load.recorder import TIMEOUT

ROOT = Path(__file__).resolve().parents[2]
FINEST = 1 / 1024  # of a histogram's value: what it reads back may be that much above what was counted


def step_ms(value_ms: float) -> float:
    """How far apart two times are that Locust tells apart (`bucket_response_time`)."""
    return 1 if value_ms < 100 else 10 if value_ms < 1000 else 100 if value_ms < 10_000 else 1000


def both(calls: list[tuple[str, float, float, str]]) -> tuple[dict[str, Any], dict[str, Any]]:
    script = Path(__file__).with_name("feed_script.py")
    done = subprocess.run(
        [sys.executable, str(script)],
        input=json.dumps(calls),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={"PYTHONPATH": str(ROOT), "PATH": ""},
    )
    assert done.returncode == 0, done.stderr
    events, bulk = json.loads(done.stdout)
    return events, bulk


def drawn(seed: int) -> list[tuple[str, float, float, str]]:
    rng = np.random.default_rng(seed)
    n = 3000
    names = rng.choice(["ping", "sleep", "sse"], n, p=[0.6, 0.3, 0.1])
    kinds = rng.choice(["", TIMEOUT, "reset", "status 500"], n, p=[0.9, 0.04, 0.03, 0.03])
    service = np.where(names == "ping", rng.exponential(0.002, n), rng.lognormal(-3, 1.5, n))
    at = np.sort(rng.uniform(0, 12, n))
    return [
        (str(name), float(when), float(took), str(kind))
        for name, when, took, kind in zip(names, at, service, kinds, strict=True)
    ]


@pytest.mark.parametrize("seed", [1, 2])
def test_each_call_as_an_event_or_all_in_bulk_is_the_same(seed: int) -> None:
    events, bulk = both(drawn(seed))
    assert events["entries"].keys() == bulk["entries"].keys() == {"ping", "sleep", "sse", "Aggregated"}
    for name, truth in events["entries"].items():
        found = bulk["entries"][name]
        for count in ("requests", "failures", "without_time", "in_seconds", "failed_in_seconds"):
            assert found[count] == truth[count], (name, count)
        for exact in ("min", "max", "average"):
            assert found[exact] == pytest.approx(truth[exact], rel=FINEST, abs=0.001), (name, exact)
        for ours, locusts in zip(found["percentiles"], truth["percentiles"], strict=True):
            assert abs(ours - locusts) <= step_ms(max(ours, locusts)), (name, found, truth)
        assert abs(found["median"] - truth["median"]) <= step_ms(truth["median"])


def test_errors_are_counted_by_kind() -> None:
    events, bulk = both(drawn(3))

    def by_kind(told: dict[str, Any]) -> dict[str, int]:
        kinds: dict[str, int] = {}
        for _, _, kind, occurrences in told["errors"]:
            kinds[kind] = kinds.get(kind, 0) + occurrences
        return kinds

    assert by_kind(bulk) == by_kind(events)
    assert set(by_kind(bulk)) == {TIMEOUT, "reset", "status 500"}


def test_failures_alone_leave_no_time() -> None:
    events, bulk = both([("ping", 0.1, 0.5, "reset"), ("ping", 0.2, 0.5, "refused")])
    assert bulk["entries"]["ping"] == events["entries"]["ping"]
    assert bulk["entries"]["ping"]["min"] is None
