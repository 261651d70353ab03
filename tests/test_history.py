"""A history over a list of Runs: points, changes, and the sentences. Error rates: tests/truth."""

from __future__ import annotations

import numpy as np
import pytest

from harness.blocks import Values, values_of
from harness.history import History, changes_of, histories
from tests.made_up import blocks


def run(day: int, ratio: float, machine: float = 1.0) -> tuple[str, Values]:
    """A Run of three blocks: wsgi, and asgi which is so much faster, on a machine of this speed."""
    rng = np.random.default_rng([6, day])
    wsgi = [machine * 2000 * (1 + rng.normal(0, 0.01)) for _ in range(3)]
    asgi = [speed * ratio * (1 + rng.normal(0, 0.01)) for speed in wsgi]
    return f"day {day}", values_of(blocks({"wsgi": wsgi, "asgi": asgi, "asgi/aa": asgi}))


def throughput(found: list[History]) -> History:
    (one,) = (history for history in found if history.metric == "throughput_rps")
    return one


def test_a_change_is_named_with_its_size_whatever_the_machine_did() -> None:
    runs = [run(day, 2.0 if day < 9 else 1.6, 1.0 if day < 6 else 0.7) for day in range(16)]
    found = histories(runs, "wsgi")
    assert {history.variant for history in found} == {"asgi"}
    history = throughput(found)
    assert [point.run for point in history.points] == [f"day {day}" for day in range(16)]
    (change,) = history.changes
    assert change.run == "day 9"
    assert change.better is False
    assert change.ratio.ratio == pytest.approx(0.8, rel=0.02)
    assert history.reason.startswith("changed against wsgi: -")
    assert history.reason.endswith("% from day 9 on")
    (latency,) = (one for one in found if one.metric == "p50_ms")
    assert latency.changes[0].better is False, "what takes longer is worse"


def test_no_change() -> None:
    history = throughput(histories([run(day, 2.0, 1 + day / 5) for day in range(14)], "wsgi"))
    assert (history.changes, history.reason) == ((), "no change against wsgi in 14 runs")


def test_few_runs_say_so() -> None:
    assert throughput(histories([run(day, 2.0) for day in range(4)], "wsgi")).reason.startswith("4 runs are too few")
    assert histories([run(0, 2.0)], "wsgi") == []


def test_a_run_without_the_reference_gives_no_point() -> None:
    alone = ("odd", values_of(blocks({"asgi": [4000] * 3})))
    history = throughput(histories([run(0, 2.0), alone, run(2, 2.0)], "wsgi"))
    assert [point.run for point in history.points] == ["day 0", "day 2"]
    assert histories([alone, alone], "wsgi") == []


def test_changes_of_a_series() -> None:
    ratios = [2.0, 2.01, 1.99, 2.02, 2.0, 1.98, 2.2, 2.21, 2.19, 2.22, 2.2, 2.18]
    (found,) = changes_of(ratios).items()
    assert found[0] == 6
    assert found[1].ratio == pytest.approx(1.1, rel=0.01)
    assert changes_of([]) == {}
