"""Intervals from the spread between Trials: exact numbers, floors, widening and refusing. Coverage: tests/truth."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from harness.histogram import Histogram, samples_needed
from harness.intervals import Interval, behind, mean_interval, quantile_interval, quantile_ms, t_of


def flat(*us: int, n: int = 1000) -> list[Histogram]:
    """Trials of n equal calls each."""
    return [Histogram.of([one] * n) for one in us]


def bounds(found: Interval | None) -> tuple[float, float, float]:
    assert found is not None
    assert found.low is not None
    assert found.high is not None
    return found.centre, found.low, found.high


def test_a_mean_and_students_t() -> None:
    values = [100.0, 104.0, 99.0, 101.0]
    theirs = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert bounds(mean_interval(values)) == pytest.approx((101.0, theirs.low, theirs.high))
    theirs = scipy_stats.ttest_1samp(values, 0).confidence_interval(0.8)
    assert bounds(mean_interval(values, confidence=0.8)) == pytest.approx((101.0, theirs.low, theirs.high))
    assert mean_interval(values, 90.0).centre == 90.0
    assert mean_interval([5.0]) == (5.0, None, None)
    assert mean_interval([0.0, 10.0]).low == 0.0


def test_t_of_is_the_tables() -> None:
    assert t_of(0.95, 4) == pytest.approx(2.776, abs=0.001)
    assert t_of(0.95, 1) == pytest.approx(12.706, abs=0.001)


def test_the_floors() -> None:
    assert (samples_needed(0.99), samples_needed(0.999)) == (662, 6636)
    assert quantile_ms(Histogram.of([2_000] * 662), 0.99) == pytest.approx(2.0, rel=0.001)
    assert quantile_ms(Histogram.of([2_000] * 661), 0.99) is None
    assert quantile_interval(flat(1000, 1000, n=330), 0.99) is None
    assert quantile_interval(flat(1000, 1000, n=331), 0.99) is not None
    assert quantile_interval(flat(1000, 1000, n=3317), 0.999) is None
    assert quantile_interval(flat(1000, 1000, n=3318), 0.999) is not None
    assert quantile_interval([], 0.5) is None


@pytest.mark.parametrize(("q", "telling"), [(0.5, 3), (0.6, 2)])
def test_the_interval_of_a_quantile_by_hand(q: float, telling: int) -> None:
    trials = flat(10_000, 10_200, 10_400)
    assert behind(trials, q) == pytest.approx(2), "the second and the third trial are behind the upper half"
    centre, low, high = bounds(quantile_interval(trials, q))
    error = math.sqrt((math.log(10 / 10.2) ** 2 + math.log(10.4 / 10.2) ** 2) / 2 / 3)
    assert centre == pytest.approx(10.2, rel=0.001)
    assert math.log(high / centre) == pytest.approx(t_of(0.95, telling - 1) * error, rel=0.05)
    assert math.log(centre / low) == pytest.approx(t_of(0.95, telling - 1) * error, rel=0.05)


def test_trials_that_share_the_tail_evenly_have_all_degrees_of_freedom() -> None:
    rng = np.random.default_rng(1)
    trials = [Histogram.of(rng.permutation(np.arange(1000, 11_000))) for _ in range(5)]
    assert behind(trials, 0.99) == pytest.approx(5)
    shifted = [Histogram.of(np.arange(1000, 11_000) + shift) for shift in (-4, -2, 0, 2, 4)]
    assert behind(shifted, 0.99) == pytest.approx(5, abs=0.1)


def test_the_spread_is_around_the_pooled_quantile() -> None:
    # four trials agree exactly and are below the pool's p99, which the fifth alone makes: the spread of their own
    # quantiles around their mean would be less than half of this
    trials = [*flat(10_000, 10_000, 10_000, 10_000, n=2000), Histogram.of([10_000] * 1800 + [20_000] * 200)]
    assert behind(trials, 0.99) == 1
    found = quantile_interval(trials, 0.99)
    assert found is not None
    assert found.centre == pytest.approx(20, rel=0.001)
    assert (found.low, found.high) == (None, None), "one trial of five makes the tail, and the others are far from it"


def test_a_tail_of_one_trial_widens_where_the_trials_nearly_agree() -> None:
    even = bounds(quantile_interval([Histogram.of(np.arange(9_000 + s, 10_000 + s)) for s in (0, 9, 18, 27, 36)], 0.9))
    alone = bounds(quantile_interval(flat(10_000, 10_010, 10_020, 10_030, 10_200), 0.9))
    assert even[2] / even[1] < 1.01
    assert 1.1 < alone[2] / alone[1] < 1.3


def test_one_trial_has_no_bounds_and_an_empty_one_is_none() -> None:
    alone = quantile_interval(flat(10_000), 0.99)
    assert alone is not None
    assert alone.centre == pytest.approx(10, rel=0.001)
    assert (alone.low, alone.high) == (None, None)
    found = quantile_interval([*flat(10_000), Histogram.of([])], 0.99)
    assert found is not None
    assert (found.low, found.high) == (None, None)


def test_trials_that_agree_are_certain() -> None:
    centre, low, high = bounds(quantile_interval(flat(10_000, 10_000, 10_000), 0.99))
    assert centre == low == high


def test_calls_of_no_time_are_no_error() -> None:
    assert bounds(quantile_interval(flat(0, 0, 0), 0.99)) == (0, 0, 0)


def test_behind_of_nothing() -> None:
    assert behind([], 0.99) == 0
    assert behind([Histogram.of([])], 0.99) == 0


@given(
    trials=st.lists(st.lists(st.integers(0, 10**6), min_size=200, max_size=300), min_size=1, max_size=6),
    q=st.sampled_from([0.5, 0.9]),
)
@settings(deadline=None, max_examples=60)
def test_an_interval_holds_its_centre_and_stays_above_nothing(trials: list[list[int]], q: float) -> None:
    some = [Histogram.of(trial) for trial in trials]
    found = quantile_interval(some, q)
    assert found is not None
    assert 1 <= behind(some, q) <= len(some) + 1e-9
    if found.low is not None and found.high is not None:
        assert 0 <= found.low <= found.centre <= found.high <= 10 * found.low + 1e-9
