"""PROOFS T8: how often two identical servers are called different, on a machine that drifts. Simulated, seeded.

The limits are PROOFS': blocks keep what they promise, and the usual A-then-B does not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
from scipy import stats as scipy_stats

from harness.paired import FASTER, SAME, SLOWER, claims, enough, paired, ratio_of
from harness.ranking import ranking
from tests.truth.drift import Floats, in_blocks, one_after_the_other

Told = Callable[[str], None]
BLOCKS, NOISE = 8, 0.01

pytestmark = pytest.mark.slow


def by_block(values: Floats) -> dict[int, float]:
    return dict(enumerate(values.tolist()))


def test_two_identical_servers_in_paired_blocks(told: Told) -> None:
    seen = in_blocks(np.random.default_rng(1), 2_000, BLOCKS, np.zeros(2), NOISE)
    found: Counter[str] = Counter()
    for one in seen:
        ratio = paired(by_block(one[:, 0]), by_block(one[:, 1]))
        (claim,) = claims([ratio], higher_is_better=True, band=0)  # the test itself, without the mercy of the band
        found[claim.verdict] += 1
    false = (found[FASTER] + found[SLOWER]) / len(seen)
    told(f"A/A, 3 % drift, 1 % noise, 8 paired blocks: called different {false:.1%} of {len(seen):,}")
    assert false <= 0.065


@pytest.mark.parametrize("noise", [0.0, 0.01, 0.02])
def test_the_usual_a_then_b_calls_them_different(noise: float, told: Told) -> None:
    seen = one_after_the_other(np.random.default_rng(2), 2_000, BLOCKS, noise)
    p_values = scipy_stats.ttest_ind(seen[:, 0], seen[:, 1], axis=1, equal_var=False).pvalue
    false = float((p_values <= 0.05).mean())
    told(f"A/A, 3 % drift, {noise:.0%} noise, 8 of A and then 8 of B: called different {false:.1%} of {len(seen):,}")
    assert false >= 0.25


def test_a_family_of_identical_servers(told: Told) -> None:
    """Ten variants ranked by all their 45 pairs: Holm keeps the risk of any false difference at that of one."""
    seen, any_false, uncorrected = in_blocks(np.random.default_rng(3), 300, BLOCKS, np.zeros(10), NOISE), 0, 0
    names = [f"v{index}" for index in range(10)]
    for one in seen:
        values = {name: by_block(one[:, index]) for index, name in enumerate(names)}
        places = ranking(values, higher_is_better=True, band=0).places
        any_false += len({place.letters for place in places}) > 1
        logs = np.log(one)
        pairs = [logs[:, i] - logs[:, j] for i in range(10) for j in range(i)]
        uncorrected += any((ratio_of(pair.tolist()).p or 1) <= 0.05 for pair in pairs)
    told(
        f"10 identical servers, 45 pairs: any called different in {any_false / len(seen):.1%} of {len(seen)} "
        f"(without Holm's correction: {uncorrected / len(seen):.1%})"
    )
    assert any_false <= 0.065 * len(seen)
    assert uncorrected >= 0.2 * len(seen)


@pytest.mark.parametrize("noise", [0.005, 0.01, 0.02])
def test_the_same_is_seldom_said_of_what_differs_by_the_band(noise: float, told: Told) -> None:
    seen = in_blocks(np.random.default_rng(4), 2_000, BLOCKS, np.array([0.0, math.log(1.02)]), noise)
    ratios = [paired(by_block(one[:, 0]), by_block(one[:, 1])) for one in seen]
    false = sum(claims([ratio], higher_is_better=True)[0].verdict == SAME for ratio in ratios) / len(seen)
    told(f"2 % apart, {noise:.1%} noise: called the same {false:.1%} of {len(seen):,}")
    assert false <= 0.05


@pytest.mark.parametrize("noise", [0.005, 0.01, 0.02, 0.03])
def test_going_on_until_it_is_precise_makes_hardly_more_false_differences(noise: float, told: Told) -> None:
    """`--repeats auto` at ± 2 %, at most 40 blocks; beside it, what going on until something is found would do."""
    times, most = 500, 40
    seen = in_blocks(np.random.default_rng([5, round(noise * 1000)]), times, most, np.zeros(2), noise)
    false, peeked, used = 0, 0, []
    for one in seen:
        logs = np.log(one[:, 1] / one[:, 0]).tolist()
        blocks = 1
        while enough({"b ÷ a": logs[:blocks]}, precision=0.02, spent_s=blocks, budget_s=most).go_on:
            blocks += 1
        used.append(blocks)
        false += (ratio_of(logs[:blocks]).p or 1) <= 0.05
        peeked += any((ratio_of(logs[:n]).p or 1) <= 0.05 for n in range(3, most + 1))
    told(
        f"A/A until ± 2 %, {noise:.1%} noise: {np.mean(used):.1f} blocks, called different {false / times:.1%} of "
        f"{times} (until a difference shows: {peeked / times:.0%})"
    )
    assert false <= 0.08 * times
    assert peeked >= 0.2 * times
