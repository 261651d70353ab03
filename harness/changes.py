"""Where a series changes its level. In: numbers in order of time. Out: the first index of each new level.

Binary segmentation (Scott & Knott, Biometrics 30, 1974), with a second look for a level that goes and comes back, which
halves alone cannot see (Olshen et al., Biostatistics 5, 2004). The tests are of normal scores: values count by their
ranks only, so a few wild ones move nothing, and the risk is the same whatever the noise's distribution, as long as one
value tells nothing of the next (Pettitt, Appl. Statist. 28, 1979, has plain ranks; Worsley, JASA 74, 1979, the normal
case). Critical values are simulated, with a seed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from scipy import stats as scipy_stats

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

RISK = 0.005  # of any false change in a series without one
LEAST = 3  # values on either side: one or two are an outlier
SIMULATED, AT_ONCE = 10_000, 250
MOST_BUMPS = 500  # values, for the second look: its work grows with their square
SIMULATED_UP_TO = {False: 1_000, True: 100}  # values; without and with bumps


def change_points(values: Sequence[float], risk: float = RISK) -> list[int]:
    """Indices at which a new level begins, ascending. No stretch between two of them shows a further change."""
    series = np.asarray(values, dtype=float)
    found: list[int] = []
    stretches = [(0, len(series))]
    while stretches:
        begin, end = stretches.pop()
        edges = [begin, *(begin + at for at in _edges(series[begin:end], risk)), end]
        if len(edges) > 2:
            found += edges[1:-1]
            stretches += pairwise(edges)
    return sorted(found)


def _edges(series: Floats, risk: float) -> list[int]:
    """The most likely change of one stretch, where it is beyond what chance does; else a bump's two edges."""
    n = len(series)
    if n < 2 * LEAST or np.ptp(series) == 0:
        return []
    scores = normal_scores(series)
    for test in (_splits, _bumps) if n <= MOST_BUMPS else (_splits,):
        edges, shifts = test(scores[np.newaxis])
        if shifts.size and shifts.max() > critical(n, risk, bumps=test is _bumps):
            return _placed(series, edges[:, int(np.argmax(shifts[0]))].tolist())
    return []


def normal_scores(series: Floats) -> Floats:
    """Van der Waerden's: each value's rank, as the quantile of a normal distribution; mean 0, variance 1 without ties.

    Ties share their mean rank, which makes the variance less, and the test milder.
    """
    n = len(series)
    every = scipy_stats.norm.ppf(np.arange(1, n + 1) / (n + 1))
    scores = scipy_stats.norm.ppf(scipy_stats.rankdata(series) / (n + 1)) / every.std()
    centred: Floats = scores - scores.mean()
    return centred


def _splits(scores: Floats) -> tuple[Ints, Floats]:
    """For each split of each row that leaves LEAST on either side: how far apart both are, in standard errors."""
    n = scores.shape[1]
    at = np.arange(LEAST, n - LEAST + 1)
    sums = np.cumsum(scores, axis=1)[:, at - 1]
    shifts: Floats = np.abs(sums) * np.sqrt(n / (at * (n - at)))
    return at[np.newaxis], shifts


def _bumps(scores: Floats) -> tuple[Ints, Floats]:
    """The same for each stretch in the middle, against what is before and after it together."""
    n = scores.shape[1]
    begin, end = np.triu_indices(n + 1, LEAST)
    inside = (begin >= LEAST) & (end <= n - LEAST)
    begin, end = begin[inside], end[inside]
    sums = np.concatenate([np.zeros((len(scores), 1)), np.cumsum(scores, axis=1)], axis=1)
    length = end - begin
    shifts: Floats = np.abs(sums[:, end] - sums[:, begin]) * np.sqrt(n / (length * (n - length)))
    return np.array([begin, end]), shifts


def _placed(series: Floats, edges: list[int]) -> list[int]:
    """Each edge moved by a few places to where the values themselves, which ranks have bent, fit best (medians)."""
    bounds = [0, *edges, len(series)]
    for index in range(1, len(bounds) - 1):
        before, at, after = bounds[index - 1 : index + 2]
        near = range(max(at - LEAST, before + LEAST), min(at + LEAST, after - LEAST) + 1)
        bounds[index] = min(
            near, key=lambda place: _left(series[before:place]) + _left(series[place:after]), default=at
        )
    return bounds[1:-1]


def _left(part: Floats) -> float:
    return float(np.abs(part - np.median(part)).sum())


def critical(n: int, risk: float, *, bumps: bool = False) -> float:
    """What the largest shift of a series of n exceeds with half of this risk (there are two tests) by chance alone.

    The largest of n normal values squared grows as 2 ln n: so it is carried on from the longest that is simulated.
    """
    longest = SIMULATED_UP_TO[bumps]
    known = _simulated(min(n, longest), risk / 2, bumps)
    return known if n <= longest else math.sqrt(known**2 + 2 * math.log(n / longest))


@cache
def _simulated(n: int, risk: float, bumps: bool) -> float:
    """Without a change, ranks are a random permutation: so one table serves all noise."""
    rng = np.random.default_rng(n)
    scores, test = normal_scores(np.arange(float(n))), _bumps if bumps else _splits
    most = []
    for _ in range(SIMULATED // AT_ONCE):
        _, shifts = test(rng.permuted(np.tile(scores, (AT_ONCE, 1)), axis=1))
        most.append(shifts.max(axis=1, initial=0.0))
    return float(np.quantile(np.concatenate(most), 1 - risk))
