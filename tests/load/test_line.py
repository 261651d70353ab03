"""Whoever waits for a connection is neither lost nor overtaken, and takes few bytes."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import tracemalloc
from collections import deque
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.load.line import BLOCK, Line

SCRIPT, ROOT = Path(__file__).with_name("overload_script.py"), Path(__file__).resolve().parents[2]

steps = st.one_of(
    st.tuples(st.just("join"), st.integers(1, 3 * BLOCK)),
    st.tuples(st.just("leave"), st.integers(1, 2 * BLOCK)),
    st.tuples(st.just("overdue"), st.floats(0, 1)),
)


@given(st.lists(steps, max_size=12))
@settings(deadline=None, max_examples=40)
def test_first_come_first_served_and_nobody_is_lost(some: list[tuple[str, Any]]) -> None:
    line, model, moment = Line(), deque[tuple[int, float, float]](), 0.0
    for what, number in some:
        match what:
            case "join":
                for _ in range(number):
                    moment += 0.001
                    entry = (int(moment * 1e3) % 7, moment - 0.0005, moment)
                    line.join(*entry)
                    model.append(entry)
            case "leave":
                for _ in range(min(number, len(model))):
                    assert line.leave() == model.popleft()
            case _:
                limit = number * moment
                gone = [tuple(row) for block in line.overdue(limit) for row in block.tolist()]
                assert gone == [model.popleft() for _ in range(sum(taken < limit for *_, taken in model))]
        assert bool(line) == bool(model)
    assert [tuple(row) for block in line.overdue() for row in block.tolist()] == list(model)
    assert not line


def test_who_waits_takes_few_bytes() -> None:
    count = 200_000  # 20 000/s for a time-out of 10 s
    gc.collect()
    tracemalloc.start()
    try:
        line = Line()
        for number in range(count):
            line.join(number % 3, number * 5e-5, number * 5e-5 + 1e-6)
        each_b = tracemalloc.get_traced_memory()[0] / count
        while line.leave()[1] < (count - 2) * 5e-5:
            pass
        left_b = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert each_b <= 28
    assert left_b <= 100_000, "what has left is still held"


@pytest.fixture(scope="module")
def overload() -> dict[str, Any]:
    argv = [sys.executable, str(SCRIPT)]
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False, env=env, cwd=ROOT)
    assert done.returncode == 0, done.stderr[-3000:]
    told: dict[str, Any] = json.loads(done.stdout)
    print({name: told[name] for name in ("grown_mb", "longest", "counts", "errors", "p50_us", "n")})
    return told


@pytest.mark.slow
def test_an_overload_of_a_minute_holds_a_time_out_of_it_and_counts_add_up(overload: dict[str, Any]) -> None:
    """20 000/s for 60 simulated seconds, 5 000/s of them answered."""
    rate, seconds, timeout_s = 20_000, 60, 5
    counts = overload["counts"]
    assert counts["offered"] == rate * seconds
    assert counts["offered"] == sum(counts[name] for name in ("completed", "failed", "timed_out", "unfinished"))
    assert counts["completed"] == pytest.approx(5_000 * seconds, rel=0.02)
    assert counts["timed_out"] == overload["errors"]["no free connection"] > 0.5 * rate * seconds
    assert counts["failed"] == 0
    assert overload["longest"] <= rate * timeout_s + 2 * BLOCK, "somebody is held for longer than the time-out"
    assert overload["grown_mb"] <= 16, "those of a minute, as tuples, would be 130 MB"


@pytest.mark.slow
def test_of_an_overload_lateness_is_none_blocked_is_the_time_out_and_service_is_what_was_served(
    overload: dict[str, Any],
) -> None:
    p50, n = overload["p50_us"], overload["n"]
    counts = overload["counts"]
    assert p50["lateness"] <= 5_000, "the simulated hub wakes every 5 ms"
    assert p50["blocked"] == pytest.approx(5e6, rel=0.02)
    assert p50["response"] == pytest.approx(5e6, rel=0.02)
    assert 0 < p50["service"] <= 10_000
    assert n["response"] == n["lateness"] == n["blocked"] == counts["offered"]
    assert n["service"] == counts["completed"] + overload["under_way"], "nobody served those who were never sent"
