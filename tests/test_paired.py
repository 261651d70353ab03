"""Ratios, families and stopping: exact numbers and every verdict. Error rates and power: tests/truth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats as scipy_stats

from harness.paired import (
    FASTER,
    LEAST_BLOCKS,
    MOST_BLOCKS,
    SAME,
    SLOWER,
    UNKNOWN,
    Ratio,
    blocks_for,
    blocks_needed,
    claims,
    enough,
    holm,
    log_ratios,
    paired,
    power_of,
    ratio_of,
    unpaired,
)


def blocks(*values: float) -> dict[int, float]:
    return dict(enumerate(values))


def around(mean: float, spread: float = 0.001, n: int = 8) -> Ratio:
    """A ratio whose logarithms are evenly placed around a mean."""
    return ratio_of((math.log(mean) + spread * np.linspace(-1, 1, n)).tolist())


# -- one comparison --------------------------------------------------------------------------------------------------


def test_a_paired_ratio_is_students_t_on_logarithms() -> None:
    base, new = [100.0, 200.0, 400.0, 50.0], [110.0, 225.0, 436.0, 56.0]
    found = paired(blocks(*base), blocks(*new))
    theirs = scipy_stats.ttest_rel(np.log(new), np.log(base))
    bounds = theirs.confidence_interval(0.95)
    assert found.ratio == pytest.approx(scipy_stats.gmean(np.array(new) / np.array(base)))
    assert (found.low, found.high) == pytest.approx((math.exp(bounds.low), math.exp(bounds.high)))
    assert found.p == pytest.approx(theirs.pvalue)
    assert found.blocks == 4
    assert found.spread == pytest.approx(np.std(np.log(np.array(new) / np.array(base)), ddof=1))


def test_only_blocks_that_have_both_count() -> None:
    base, new = {0: 10.0, 1: 20.0, 2: 0.0, 5: 40.0}, {1: 22.0, 2: 5.0, 3: 7.0, 5: 44.0}
    assert log_ratios(base, new) == pytest.approx([math.log(1.1)] * 2)


def test_few_blocks_give_no_interval() -> None:
    nothing, one = ratio_of([]), ratio_of([0.1])
    assert (nothing.ratio, nothing.low, nothing.high, nothing.p, nothing.spread) == (None,) * 5
    assert one.ratio == pytest.approx(math.exp(0.1))
    assert (one.low, one.high, one.p, one.spread) == (None,) * 4


def test_blocks_that_agree_are_certain() -> None:
    assert ratio_of([0.0, 0.0]).p == 1
    assert ratio_of([0.1, 0.1]).p == 0
    assert ratio_of([0.1, 0.1]).low == pytest.approx(math.exp(0.1))


def test_an_unpaired_ratio_is_welchs() -> None:
    base, new = [100.0, 102.0, 97.0], [110.0, 120.0, 105.0, 111.0, 118.0]
    found = unpaired(base, new)
    theirs = scipy_stats.ttest_ind(np.log(new), np.log(base), equal_var=False)
    bounds = theirs.confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((math.exp(bounds.low), math.exp(bounds.high)))
    assert found.p == pytest.approx(theirs.pvalue)
    assert found.blocks == 3
    assert unpaired([], new).ratio is None
    assert unpaired([100.0], new).low is None
    assert unpaired([5.0, 5.0], [10.0, 10.0]).low == pytest.approx(2)
    assert unpaired([0.0, 100.0, 102.0], new).blocks == 2


# -- a family --------------------------------------------------------------------------------------------------------


def test_holms_risks_are_those_of_the_step_down() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.05 / 3, 0.025, 0.025, 0.05 / 4])
    assert holm([0.2, None, 0.001]) == pytest.approx([0.05, 0.05, 0.025])
    assert holm([]) == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_the_published_procedure_rejects(p_values: list[float]) -> None:
    order = np.argsort(p_values, kind="stable")
    adjusted = np.minimum(np.maximum.accumulate((len(p_values) - np.arange(len(p_values))) * np.sort(p_values)), 1)
    rejected = {int(index) for index, p in zip(order, adjusted, strict=True) if p <= 0.05}
    found = {index for index, (p, risk) in enumerate(zip(p_values, holm(p_values), strict=True)) if p <= risk}
    assert {round(p_values[index], 12) for index in found} == {round(p_values[index], 12) for index in rejected}


@pytest.mark.parametrize(
    ("ratio", "throughput", "latency"),
    [
        (around(1.1), FASTER, SLOWER),
        (around(0.9), SLOWER, FASTER),
        (around(1.0), SAME, SAME),
        (around(1.01), SAME, SAME),  # real, and of no use to anybody
        (around(1.0, 0.1), UNKNOWN, UNKNOWN),
        (around(1.02, 0.005), FASTER, SLOWER),
        (ratio_of([0.3]), UNKNOWN, UNKNOWN),
        (ratio_of([]), UNKNOWN, UNKNOWN),
    ],
)
def test_a_claim(ratio: Ratio, throughput: str, latency: str) -> None:
    (higher,) = claims([ratio], higher_is_better=True)
    (lower,) = claims([ratio], higher_is_better=False)
    assert (higher.verdict, lower.verdict) == (throughput, latency)


def test_a_claim_says_why() -> None:
    reasons = [
        claims([ratio], higher_is_better=True)[0].reason
        for ratio in (around(1.1), around(1.0), around(1.0, 0.1), ratio_of([0.3]), ratio_of([]))
    ]
    assert reasons[0] == "by 10.0% over 8 blocks"
    assert reasons[1] == "any difference is below 2%"
    assert reasons[2].startswith("8 blocks cannot tell; a difference of 2.0% would take about ")
    assert reasons[3:] == ["one block has no interval: measure more", "no block has both"]


def test_a_difference_within_the_noise_floor_is_none() -> None:
    ratio = around(1.04)
    (claim,) = claims([ratio], higher_is_better=True, floors=[0.05])
    assert claim.verdict == UNKNOWN
    assert "5.1% apart" in claim.reason
    assert claims([ratio], higher_is_better=True, floors=[0.03])[0].verdict == FASTER


def test_bounds_and_verdicts_never_disagree() -> None:
    rng = np.random.default_rng(3)
    family = [ratio_of((mean + rng.normal(0, 0.02, 8)).tolist()) for mean in (0, 0, 0.03, 0.04, 0.05, 0.1, -0.2)]
    for claim in claims(family, higher_is_better=True, band=0):
        assert claim.ratio.low is not None
        assert claim.ratio.high is not None
        outside = not claim.ratio.low <= 1 <= claim.ratio.high
        assert outside == (claim.verdict in (FASTER, SLOWER))


def test_a_larger_family_asks_for_more() -> None:
    doubtful = around(1.03, 0.05)
    assert doubtful.p is not None
    assert 0.01 < doubtful.p < 0.05
    assert claims([doubtful], higher_is_better=True)[0].verdict != UNKNOWN
    assert claims([doubtful] * 10, higher_is_better=True)[0].verdict == UNKNOWN


# -- how many blocks -------------------------------------------------------------------------------------------------


def test_power_is_that_of_simulated_experiments() -> None:
    rng = np.random.default_rng(5)
    logs = math.log(1.03) + rng.normal(0, 0.03, (20_000, 8))
    found = scipy_stats.ttest_1samp(logs, 0, axis=1)
    share = float(np.mean((found.pvalue <= 0.05) & (found.statistic > 0)))
    assert power_of(8, 0.03, 0.03) == pytest.approx(share, abs=0.01)


def test_power_at_its_ends() -> None:
    assert power_of(1, 0.01, 0.1) == 0
    assert power_of(5, 0.0, 0.1) == 1
    assert power_of(500, 0.001, 0.5) == 1
    assert 0.02 < power_of(8, 1.0, 0.0) < 0.03


def test_the_blocks_needed_are_the_fewest() -> None:
    needed = blocks_needed(0.03, 0.03)
    assert power_of(needed, 0.03, 0.03) >= 0.9 > power_of(needed - 1, 0.03, 0.03)
    assert blocks_needed(0.03, -0.03) == needed
    assert blocks_needed(0.0, 0.03) == 2
    assert blocks_needed(1.0, 0.001) == MOST_BLOCKS
    wide = blocks_for(0.02, 0.01)
    half = [float(scipy_stats.t.ppf(0.975, n - 1)) * 0.02 / math.sqrt(n) for n in (wide, wide - 1)]
    assert half[0] <= math.log1p(0.01) < half[1]
    assert blocks_for(5.0, 0.001) == MOST_BLOCKS


# -- stopping --------------------------------------------------------------------------------------------------------


def noise(n: int, spread: float) -> list[float]:
    return [spread * (-1) ** index for index in range(n)]


def asked(series: dict[str, Sequence[float]], spent_s: float = 10, budget_s: float = 1e6) -> tuple[bool, str]:
    return enough(series, precision=0.02, spent_s=spent_s, budget_s=budget_s)


def test_it_goes_on_until_all_is_precise_twice() -> None:
    assert asked({})[0]
    assert asked({"a": noise(1, 0)})[0]
    assert asked({"a": noise(LEAST_BLOCKS - 1, 0.001)})[0], "too few blocks to know their spread"
    go_on, reason = asked({"a": noise(LEAST_BLOCKS, 0.001), "b": noise(LEAST_BLOCKS, 0.002)})
    assert not go_on
    assert reason.startswith("precision reached: b is known to ± 0.2% after 6 blocks")
    assert asked({"a": noise(9, 0.001), "b": noise(9, 0.1)})[0]
    settling = [0.05, *[0.0] * 7]
    assert asked({"a": settling[:7]}) == (True, "a is known to ± 1.8% after 7 blocks; ± 2.0% takes about 8")
    assert not asked({"a": settling})[0]


def test_it_says_what_it_would_take() -> None:
    go_on, reason = asked({"a": noise(8, 0.05)})
    assert go_on
    needed = blocks_for(float(np.std(noise(8, 0.05), ddof=1)), 0.02)
    assert reason.endswith(f"± 2.0% takes about {needed}")


@pytest.mark.parametrize(
    ("series", "reason"),
    [
        ({"a": noise(8, 0.05)}, "time budget reached: a is known to ± "),
        ({"a": noise(1, 0)}, "the time budget allows no second block"),
    ],
)
def test_it_stops_when_the_next_block_would_be_too_late(series: dict[str, Sequence[float]], reason: str) -> None:
    each_s = 10 * len(series["a"])
    assert asked(series, each_s, each_s + 10)[0]
    go_on, told = asked(series, each_s, each_s + 9)
    assert not go_on
    assert told.startswith(reason)


@given(st.lists(st.floats(-1, 1), min_size=2, max_size=20), st.floats(1, 1e4))
@settings(max_examples=50)
def test_it_decides_by_spread_alone(logs: list[float], shift: float) -> None:
    moved = [one + round(shift) / 1024 for one in logs]
    assert asked({"a": logs})[0] == asked({"a": moved})[0]
