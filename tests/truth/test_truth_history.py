"""PROOFS T15: changes in the history of paired ratios: hardly a false one, hardly a missed one. Simulated, seeded."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from scipy.signal import lfilter

from harness.changes import change_points
from harness.history import changes_of
from tests.truth.drift import DRIFT, levels

Told = Callable[[str], None]
RUNS, NOISE = 60, 0.02

pytestmark = pytest.mark.slow


def test_noise_alone_makes_at_most_one_false_change_in_100_series(told: Told) -> None:
    rng = np.random.default_rng(1)
    first = sum(len(change_points(rng.normal(0, NOISE, RUNS).tolist())) for _ in range(100))
    rate = sum(len(change_points(rng.normal(0, NOISE, RUNS).tolist())) for _ in range(2_000)) / 20
    wild = sum(len(change_points(rng.standard_t(2, RUNS).tolist())) for _ in range(1_000)) / 10
    told(
        f"history of {RUNS} runs, noise only: {first} false changes in 100 series, {rate:.2f} a hundred over 2,000; "
        f"with wild values (t, 2 degrees of freedom) {wild:.1f} a hundred"
    )
    assert first <= 1
    assert rate <= 1
    assert wild <= 1.5


@pytest.mark.parametrize("at", [15, 30, 45])
def test_a_step_of_5_percent_is_found(at: int, told: Told) -> None:
    rng, near, seen, bounds = np.random.default_rng([2, at]), 0, 0, 0
    for _ in range(400):
        logs = rng.normal(0, NOISE, RUNS)
        logs[at:] += math.log(1.05)
        found = changes_of(np.exp(logs).tolist())
        seen += bool(found)
        close = [ratio for place, ratio in found.items() if abs(place - at) <= 3]
        near += bool(close)
        bounds += any((ratio.low or 0) <= 1.05 <= (ratio.high or 0) for ratio in close)
    told(
        f"+5% at run {at} of {RUNS}, 2 % noise: found {seen / 400:.1%}, within 3 runs {near / 400:.1%}, "
        f"its size inside the interval {bounds / 400:.1%}"
    )
    assert seen >= 0.95
    assert near >= 0.95
    assert bounds >= 0.85


def test_how_soon_a_step_is_found(told: Told) -> None:
    rng, shares = np.random.default_rng(3), {}
    for after in (3, 4, 6, 8, 10):
        hits = 0
        for _ in range(200):
            logs = rng.normal(0, NOISE, 50 + after)
            logs[50:] += math.log(1.05)
            hits += bool(change_points(logs.tolist()))
        shares[after] = hits / 200
    told(
        f"+5% at the end of 50 runs, 2 % noise: found {', '.join(f'{s:.0%} {n} runs later' for n, s in shares.items())}"
    )
    assert shares[8] >= 0.9


def test_a_step_that_is_taken_back_is_found_twice(told: Told) -> None:
    rng, right = np.random.default_rng(4), 0
    for _ in range(200):
        logs = rng.normal(0, NOISE, RUNS)
        logs[20:40] += math.log(1.05)
        found = change_points(logs.tolist())
        right += len(found) == 2 and abs(found[0] - 20) <= 3 and abs(found[1] - 40) <= 3
    told(f"+5% at run 20, taken back at run 40: both found {right / 200:.1%}")
    assert right >= 0.85


def test_raw_series_would_change_with_the_machine(told: Told) -> None:
    """Why ratios: throughputs of a machine that drifts have changes where the server has none."""
    rng = np.random.default_rng(5)
    machine = levels(rng, 200, RUNS)
    raw = sum(bool(change_points((one + rng.normal(0, 0.01, RUNS)).tolist())) for one in machine) / 200
    noise = 0.01 * math.sqrt(2)
    ratios = sum(bool(change_points(rng.normal(0, noise, RUNS).tolist())) for _ in range(200)) / 200
    told(f"no change, {DRIFT:.0%} drift: a change is seen in {raw:.0%} of raw series, in {ratios:.1%} of ratios")
    assert raw >= 0.5
    assert ratios <= 0.02


def test_it_assumes_that_runs_do_not_remember_each_other(told: Told) -> None:
    """What it does not know: noise that goes on from run to run looks like a change."""
    rng, rates = np.random.default_rng(6), {}
    for phi in (0.0, 0.2, 0.4):
        noise = lfilter([1], [1, -phi], rng.normal(0, NOISE, (500, RUNS + 20)), axis=1)[:, 20:]
        rates[phi] = sum(len(change_points(one.tolist())) for one in noise) / 5
    told(
        f"noise that goes on from run to run: {', '.join(f'{r:.1f} false a hundred at {p}' for p, r in rates.items())}"
    )
    assert rates[0.0] <= 1.5
    assert rates[0.4] >= 5
