"""Which of two is faster, and by how much. In: values block by block. Out: a Ratio, and what may be claimed of it.

Within a block both meet the same schedule minutes apart, so what drifts slowly drops out of their ratio. The logarithms
of independent blocks' ratios go into Student's t (Biometrika 6, 1908; Fisher, The Design of Experiments, 1935). A
family of comparisons shares its risk of a false difference by Holm's step-down (Scand. J. Statist. 6, 1979). "The same"
is a claim too, and needs its own evidence: the whole interval inside a band around 1 (Schuirmann's two one-sided tests,
J. Pharmacokin. Biopharm. 15, 1987). `enough()` says when to stop measuring.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from scipy import stats as scipy_stats

from harness.intervals import CONFIDENCE, t_of

FASTER, SLOWER, SAME, UNKNOWN = "faster", "slower", "same", "unknown"
BAND = 0.02  # of a ratio around 1; a smaller difference decides nothing for anybody who chooses a server
POWER = 0.9
MOST_BLOCKS = 1_000  # of an advice
MOST_RATIO = 1_000.0  # between an interval's centre and its bounds
LEAST_BLOCKS = 6  # before `enough()` says so: of fewer, the spread itself is hardly known


@dataclass(frozen=True)
class Ratio:
    """new ÷ base. mean, error: of its logarithm, in `freedom` degrees of freedom; None: the blocks cannot give it."""

    blocks: int
    mean: float | None = None
    error: float | None = None
    freedom: float = 0.0
    confidence: float = CONFIDENCE  # of low and high

    @property
    def ratio(self) -> float | None:
        return None if self.mean is None else math.exp(self.mean)

    @property
    def low(self) -> float | None:
        return None if self.mean is None or not self._known else math.exp(self.mean - self._half)

    @property
    def high(self) -> float | None:
        return None if self.mean is None or not self._known else math.exp(self.mean + self._half)

    @property
    def _known(self) -> bool:
        """Two blocks and a small risk give bounds that are no numbers any more: they say nothing, so there are none."""
        return self.error is not None and self._half <= math.log(MOST_RATIO)

    @property
    def _half(self) -> float:
        return t_of(self.confidence, self.freedom) * (self.error or 0.0)

    @property
    def spread(self) -> float | None:
        """The standard deviation of one block's log ratio."""
        return None if self.error is None else self.error * math.sqrt(self.blocks)

    @property
    def p(self) -> float | None:
        """Two-sided, of no difference."""
        if self.mean is None or self.error is None:
            return None
        if not self.error:
            return 0.0 if self.mean else 1.0
        return float(2 * scipy_stats.t.sf(abs(self.mean) / self.error, self.freedom))


class Claim(NamedTuple):
    """What may be said of a Ratio among its family. verdict: faster, slower, same or unknown. reason: a sentence.

    ratio: at the confidence at which Holm's step-down tested it, so that its bounds and the verdict never disagree.
    """

    verdict: str
    ratio: Ratio
    reason: str


class Decision(NamedTuple):
    """Whether to measure one more block, and why, or why not."""

    go_on: bool
    reason: str


# -- one comparison --------------------------------------------------------------------------------------------------


def log_ratios(base: Mapping[int, float], new: Mapping[int, float]) -> list[float]:
    """log(new ÷ base) of each block that has both, in order. A value of 0 has no logarithm: its block is left out."""
    both = sorted(set(base) & set(new))
    return [math.log(new[block] / base[block]) for block in both if base[block] > 0 and new[block] > 0]


def ratio_of(logs: Sequence[float], confidence: float = CONFIDENCE) -> Ratio:
    """exp(mean ± t·s/√n) of the log ratios of n blocks."""
    n = len(logs)
    if not n:
        return Ratio(0, confidence=confidence)
    error = float(np.std(logs, ddof=1)) / math.sqrt(n) if n > 1 else None
    return Ratio(n, float(np.mean(logs)), error, n - 1.0, confidence)


def paired(base: Mapping[int, float], new: Mapping[int, float], confidence: float = CONFIDENCE) -> Ratio:
    """The ratio of two that were measured in the same blocks (block → value)."""
    return ratio_of(log_ratios(base, new), confidence)


def unpaired(base: Sequence[float], new: Sequence[float], confidence: float = CONFIDENCE) -> Ratio:
    """The ratio of two that share no blocks, by Welch's t on logarithms (Biometrika 34, 1947)."""
    old, fresh = (np.log([value for value in values if value > 0]) for values in (base, new))
    n = min(len(old), len(fresh))
    if not n:
        return Ratio(0, confidence=confidence)
    mean = float(fresh.mean() - old.mean())
    if n < 2:
        return Ratio(n, mean, confidence=confidence)
    parts = float(old.var(ddof=1)) / len(old), float(fresh.var(ddof=1)) / len(fresh)
    weight = parts[0] ** 2 / (len(old) - 1) + parts[1] ** 2 / (len(fresh) - 1)
    freedom = sum(parts) ** 2 / weight if weight else n - 1.0
    return Ratio(n, mean, math.sqrt(sum(parts)), freedom, confidence)


# -- a family of comparisons -----------------------------------------------------------------------------------------


def holm(p_values: Sequence[float | None], risk: float = 1 - CONFIDENCE) -> list[float]:
    """The risk at which Holm's step-down tests each.

    The smallest p of m at risk ÷ m, the next at risk ÷ (m - 1) and so on, until one fails; the rest at the risk at
    which that one failed. So an interval at this risk excludes 1 exactly where the step-down rejects.
    """
    told = sorted((p, index) for index, p in enumerate(p_values) if p is not None)
    risks = [risk] * len(p_values)
    failed = False
    for rank, (p, index) in enumerate(told):
        if not failed:
            level = risk / (len(told) - rank)
            failed = p > level
        risks[index] = level
    return risks


def claims(
    ratios: Sequence[Ratio],
    *,
    higher_is_better: bool,
    band: float = BAND,
    floors: Sequence[float] | None = None,
    confidence: float = CONFIDENCE,
) -> list[Claim]:
    """One Claim a Ratio; together they are one family.

    floors: for each, how far apart two identical variants were in the same session, as a logarithm: a difference that
    is no larger is none.
    """
    risks = holm([ratio.p for ratio in ratios], 1 - confidence)
    return [
        _claim(replace(ratio, confidence=1 - risk), higher_is_better, band, floor)
        for ratio, risk, floor in zip(ratios, risks, floors or [0.0] * len(ratios), strict=True)
    ]


def _claim(ratio: Ratio, higher_is_better: bool, band: float, floor: float) -> Claim:
    low, high, mean = ratio.low, ratio.high, ratio.mean
    if mean is None:
        return Claim(UNKNOWN, ratio, "no block has both")
    if low is None or high is None:
        few = "one block has" if ratio.blocks < 2 else f"{ratio.blocks} blocks among so many comparisons have"
        return Claim(UNKNOWN, ratio, f"{few} no interval: measure more")
    if 1 / (1 + band) < low and high < 1 + band:
        return Claim(SAME, ratio, f"any difference is below {band:.0%}")
    if low <= 1 <= high:
        return Claim(UNKNOWN, ratio, _advice(ratio, band))
    if abs(mean) <= floor:
        apart = f"{math.expm1(floor):.1%}"
        return Claim(UNKNOWN, ratio, f"two identical variants were {apart} apart in this session: no more than noise")
    better = (mean > 0) == higher_is_better
    return Claim(FASTER if better else SLOWER, ratio, f"by {_percent(mean)} over {ratio.blocks} blocks")


def _percent(mean: float) -> str:
    return f"{abs(math.expm1(mean)):.1%}"


def _advice(ratio: Ratio, band: float) -> str:
    """How many blocks it would take to find the difference that was seen, or else one of the band's size."""
    spread, seen = ratio.spread or 0.0, max(abs(ratio.mean or 0.0), math.log1p(band))
    wanted = blocks_needed(spread, math.expm1(seen), risk=1 - ratio.confidence)
    return (
        f"{ratio.blocks} blocks cannot tell; a difference of {math.expm1(seen):.1%} would take about {_count(wanted)}"
    )


def _count(blocks: int) -> str:
    return f"{blocks}" if blocks < MOST_BLOCKS else f"{MOST_BLOCKS} or more"


# -- how many blocks -------------------------------------------------------------------------------------------------


def power_of(blocks: int, spread: float, difference: float, risk: float = 1 - CONFIDENCE) -> float:
    """The chance that so many blocks find a difference (0.03: 3 %), by the noncentral t (Cohen, 1988, §2)."""
    if blocks < 2:
        return 0.0
    if not spread:
        return 1.0
    centre = math.log1p(difference) / spread * math.sqrt(blocks)
    # far out scipy's noncentral t gives no number, where the answer is 1 to six places
    return float(scipy_stats.nct.sf(t_of(1 - risk, blocks - 1), blocks - 1, centre)) if abs(centre) < 30 else 1.0


def blocks_needed(spread: float, difference: float, power: float = POWER, risk: float = 1 - CONFIDENCE) -> int:
    """The fewest blocks that find a difference with this power; MOST_BLOCKS when more would be needed."""
    size = abs(math.log1p(difference))
    return _fewest(
        _squared(_normal(1 - risk / 2) + _normal(power), spread, size),
        lambda blocks: power_of(blocks, spread, math.expm1(size), risk) >= power,
    )


def blocks_for(spread: float, precision: float, confidence: float = CONFIDENCE) -> int:
    """The fewest blocks whose interval is within ± precision (0.02: 2 %); MOST_BLOCKS when more would be needed."""
    target = math.log1p(precision)
    return _fewest(
        _squared(_normal((1 + confidence) / 2), spread, target),
        lambda blocks: t_of(confidence, blocks - 1) * spread / math.sqrt(blocks) <= target,
    )


def _normal(share: float) -> float:
    return float(scipy_stats.norm.ppf(share))


def _squared(deviations: float, spread: float, size: float) -> float:
    """How many blocks it would take if their spread were known: never more than it takes."""
    return (deviations * spread / size) ** 2 if size else math.inf


def _fewest(least: float, are_enough: Callable[[int], bool]) -> int:
    if least >= MOST_BLOCKS:
        return MOST_BLOCKS
    return next((n for n in range(max(math.floor(least), 2), MOST_BLOCKS) if are_enough(n)), MOST_BLOCKS)


def enough(
    series: Mapping[str, Sequence[float]],
    *,
    precision: float,
    spent_s: float,
    budget_s: float,
    confidence: float = CONFIDENCE,
) -> Decision:
    """Whether every series (name → logarithms, one a block) is known to ± precision, or the time is up.

    It looks at the width of intervals only, never at what they say: of normal values, means and spreads are
    independent, so stopping early favours no answer. What is left is that a spread may look small by chance; hence
    LEAST_BLOCKS, and twice in a row (compare Chow & Robbins, Ann. Math. Statist. 36, 1965). docs/statistics.md has the
    measured error.
    """
    blocks = min(map(len, series.values()), default=0)
    widest = max(series, key=lambda name: _half_width(series[name], confidence), default=None)
    if widest is None or blocks < 2:
        next_s = spent_s / max(blocks, 1)
        late = bool(blocks) and spent_s + next_s > budget_s
        return Decision(not late, "the time budget allows no second block" if late else "one block has no interval")
    target, half = math.log1p(precision), _half_width(series[widest], confidence)
    at = f"{widest} is known to ± {math.expm1(half):.1%} after {blocks} blocks"
    before = max(_half_width(values[:-1], confidence) for values in series.values())
    if blocks >= LEAST_BLOCKS and half <= target and before <= target:
        return Decision(False, f"precision reached: {at}, everything else at least as well")
    needed = max(blocks_for(float(np.std(series[widest], ddof=1)), precision, confidence), LEAST_BLOCKS)
    if spent_s + spent_s / blocks > budget_s:
        return Decision(False, f"time budget reached: {at}; ± {precision:.1%} would take about {_count(needed)} in all")
    return Decision(True, f"{at}; ± {precision:.1%} takes about {_count(max(needed, blocks + 1))}")


def _half_width(logs: Sequence[float], confidence: float) -> float:
    """Of the interval, on the logarithmic scale."""
    n = len(logs)
    return t_of(confidence, n - 1) * float(np.std(logs, ddof=1)) / math.sqrt(n) if n > 1 else math.inf
