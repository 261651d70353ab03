"""PROOFS T3: the schedule in simulated time."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from harness.load import schedule
from harness.load.schedule import ARRIVALS, blocks, calls, check, draw, parts, shape_of, share, stagger

RATE, DURATION_S, SEEDS = 500.0, 60.0, range(5)
# the share of rate · duration that each pattern sends, unless told a shape
SHARE = {"constant": 1.0, "poisson": 1.0, "ramp": 0.5, "steps": 0.625, "burst": 1.0}

patterns = st.sampled_from(sorted(ARRIVALS))
seeds = st.integers(0, 2**48 - 1)


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
        (10_000, 600, 6_000_000),
    ],
)
def test_constant_arrivals_are_counted_exactly(rate: float, duration_s: float, count: int) -> None:
    times = draw("constant", rate, duration_s, seed=1)
    assert len(times) == count
    assert times[0] == 0
    assert np.allclose(np.diff(times), 1 / rate, rtol=1e-6)
    assert times[-1] < duration_s


@given(pattern=patterns, rate=st.floats(0.1, 3000), seed=seeds)
@settings(deadline=None, max_examples=100)
def test_every_pattern_ascends_within_its_duration_and_repeats_by_its_seed(
    pattern: str, rate: float, seed: int
) -> None:
    times = draw(pattern, rate, 5, seed)
    assert (np.diff(times) >= 0).all()
    assert not len(times) or (times[0] >= 0 and times[-1] < 5)
    expected = rate * 5 * SHARE[pattern]
    scatter = 6 * expected**0.5 + 1 if pattern == "poisson" else 1
    assert abs(len(times) - expected) <= scatter
    assert np.array_equal(times, draw(pattern, rate, 5, seed))


# -- blocks, and shares of them --------------------------------------------------------------------------------------


@given(pattern=patterns, block=st.sampled_from([1, 7, 100, 1 << 20]), rate=st.floats(1, 800), seed=seeds)
@settings(deadline=None, max_examples=60)
def test_drawn_in_blocks_it_is_bit_for_bit_what_it_is_as_a_whole(
    pattern: str, block: int, rate: float, seed: int
) -> None:
    usual, weights = schedule.BLOCK, [1, 3]
    asked = [list(calls(blocks(pattern, rate, 3, seed), weights, seed))]
    try:
        schedule.BLOCK = block
        asked.append(list(calls(blocks(pattern, rate, 3, seed), weights, seed)))
    finally:
        schedule.BLOCK = usual
    for column in (0, 1):
        one, other = (np.concatenate([[], *(drawn[column] for drawn in some)]) for some in asked)
        assert np.array_equal(one, other)


@given(pattern=patterns, workers=st.integers(1, 9), seed=seeds)
@settings(deadline=None, max_examples=60)
def test_all_workers_together_send_what_one_would(pattern: str, workers: int, seed: int) -> None:
    def drawn(k: int, n: int) -> list[tuple[float, int]]:
        some = calls(blocks(pattern, 700, 5, seed), [2, 1], seed, k, n)
        return [call for times, chosen in some for call in zip(times.tolist(), chosen.tolist(), strict=True)]

    whole = drawn(0, 1)
    shares = [drawn(k, workers) for k in range(workers)]
    assert len(whole) > schedule.BLOCK / 2
    assert sorted(itertools.chain(*shares)) == sorted(whole)
    assert all(mine == whole[k::workers] for k, mine in enumerate(shares)), "not every n-th from the k-th"


@given(length=st.integers(0, 50), cut=st.integers(0, 50), n=st.integers(1, 7), k=st.integers(0, 6))
def test_a_share_of_a_part_is_that_part_of_the_share(length: int, cut: int, n: int, k: int) -> None:
    times, k = np.arange(float(length)), k % n
    before, after = times[:cut], times[cut:]
    joined = np.concatenate([share(before, k, n), share(after, k, n, begin=len(before))])
    assert joined.tolist() == times.tolist()[k::n]


def test_no_block_is_empty_and_none_is_large() -> None:
    for pattern in ARRIVALS:
        sizes = [len(block) for block in blocks(pattern, 20_000, 3, 1)]
        assert min(sizes) >= 1
        assert max(sizes) <= schedule.BLOCK


# -- poisson ---------------------------------------------------------------------------------------------------------


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
    assert anderson_darling_exponential(gaps) < AD_AT_P_001
    bound = 3 / len(gaps) ** 0.5
    centred = gaps - gaps.mean()
    for step in (1, 2, 5):
        correlation = float(centred[step:] @ centred[:-step] / (centred @ centred))
        assert abs(correlation) < bound, f"gaps {step} apart correlate by {correlation:.4f}"
    assert abs(gaps.std() / gaps.mean() - 1) < bound
    assert stats.kstest(times / DURATION_S, "uniform").pvalue > 0.001


# The statistic's 0.999 point where the mean is estimated: of 200 000 simulated samples of 200 gaps, whose 0.99 point
# was 1.967 where Stephens (JASA 69, 1974) gives 1.959.
AD_AT_P_001 = 2.94


def anderson_darling_exponential(gaps: Any) -> float:
    """A² (1 + 0.6/n) of gaps against an exponential of their own mean: sensitive in the tails, where KS is blind."""
    n = len(gaps)
    levels = -np.expm1(-np.sort(gaps) / gaps.mean())
    weights = 2 * np.arange(1, n + 1) - 1
    squared = -n - float(weights @ (np.log(levels) + np.log1p(-levels[::-1]))) / n
    return squared * (1 + 0.6 / n)


@pytest.mark.parametrize("wrong", ["uniform", "gamma", "mixed"])
def test_the_tests_of_poisson_gaps_reject_what_is_not(wrong: str) -> None:
    rng = np.random.default_rng(1)
    gaps = {
        "uniform": rng.uniform(0, 2, 30_000),
        "gamma": rng.gamma(1.1, 1, 30_000),
        "mixed": np.where(rng.random(30_000) < 0.01, 5, 1) * rng.exponential(1, 30_000),
    }[wrong]
    assert anderson_darling_exponential(gaps) > AD_AT_P_001


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


# -- ramp, steps, burst ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("peak", "duration_s"), [(100, 10), (5000, 60), (0.9, 7), (333.3, 12)])
def test_a_ramp_has_sent_half_a_t_squared_by_any_time(peak: float, duration_s: float) -> None:
    times = draw("ramp", peak, duration_s, 1)
    slope = peak / duration_s
    assert len(times) == math.ceil(round(slope * duration_s**2 / 2, 6))
    for t in np.linspace(0.1, 1, 23) * duration_s:
        assert abs(int((times < t).sum()) - slope * t**2 / 2) <= 1
    assert np.allclose(times, np.sqrt(2 * np.arange(len(times)) / slope), rtol=1e-12, atol=1e-12)


@given(through=st.lists(st.floats(0, 1), min_size=2, max_size=6).filter(lambda some: max(some) > 0.01))
@settings(deadline=None, max_examples=60)
def test_a_ramp_through_several_shares_is_the_integral_of_its_rate(through: list[float]) -> None:
    times = draw("ramp", 1000, 6, 1, {"through": tuple(through)})
    at = np.linspace(0, 6, 6001)
    rate = 1000 * np.interp(at, np.linspace(0, 6, len(through)), through)
    sent = np.concatenate([[0], np.cumsum((rate[1:] + rate[:-1]) / 2 * 0.001)])
    assert np.abs(np.searchsorted(times, at) - sent).max() <= 1.2


def test_a_ramp_may_fall() -> None:
    times = draw("ramp", 100, 10, 1, {"through": (1.0, 0.0)})
    assert len(times) == 500
    assert np.searchsorted(times, 5) == pytest.approx(375, abs=1)


def test_steps_hold_each_rate_for_as_long() -> None:
    times = draw("steps", 400, 8, 1)
    assert np.bincount(times.astype(int)).tolist() == [100, 100, 200, 200, 300, 300, 400, 400]
    for second, rate in ((0, 100), (3, 200), (7, 400)):
        gaps = np.diff(times[(times >= second) & (times < second + 1)])
        assert np.allclose(gaps, 1 / rate)


def test_a_step_of_nothing_is_a_pause() -> None:
    times = draw("steps", 10, 3, 1, {"at": (1.0, 0.0, 0.5)})
    assert np.bincount((times + 1e-9).astype(int)).tolist() == [10, 0, 5]


@pytest.mark.parametrize(
    ("rate", "every_s", "expected"),
    [
        (100, 1.0, {0: 100, 1: 100, 2: 100}),
        (100, 2.0, {0: 200, 2: 100}),  # the last burst is cut where the duration ends
        (2.5, 1.0, {0: 3, 1: 2, 2: 3}),
        (10, 0.5, {0: 5, 0.5: 5, 1: 5, 1.5: 5, 2: 5, 2.5: 5}),
    ],
)
def test_bursts_come_at_once_every_so_often(rate: float, every_s: float, expected: dict[float, int]) -> None:
    times = draw("burst", rate, 3, 1, {"every_s": every_s})
    moments, counts = np.unique(times, return_counts=True)
    assert dict(zip(moments.tolist(), counts.tolist(), strict=True)) == expected


@pytest.mark.parametrize(
    ("pattern", "shape", "said"),
    [
        ("sawtooth", {}, "there are constant, poisson, ramp, steps, burst"),
        ("poisson", {"at": (1.0,)}, "takes no at; it takes no shape"),
        ("ramp", {"every_s": 1.0}, "takes no every_s; it takes through"),
        ("ramp", {"through": (1.0,)}, "2 to 100 shares"),
        ("ramp", {"through": (0.0, 0.0)}, "a share above 0"),
        ("steps", {"at": (0.5, 1.5)}, "from 0 to 1"),
        ("steps", {"at": (0.5, -1.0)}, "from 0 to 1"),
        ("steps", {"at": (0.5, math.nan)}, "from 0 to 1"),
        ("steps", {"at": 0.5}, "a list"),
        ("burst", {"every_s": 0.0}, "from 0.001"),
        ("burst", {"every_s": (1.0,)}, "a number"),
        ("burst", {"every_s": math.nan}, "from 0.001"),
    ],
)
def test_what_no_schedule_can_be_drawn_of_is_refused(pattern: str, shape: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        check(pattern, shape)


@pytest.mark.parametrize(
    ("words", "shape"),
    [
        ([], {}),
        (["every_s=0.5"], {"every_s": 0.5}),
        (["at=0,0.5,1"], {"at": (0.0, 0.5, 1.0)}),
        (["at=1,", "through=1,0"], {"at": (1.0,), "through": (1.0, 0.0)}),
    ],
)
def test_a_shape_is_read_from_words(words: list[str], shape: dict[str, Any]) -> None:
    assert shape_of(words) == shape


@pytest.mark.parametrize("words", [[""], ["at"], ["at="], ["at=,"], ["at=1,,2"], ["at=[1]"], ["at=1", "at=1"]])
def test_what_is_no_shape_is_refused(words: list[str]) -> None:
    with pytest.raises(ValueError, match=r"key=0,0\.5,1"):
        shape_of(words)


@pytest.mark.parametrize("pattern", sorted(ARRIVALS))
def test_every_pattern_needs_no_shape(pattern: str) -> None:
    check(pattern, {})


# -- the rest --------------------------------------------------------------------------------------------------------


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
