"""PROOFS T3: the schedule in simulated time."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.load.schedule import ARRIVALS, draw, parts, stagger

RATE, DURATION_S, SEEDS = 500.0, 60.0, range(5)


@pytest.mark.parametrize(
    ("rate", "duration_s", "count"),
    [
        (500, 30, 15_000),
        (0.1, 10, 1),
        (2.5, 3, 8),
        (0.7, 10, 7),
        (0.07, 100, 7),
        (1 / 3, 3, 1),
        (1000 / 3, 3, 1000),
    ],
)
def test_constant_arrivals_are_counted_exactly(rate: float, duration_s: float, count: int) -> None:
    times = draw("constant", rate, duration_s, seed=1)
    assert len(times) == count
    assert times[0] == 0
    assert np.allclose(np.diff(times), 1 / rate, rtol=1e-9)
    assert times[-1] < duration_s


@given(pattern=st.sampled_from(sorted(ARRIVALS)), rate=st.floats(0.1, 3000), seed=st.integers(0, 2**48 - 1))
@settings(deadline=None, max_examples=60)
def test_every_pattern_ascends_within_its_duration_and_repeats_by_its_seed(
    pattern: str, rate: float, seed: int
) -> None:
    times = draw(pattern, rate, 5, seed)
    assert (np.diff(times) >= 0).all()
    assert not len(times) or (times[0] >= 0 and times[-1] < 5)
    assert abs(len(times) - rate * 5) <= 6 * (rate * 5) ** 0.5 + 1
    assert np.array_equal(times, draw(pattern, rate, 5, seed))


def test_another_seed_is_another_poisson_schedule() -> None:
    one, other = draw("poisson", 100, 10, 1), draw("poisson", 100, 10, 2)
    assert not set(one.tolist()) & set(other.tolist())


@pytest.mark.parametrize("seed", SEEDS)
def test_poisson_counts_scatter_as_they_must(seed: int) -> None:
    count = len(draw("poisson", RATE, DURATION_S, seed))
    assert stats.poisson(RATE * DURATION_S).sf(count - 1) > 0.0005
    assert stats.poisson(RATE * DURATION_S).cdf(count) > 0.0005


@pytest.mark.parametrize("seed", SEEDS)
def test_poisson_gaps_are_exponential_and_independent(seed: int) -> None:
    times = draw("poisson", RATE, DURATION_S, seed)
    gaps = np.diff(times, prepend=0.0)
    assert stats.kstest(gaps, stats.expon(scale=1 / RATE).cdf).pvalue > 0.001
    bound = 3 / len(gaps) ** 0.5
    centred = gaps - gaps.mean()
    for step in (1, 2, 5):
        correlation = float(centred[step:] @ centred[:-step] / (centred @ centred))
        assert abs(correlation) < bound, f"gaps {step} apart correlate by {correlation:.4f}"
    assert abs(gaps.std() / gaps.mean() - 1) < bound
    assert stats.kstest(times / DURATION_S, "uniform").pvalue > 0.001


@pytest.mark.parametrize("seed", SEEDS)
def test_poisson_counts_are_as_dispersed_as_their_mean(seed: int) -> None:
    counts = np.bincount((draw("poisson", RATE, DURATION_S, seed) / 0.1).astype(int), minlength=600)
    dispersion = counts.var(ddof=1) / counts.mean()
    # the variance of this index is 2/(n-1): Cox & Lewis, The Statistical Analysis of Series of Events, §6.3
    assert abs(dispersion - 1) < 3 * (2 / len(counts)) ** 0.5


def test_counts_of_many_seeds_are_those_of_a_poisson_process() -> None:
    counts = np.array([len(draw("poisson", 20, 5, seed)) for seed in range(400)])
    assert abs(counts.mean() - 100) < 3 * 10 / 20
    assert abs(counts.var(ddof=1) / 100 - 1) < 3 * (2 / 400) ** 0.5


def test_parts_come_by_weight_and_in_no_order() -> None:
    rng = np.random.default_rng(3)
    chosen = parts([1, 3, 6], 20_000, rng)
    assert stats.chisquare(np.bincount(chosen), [2_000, 6_000, 12_000]).pvalue > 0.001
    halves = np.bincount(chosen[:10_000], minlength=3)
    assert stats.chisquare(halves, [1_000, 3_000, 6_000]).pvalue > 0.001, "the parts come one after the other"
    assert np.array_equal(chosen, parts([1, 3, 6], 20_000, np.random.default_rng(3)))


def test_a_single_part_is_always_it() -> None:
    assert parts([5], 4, np.random.default_rng(1)).tolist() == [0, 0, 0, 0]


def test_users_begin_evenly_over_one_wait() -> None:
    assert stagger(4, 0.1) == pytest.approx([0, 0.025, 0.05, 0.075])
    assert stagger(3, 0.0).tolist() == [0, 0, 0]
    assert stagger(1, 5.0).tolist() == [0]


def test_an_unknown_pattern_has_no_schedule() -> None:
    with pytest.raises(KeyError):
        draw("ramp-to-nowhere", 1, 1, 1)
