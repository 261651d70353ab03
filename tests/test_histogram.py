"""PROOFS T2: histograms keep their promise."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from harness.histogram import BUCKETS, LIMIT_US, Histogram, bucket_of, highest_in, samples_needed

VALUES = st.lists(st.integers(0, LIMIT_US - 1) | st.integers(0, 5_000), min_size=1, max_size=200)
SHARES = st.floats(0.0, 1.0)
few = settings(deadline=None, max_examples=80)


def test_a_pause_of_100_s_shows_as_it_was_felt() -> None:
    # one call each 10 ms; during the pause 9 999 more would have come, each waiting 10 ms less than the one before
    pause = range(100_000_000, 0, -10_000)
    histogram = Histogram.of([1_000] * 10_000 + list(pause))
    assert histogram.n == 20_000
    for q, truth_us in ((0.5, 1_000), (0.75, 50e6), (0.9, 80e6), (0.99, 98e6)):
        assert histogram.quantile_us(q) == pytest.approx(truth_us, rel=0.001)
    assert histogram.max_us == pytest.approx(100e6, rel=0.001)


@given(values=VALUES, cuts=st.lists(st.integers(0, 200), max_size=5))
@few
def test_the_merge_of_any_split_is_the_whole(values: list[int], cuts: list[int]) -> None:
    edges = [0, *sorted(min(cut, len(values)) for cut in cuts), len(values)]
    parts = [Histogram.of(values[low:high]) for low, high in itertools.pairwise(edges)]
    merged, whole = Histogram.merged(parts), Histogram.of(values)
    assert merged.buckets.tolist() == whole.buckets.tolist()
    assert merged.counts.tolist() == whole.counts.tolist()
    assert merged.n == len(values)


@given(values=VALUES, q=SHARES, other=SHARES)
@few
def test_quantiles_lie_between_the_extremes_and_rise(values: list[int], q: float, other: float) -> None:
    histogram = Histogram.of(values)
    low, high = sorted((q, other))
    assert histogram.quantile_us(low) <= histogram.quantile_us(high)
    assert min(values) <= histogram.quantile_us(q) <= histogram.max_us
    assert max(values) <= histogram.max_us <= max(values) * (1 + 1 / 1024)
    assert histogram.quantile_us(1.0) == histogram.max_us
    assert histogram.quantile_us(0.0) == int(histogram.values_us[0])


@given(values=VALUES, q=st.sampled_from([0.5, 0.75, 0.9, 0.99, 0.999]))
@few
def test_quantiles_are_the_nearest_rank_within_a_thousandth(values: list[int], q: float) -> None:
    exact = sorted(values)[max(math.ceil(round(q * len(values), 6)), 1) - 1]
    assert exact <= Histogram.of(values).quantile_us(q) <= exact * 1.001


@pytest.mark.parametrize(
    ("n", "q", "rank"),
    [(100, 0.55, 55), (100, 0.07, 7), (100, 0.99, 99), (101, 0.99, 100), (2, 0.5, 1), (3, 0.5, 2), (1, 0.999, 1)],
)
def test_the_rank_is_rounded_up_but_not_by_the_noise_of_a_product(n: int, q: float, rank: int) -> None:
    assert Histogram.of(range(1, n + 1)).quantile_us(q) == rank


def test_every_value_falls_into_the_bucket_that_holds_it() -> None:
    edges = np.unique([2**power + step for power in range(37) for step in (-1, 0, 1)])
    values = edges[edges < LIMIT_US].astype(np.int64)
    read = highest_in(bucket_of(values))
    assert (read >= values).all()
    assert (read - values <= values / 1024).all()
    assert read[values < 2048].tolist() == values[values < 2048].tolist(), "below 2 ms each µs has its own"


def test_buckets_tile_the_range_without_a_gap() -> None:
    highest = highest_in(np.arange(BUCKETS))
    assert (np.diff(highest) > 0).all()
    assert highest[-1] == LIMIT_US - 1
    assert bucket_of(highest).tolist() == list(range(BUCKETS))
    assert bucket_of(highest[:-1] + 1).tolist() == list(range(1, BUCKETS))


def test_values_out_of_range_are_counted() -> None:
    histogram = Histogram.of([-5, 0, LIMIT_US, 2**62])
    assert histogram.n == 4
    assert histogram.buckets.tolist() == [0, BUCKETS - 1]
    assert histogram.counts.tolist() == [2, 2]


def test_an_empty_one_has_no_quantile() -> None:
    for empty in (Histogram.of([]), Histogram.merged([]), Histogram.merged([Histogram.of([])])):
        assert empty.n == 0
        assert math.isnan(empty.mean_us)
        assert empty.share_above(1) == 0.0
        with pytest.raises(ValueError, match="no samples"):
            empty.quantile_us(0.5)


def test_mean_and_share_above() -> None:
    histogram = Histogram.of([100, 100, 400, 1_000])
    assert histogram.mean_us == 400
    assert histogram.share_above(400) == 0.25
    assert histogram.share_above(399) == 0.5


@pytest.mark.parametrize(("q", "needed"), [(0.99, 662), (0.999, 6_636)])
def test_how_many_samples_a_percentile_needs(q: float, needed: int) -> None:
    assert samples_needed(q) == needed


@pytest.mark.parametrize("q", [0.5, 0.9, 0.99])
def test_one_sample_less_would_not_do(q: float) -> None:
    n = samples_needed(q)
    at_most_one_above = [q**k + k * (1 - q) * q ** (k - 1) for k in (n - 1, n)]
    assert at_most_one_above[0] > 0.01 >= at_most_one_above[1]
