"""PROOFS T8: how often a difference that is there is found, on a machine that drifts. Simulated, seeded."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from harness.paired import FASTER, MOST_BLOCKS, SAME, Claim, blocks_needed, claims, paired
from tests.truth.drift import Floats, in_blocks

Told = Callable[[str], None]
BLOCKS, TIMES = 8, 1_000

pytestmark = pytest.mark.slow


def claim_of(one: Floats, floor: float = 0.0) -> Claim:
    base, new = (dict(enumerate(one[:, index].tolist())) for index in range(2))
    return claims([paired(base, new)], higher_is_better=True, floors=[floor])[0]


def found(difference: float, noise: float, blocks: int = BLOCKS) -> float:
    """How often B, faster by this difference, is called faster."""
    rng = np.random.default_rng([6, round(difference * 1000), round(noise * 1000), blocks])
    seen = in_blocks(rng, TIMES, blocks, np.array([0.0, math.log1p(difference)]), noise)
    return sum(claim_of(one).verdict == FASTER for one in seen) / TIMES


@pytest.mark.parametrize(("difference", "least"), [(0.03, 0.90), (0.10, 0.99)])
def test_a_difference_is_found(difference: float, least: float, told: Told) -> None:
    share = found(difference, 0.01)
    told(f"+{difference:.0%}, 3 % drift, 1 % noise, 8 blocks: found {share:.1%} of {TIMES:,}")
    assert share >= least


def test_where_the_noise_is_larger_it_says_how_many_blocks_it_would_take(told: Told) -> None:
    few = found(0.03, 0.02)
    rng = np.random.default_rng(7)
    seen = in_blocks(rng, 400, BLOCKS, np.array([0.0, math.log(1.03)]), 0.02)
    advised = [blocks_needed(claim_of(one).ratio.spread or 0.0, 0.03) for one in seen]
    middle = round(float(np.median(advised)))
    share = found(0.03, 0.02, middle)
    told(f"+3%, 2 % noise: found {few:.1%} with 8 blocks; advised (median) {middle}, with which {share:.1%}")
    assert few == pytest.approx(0.65, abs=0.06)
    assert share == pytest.approx(0.9, abs=0.04)
    assert max(advised) < MOST_BLOCKS
    unknown = next(claim for one in seen if (claim := claim_of(one)).verdict == "unknown")
    assert "blocks cannot tell; a difference of" in unknown.reason


def test_the_noise_floor_costs_little(told: Told) -> None:
    """An identical pair in each session: differences up to what it shows are not believed."""
    rng = np.random.default_rng(8)
    seen = in_blocks(rng, TIMES, BLOCKS, np.array([0.0, math.log(1.03), 0.0]), 0.01)
    twins = [claim_of(one[:, [0, 2]]).ratio.mean or 0.0 for one in seen]
    share = sum(claim_of(one, abs(twin)).verdict == FASTER for one, twin in zip(seen, twins, strict=True)) / len(seen)
    told(f"+3%, 1 % noise, 8 blocks of three, with the noise floor of an identical pair: found {share:.1%}")
    assert share >= 0.85


def test_the_same_is_said_where_it_is_so(told: Told) -> None:
    shares = {}
    for blocks in (8, 16, 32):
        seen = in_blocks(np.random.default_rng(9), 500, blocks, np.zeros(2), 0.01)
        shares[blocks] = sum(claim_of(one).verdict == SAME for one in seen) / len(seen)
    told(f"identical, 1 % noise: called the same {', '.join(f'{s:.0%} with {b} blocks' for b, s in shares.items())}")
    assert shares[16] >= 0.8
    assert shares[32] >= 0.99
