"""How sure a number is. In: the values, or the histograms, of independent Trials. Out: an Interval, or none.

Samples inside one Trial are correlated, so their number says little; Trials are independent, so their spread says all.
An interval of a quantile is the pooled quantile ± Student's t over the Trials' own quantiles, on the logarithmic scale:
so it never reaches below 0, and it is longer upwards, as the doubt about a tail is. docs/statistics.md has the measured
coverage.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import stats as scipy_stats

from harness.histogram import Histogram, samples_needed

CONFIDENCE = 0.95
MOST_RATIO = 10.0  # between the bounds of a quantile: one that is known to an order of magnitude only is not known


class Interval(NamedTuple):
    """A centre and its bounds; bounds of None: the Trials cannot give any."""

    centre: float
    low: float | None
    high: float | None


def t_of(confidence: float, freedom: float) -> float:
    """Student's t that leaves (1 - confidence) ÷ 2 on either side."""
    return float(scipy_stats.t.ppf((1 + confidence) / 2, freedom))


def mean_interval(values: Sequence[float], centre: float | None = None, confidence: float = CONFIDENCE) -> Interval:
    """The mean, or a given pooled centre, ± t·s/√k over k independent Trials (Student, 1908). For throughputs."""
    middle = float(np.mean(values)) if centre is None else centre
    if len(values) < 2:
        return Interval(middle, None, None)
    half = t_of(confidence, len(values) - 1) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    return Interval(middle, max(middle - half, 0.0), middle + half)


def quantile_ms(histogram: Histogram, q: float) -> float | None:
    """The q-quantile in ms, or None when there are too few samples to name it."""
    return histogram.quantile_us(q) / 1000 if histogram.n >= samples_needed(q) else None


def quantile_interval(trials: Sequence[Histogram], q: float, confidence: float = CONFIDENCE) -> Interval | None:
    """The pooled quantile in ms, and its interval by sectioning; None when the pool has too few samples to name it.

    Sectioning (Asmussen & Glynn, Stochastic Simulation, 2007, III.5; Nakayama, ACM TOMACS 24:4, 2014) centres on the
    pooled quantile, which is less biased than the mean of the Trials' own, and takes the spread of these around it, so
    that a common bias of short Trials widens the interval. Above the median, t has one degree of freedom less than
    there are Trials behind the tail (`behind`), not than there are Trials: where most of a p99 comes from one bad
    Trial, the other nine say little about how bad the next bad one will be. Bounds of None: fewer than two Trials, or
    further apart than MOST_RATIO.
    """
    some = [trial for trial in trials if trial.n]
    pool = Histogram.merged(some)
    pooled_ms = quantile_ms(pool, q)
    if pooled_ms is None:
        return None
    if len(some) < 2:
        return Interval(pooled_ms, None, None)
    spread = np.log([max(trial.quantile_us(q), 1) / max(pooled_ms * 1000, 1) for trial in some])
    error = math.sqrt(float(spread @ spread) / (len(some) - 1) / len(some))
    telling = behind(some, q) if q > 0.5 else len(some)
    half = t_of(confidence, max(telling - 1, 1.0)) * error
    if 2 * half > math.log(MOST_RATIO):
        return Interval(pooled_ms, None, None)
    return Interval(pooled_ms, pooled_ms * math.exp(-half), pooled_ms * math.exp(half))


def behind(trials: Sequence[Histogram], q: float) -> float:
    """How many Trials are behind the tail from the pooled q-quantile on: all of them when each gives an equal share.

    (Σe)² ÷ Σe² over the samples e that each has in the tail (Kish, Survey Sampling, 1965, §11.7).
    """
    some = [trial for trial in trials if trial.n]
    if not some:
        return 0.0
    limit_us = Histogram.merged(some).quantile_us(q)
    each = np.array([trial.counts[trial.values_us >= limit_us].sum() for trial in some], dtype=float)
    return float(each.sum() ** 2 / (each @ each))
